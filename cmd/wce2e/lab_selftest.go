package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/worldcompute/wce2e/e2e/lab"
)

func newLabSelfTestCmd() *cobra.Command {
	var asJSON, mutate bool
	cmd := &cobra.Command{
		Use:   "selftest [PROFILE...]",
		Short: "have every profile prove that it does what it says",
		Long: `Selftest builds a lab with a network of each profile, and has each of its rules
and services prove with plain sockets that it does what it says: that a packet
really vanishes, a flow really dies, a mapping really depends on who is asked.
Timers are cut to seconds. A composed profile is one argument, as in
"symmetric + udp-blocked"; without any, all of the catalogue are tried.

With --mutate, every network lacks one rule or service, and its proof must fail:
one that succeeds proves nothing.

Exit: 0 all is proven (or every mutant found out), 1 something is not, 64 an
unknown profile, 70 there can be no lab here.`,
		ValidArgsFunction: completeProfiles,
		RunE: func(cmd *cobra.Command, profiles []string) error {
			for _, p := range profiles {
				if _, err := lab.ProfileNamed(p); err != nil {
					return &exitError{code: exitUsage, err: err, hint: "wce2e lab list names them all"}
				}
			}
			return selfTest(cmd, profiles, mutate, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&mutate, "mutate", false, "leave out each rule and service in turn, and want its proof to fail")
	return cmd
}

func selfTest(cmd *cobra.Command, profiles []string, mutate, asJSON bool) error {
	start := time.Now()
	try, judge, what := lab.SelfTest, proven, "proofs"
	if mutate {
		try, judge, what = lab.Mutate, survived, "mutants"
	}
	proofs, err := try(cmd.Context(), slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)), profiles...)
	if err != nil {
		return err
	}
	wrong := 0
	for _, p := range proofs {
		if judge(p) != "" {
			wrong++
		}
	}
	if asJSON {
		err = json.NewEncoder(cmd.OutOrStdout()).Encode(proofs)
	} else {
		err = printProofs(cmd.OutOrStdout(), proofs, judge)
	}
	if err != nil {
		return fmt.Errorf("print proofs: %w", err)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%d %s in %s, %d wrong\n", len(proofs), what, time.Since(start).Round(100*time.Millisecond), wrong)
	if wrong > 0 {
		return &exitError{code: exitFail}
	}
	return nil
}

// proven is what is wrong with a proof; empty when it stands. In a composed profile
// one rule may leave nothing to be seen of another.
func proven(p lab.Proof) string {
	if p.Err == "" && p.Hidden != "" && !strings.Contains(p.Profile, " + ") {
		return "nothing can be seen of it: " + p.Hidden
	}
	return p.Err
}

// survived is what is wrong with the proof of a mutant, which must have failed.
func survived(p lab.Proof) string {
	if p.Err == "" { // or hidden, which proves as little
		return "it is missing, and still seems true: " + p.Saw
	}
	return ""
}

// printProofs prints a line for each, with what was seen or what is wrong.
func printProofs(w io.Writer, proofs []lab.Proof, judge func(lab.Proof) string) error {
	const columns = 110 // of the last one; the JSON has all of it
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PROFILE\tRULE\tTIME\tSEEN")
	last := ""
	for _, p := range proofs {
		name := p.Profile
		if name == last {
			name = ""
		}
		last = p.Profile
		took := p.Took.Round(10 * time.Millisecond)
		if wrong := judge(p); wrong != "" {
			fmt.Fprintf(t, "%s\t%s\t%s\tWRONG: %s: %s\n", name, p.Name, took, p.Does, wrong)
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", name, p.Name, took, shortened(cmp.Or(p.Err, p.Hidden, p.Saw), columns))
	}
	return t.Flush()
}

// shortened is text, or as much of it as n characters hold.
func shortened(text string, n int) string {
	if r := []rune(text); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return text
}
