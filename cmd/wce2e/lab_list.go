package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/worldcompute/wce2e/e2e/lab"
)

func newLabListCmd() *cobra.Command {
	var asJSON, asMarkdown bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "the firewall profiles that a lab's networks may have",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := lab.Supported(); err != nil {
				return err
			}
			print := printProfiles
			switch {
			case asJSON && asMarkdown:
				return usageError(errors.New("--json and --markdown are two ways to print the same"))
			case asJSON:
				print = printProfilesJSON
			case asMarkdown:
				print = printProfilesMarkdown
			}
			if err := print(cmd.OutOrStdout(), lab.Profiles()); err != nil {
				return fmt.Errorf("print profiles: %w", err)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with rules and ground truth")
	cmd.Flags().BoolVar(&asMarkdown, "markdown", false, "print the catalogue, docs/profiles.md")
	return cmd
}

func printProfiles(w io.Writer, profiles []lab.Profile) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, p := range profiles {
		fmt.Fprintf(t, "%s\t%s\n", p.Name, p.Sentence)
	}
	return t.Flush()
}

func printProfilesJSON(w io.Writer, profiles []lab.Profile) error {
	type profile struct {
		Name     string     `json:"name"`
		Sentence string     `json:"sentence"`
		Rules    []lab.Rule `json:"rules"`
		Truth    lab.Truth  `json:"truth"`
	}
	out := []profile{}
	for _, p := range profiles {
		out = append(out, profile{p.Name, p.Sentence, p.Rules(), p.Truth})
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}

const catalogueHead = `<!-- Made by "wce2e lab list --markdown": do not edit. -->

# The profiles of the lab

What institutions, providers and homes put between a host and the internet. An inventory's lab names one for each of its networks, or
several, joined as in ` + "`symmetric + udp-blocked`" + `: what any of them stops is stopped.

Each profile is made of rules and services, and each of those proves itself: ` + "`wce2e lab selftest`" + ` tries with plain sockets that it does
what it says, and ` + "`make lab-mutate`" + ` leaves each out in turn, and has its proof fail. The ground truth, against which runs and diagnoses
are graded, follows from the rules. Its ways to a relay are tried in the same manner: with the first bytes that a donor would send.

- *relays by*: the transports by which a donor behind it reaches a relay with TCP, QUIC and WebTransport on port 4001 and WebSocket and
  HTTPS on 443, with a certificate that it signed itself
- *direct by*: those by which a hole is punched to a submitter behind ` + "`home`" + `
- *in the way*: what a diagnosis finds

| profile | who does this | relays by | direct by | in the way |
|---|---|---|---|---|
`

// printProfilesMarkdown prints the catalogue for operators: a table of all, then
// what each is made of.
func printProfilesMarkdown(w io.Writer, profiles []lab.Profile) error {
	var b strings.Builder
	b.WriteString(catalogueHead)
	for _, p := range profiles {
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %s | %s | %s |\n", p.Name, p.Name, escape(p.Sentence),
			orNone(p.Truth.Ways), orNone(p.Truth.Direct), strings.Join(p.Truth.Causes, " "))
	}
	for _, p := range profiles {
		fmt.Fprintf(&b, "\n## %s\n\n%s.\n\n| rule | what it does |\n|---|---|\n", p.Name, capitalized(p.Sentence))
		for _, r := range p.Rules() {
			fmt.Fprintf(&b, "| `%s` | %s |\n", r.Name, escape(r.Does))
		}
		fmt.Fprintf(&b, "\n%s\n", strings.Join(truthOf(p.Truth), " "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// truthOf says a ground truth in sentences.
func truthOf(t lab.Truth) []string {
	said := []string{fmt.Sprintf("Relays by: %s. Direct by: %s.", orNone(t.Ways), orNone(t.Direct))}
	if len(t.Luck) > 0 {
		said = append(said, fmt.Sprintf("By luck, direct by: %s.", orNone(t.Luck)))
	}
	if t.Lifetime > 0 {
		said = append(said, fmt.Sprintf("A connection lasts %s at most.", t.Lifetime))
	}
	for _, e := range t.Events {
		since := "of the hold"
		if e.Do == "login" {
			since = "after the donor's start"
		}
		said = append(said, fmt.Sprintf("In a run, `%s` %s %s.", e.Do, e.After, since))
	}
	if len(t.Severs) > 0 {
		said = append(said, fmt.Sprintf("That ends connections by: %s.", orNone(t.Severs)))
	}
	for _, claim := range slices.Sorted(maps.Keys(t.Verdicts)) {
		said = append(said, fmt.Sprintf("The claim `%s`: %s.", claim, t.Verdicts[claim]))
	}
	return said
}

func orNone(words []string) string { return cmp.Or(strings.Join(words, " "), "none") }

func escape(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

func capitalized(text string) string { return strings.ToUpper(text[:1]) + text[1:] }
