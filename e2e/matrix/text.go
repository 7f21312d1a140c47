package matrix

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// textColumns are those of the table on a terminal, which has no room for more:
// the rest is in the files.
var textColumns = []string{"join", "firewall", "hold", "reservation", "circuit", "job", "direct", "reserved after", "transport"}

// WriteText writes the table for a terminal, and below it every difference. What
// is not as expected stands as "seen (expected)".
func (r Results) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tPROFILE\t"+strings.ToUpper(strings.Join(textColumns, "\t")))
	for _, o := range r.Outcomes {
		row := []string{mark(o.State()), o.Cell.String()}
		for _, f := range o.Fields() {
			if slices.Contains(textColumns, f.Column) {
				row = append(row, f.text())
			}
		}
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print the matrix: %w", err)
	}
	for _, o := range r.Outcomes {
		for _, line := range o.told() {
			fmt.Fprintf(w, "%s: %s\n", o.Cell, line)
		}
	}
	_, err := fmt.Fprintf(w, "%s; hold %s, seed %d, took %s\n", r.Sentence(), r.Hold, r.Seed, r.Ended.Sub(r.Began).Round(time.Second))
	return err
}

func (f Field) text() string {
	if f.Differs {
		return fmt.Sprintf("%s (%s)", f.Seen, f.Expected)
	}
	return f.Seen
}

// told are the lines about what did not go as expected, now or in an attempt
// that was replaced.
func (o Outcome) told() []string {
	var lines []string
	if o.Err != "" {
		lines = append(lines, "the suite failed: "+strings.ReplaceAll(o.Err, "\n", "; "))
	}
	for _, d := range o.Differs {
		lines = append(lines, d.String())
	}
	for _, d := range o.Replaces {
		lines = append(lines, "in an earlier attempt: "+d.String())
	}
	return lines
}

func mark(s State) string {
	return map[State]string{AsExpected: "ok", Differs: "DIFFERS", Failed: "FAILED"}[s]
}
