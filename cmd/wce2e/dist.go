package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/worldcompute/wce2e/e2e/release"
)

// newDistCmd is what make dist calls.
func newDistCmd() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:    "dist [--out DIR]",
		Short:  "build the release binaries of Linux and macOS from this checkout",
		Hidden: true,
		Args:   args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := release.Builder{Log: func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), text) }}
			return b.Dist(cmd.Context(), out)
		},
	}
	cmd.Flags().StringVar(&out, "out", release.DistDir, "where to: one file per platform, SHA256SUMS and SOURCE")
	return cmd
}
