package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/worldcompute/wce2e/e2e/lab"
)

func newLabDoctorCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "what this machine lets labs have, and what is used instead",
		Long: `Try all that labs are made of, in namespaces that are thrown away, and say what is
missing, what that means, what is used instead, and what turns it on. It exits 0
when a lab can run here, 1 when none can.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := lab.Diagnose(cmd.Context())
			print := printDiagnosis
			if asJSON {
				print = printDiagnosisJSON
			}
			if err := print(cmd.OutOrStdout(), d); err != nil {
				return fmt.Errorf("print the diagnosis: %w", err)
			}
			if !d.CanRun {
				return &exitError{code: exitFail}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printDiagnosisJSON(w io.Writer, d lab.Diagnosis) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(d)
}

// printDiagnosis is a line for each ability.
func printDiagnosis(w io.Writer, d lab.Diagnosis) error {
	for _, a := range d.Abilities {
		line := fmt.Sprintf("%-7s  %-22s  %s", a.State, a.Name, remarks(a))
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
	for _, u := range d.Unfit {
		fmt.Fprintf(w, "profile %s cannot run: %s\n", u.Profile, u.Why)
	}
	verdict := fmt.Sprintf("Labs run here, with %d of %d profiles.", d.Profiles-len(d.Unfit), d.Profiles)
	if !d.CanRun {
		verdict = "No lab can run here: " + strings.Join(lacks(d), ", ") + " missing."
	}
	_, err := fmt.Fprintln(w, "\n"+verdict)
	return err
}

func lacks(d lab.Diagnosis) []string {
	var names []string
	for _, a := range d.Abilities {
		if a.Needed && a.State == lab.Missing {
			names = append(names, a.Name)
		}
	}
	return names
}

// remarks tells of an ability what was found and, if it is missing, what follows.
func remarks(a lab.Ability) string {
	var parts []string
	add := func(text string) {
		if text != "" {
			parts = append(parts, strings.ReplaceAll(text, "\n", "; "))
		}
	}
	add(a.Detail)
	if a.State == lab.Missing {
		add(a.Means)
		if a.Remedy != "" {
			add("to have it: " + a.Remedy)
		}
	}
	return strings.Join(parts, "; ")
}
