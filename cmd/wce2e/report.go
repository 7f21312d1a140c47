package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/evidence/report"
)

func newReportCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "report BUNDLE",
		Short: "render a bundle's pages and picture again",
		Long: `Report renders index.md, report.html, screenshots/hold.svg and, where a network
was diagnosed, diagnosis.html from the rest of the bundle, and takes them up into its SHA256SUMS. It judges nothing: the verdicts are the stored ones.
A bundle of which anything else has changed is refused.

Exit: 0 rendered, 1 refused, 64 not a bundle.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if err := rerender(a[0]); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), filepath.Join(a[0], report.HTMLFile))
			return err
		},
	}
}

func rerender(dir string) error {
	b, err := openBundle(dir)
	if err != nil {
		return err
	}
	// The old renderings are about to go: whether they verify does not matter.
	b.Problems = b.ProblemsBeside(append(report.Files, report.DiagnosisFile)...)
	if len(b.Problems) > 0 {
		return &exitError{code: exitFail, err: fmt.Errorf("%s\n%s is refused: it is not what the run left behind", strings.Join(b.Problems, "\n"), dir)}
	}
	files, err := renderings(b)
	if err != nil {
		return err
	}
	return evidence.Rerender(dir, files)
}
