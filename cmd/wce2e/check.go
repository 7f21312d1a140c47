package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/worldcompute/wce2e/e2e/check"
	"github.com/worldcompute/wce2e/evidence"
)

func newCheckCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check BUNDLE",
		Short: "recompute the verdicts of a bundle, offline",
		Long: `Check reads an evidence bundle and nothing else. It verifies that the bundle is
whole, recomputes every verdict from the trace and the logs, and compares them
with the verdicts stored. A bundle that is not whole is refused. BUNDLE may be
packed, as those of a matrix are.

Exit: 0 pass, 1 fail or refused, 2 inconclusive, 64 not a bundle.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			dir, remove, err := unpacked(a[0])
			if err != nil {
				return err
			}
			defer remove()
			c, err := recheck(dir)
			if err != nil {
				return err
			}
			c.Bundle = a[0]
			c.talk(cmd.ErrOrStderr())
			if asJSON {
				err = c.printJSON(cmd.OutOrStdout())
			} else if !c.Refused {
				err = printVerdicts(cmd.OutOrStdout(), *c.Results)
			}
			if err != nil {
				return err
			}
			return c.exit()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// checked is what `check --json` prints.
type checked struct {
	Bundle  string            `json:"bundle"`
	Sealed  bool              `json:"sealed"` // the run came to its end
	Lines   int               `json:"lines"`  // of the trace that are readable
	Torn    bool              `json:"torn"`   // behind them stands a part of one
	Refused bool              `json:"refused"`
	Results *evidence.Results `json:"results"` // as recomputed; null when refused

	Problems []string `json:"problems"` // why it is refused
	Differs  []string `json:"differs"`  // where the stored verdicts are others
	Leaks    []string `json:"leaks"`    // what should not be published; it changes no verdict
	Notes    []string `json:"notes"`
}

// recheck reads the bundle in dir and judges it anew.
func recheck(dir string) (*checked, error) {
	b, err := openBundle(dir)
	if err != nil {
		return nil, err
	}
	c := &checked{
		Bundle: dir, Sealed: b.Sealed, Lines: b.Lines, Torn: b.Torn, Refused: len(b.Problems) > 0,
		Problems: notNil(b.Problems), Differs: []string{}, Leaks: []string{}, Notes: []string{},
	}
	if c.Refused {
		return c, nil
	}
	results := check.Check(check.Input{Events: b.Events, Logs: b.Logs, Problems: b.Problems, Answers: answers})
	c.Results = &results
	c.unfinished()
	c.compare(b.Results)
	leaks, err := evidence.ScanSecrets(dir)
	c.Leaks = notNil(leaks)
	return c, err
}

// unpacked gives the folder of a bundle that may be packed into one file, and
// removes what was unpacked for it.
func unpacked(path string) (dir string, remove func() error, err error) {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return path, func() error { return nil }, nil // openBundle says what is wrong
	}
	dir, err = os.MkdirTemp("", "wce2e-bundle-")
	if err != nil {
		return "", nil, err
	}
	remove = func() error { return os.RemoveAll(dir) }
	if err := evidence.Unpack(path, dir); err != nil {
		return "", nil, errors.Join(&exitError{code: exitUsage, err: err, hint: bundleHint}, remove())
	}
	return dir, remove, nil
}

const bundleHint = "a bundle is a folder below evidence/phase1/<area>/, named by its time, or one of a matrix's cells/*.zip"

// openBundle opens a bundle. What is none is a usage error.
func openBundle(dir string) (*evidence.Bundle, error) {
	b, err := evidence.Open(dir)
	if errors.Is(err, evidence.ErrNoBundle) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, &exitError{code: exitUsage, err: err, hint: bundleHint}
	}
	return b, err
}

// unfinished keeps a run that did not end from being accepted: nobody vouches
// for what it would have seen next, nor, without sums, for its last line.
func (c *checked) unfinished() {
	if c.Sealed {
		return
	}
	c.note("the run did not end; readable up to line %d", c.Lines)
	if c.Torn {
		c.note("line %d is torn and was left aside", c.Lines+1)
	}
	if c.Results.Verdict() != evidence.Fail {
		c.Results.Overall, c.Results.Label = "partial", evidence.NotAccepted
	}
}

// compare notes where the stored verdicts are not the recomputed ones. Another
// wording of what was observed is no difference: versions word things anew.
func (c *checked) compare(stored *evidence.Results) {
	if stored == nil {
		if c.Sealed {
			c.note("the bundle holds no %s to compare with", evidence.ResultsFile)
		}
		return
	}
	differ := func(what string, stored, now any) {
		if stored != now {
			c.Differs = append(c.Differs, fmt.Sprintf("%s: stored %v, recomputed %v", what, stored, now))
		}
	}
	if c.Sealed { // otherwise unfinished has changed them
		differ("overall", stored.Overall, c.Results.Overall)
		differ("label", stored.Label, c.Results.Label)
	}
	differ("number of claims", len(stored.Assertions), len(c.Results.Assertions))
	reworded := 0
	for i := range min(len(stored.Assertions), len(c.Results.Assertions)) {
		was, is := stored.Assertions[i], c.Results.Assertions[i]
		differ(fmt.Sprintf("claim %d", i+1), was.Name, is.Name)
		differ(string(is.Name), was.Verdict, is.Verdict)
		differ(string(is.Name)+": pass", was.Pass, is.Pass)
		if was.Observed != is.Observed || was.Expected != is.Expected {
			reworded++
		}
	}
	if reworded > 0 {
		c.note("%d of the stored claims are worded otherwise than this version words them", reworded)
	}
}

func (c *checked) note(format string, a ...any) { c.Notes = append(c.Notes, fmt.Sprintf(format, a...)) }

// talk tells a person what stdout does not say.
func (c *checked) talk(w io.Writer) {
	for _, p := range c.Problems {
		fmt.Fprintf(w, "wce2e: %s\n", printable(p))
	}
	if c.Refused {
		fmt.Fprintf(w, "wce2e: %s is refused: it is not what the run left behind\n", c.Bundle)
	}
	for _, n := range c.Notes {
		fmt.Fprintf(w, "wce2e: %s\n", printable(n))
	}
	for _, d := range c.Differs {
		fmt.Fprintf(w, "wce2e: %s differs: %s\n", evidence.ResultsFile, printable(d))
	}
	for _, l := range c.Leaks {
		fmt.Fprintf(w, "wce2e: warning: %s\n", printable(l))
	}
}

func (c *checked) printJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(c); err != nil {
		return fmt.Errorf("print check: %w", err)
	}
	return nil
}

// exit is the exit code of it all. Everything has been said.
func (c *checked) exit() error {
	switch {
	case c.Refused || len(c.Differs) > 0:
		return verdictError(evidence.Fail)
	case !c.Sealed:
		return verdictError(evidence.Worst(c.Results.Verdict(), evidence.Inconclusive))
	}
	return verdictError(c.Results.Verdict())
}
