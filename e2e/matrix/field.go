package matrix

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/worldcompute/wce2e/evidence"
)

// Field is one column of a cell's row.
type Field struct {
	Column   string
	Expected string // empty: there is no truth to compare with
	Seen     string
	Differs  bool
}

// Columns are those of the table, in order.
var Columns = []string{"join", "firewall", "hold", "reservation", "circuit", "job", "other claims", "direct", "reserved after", "transport", "diagnosis"}

// Fields are the columns of a row, in the order of Columns.
func (o Outcome) Fields() []Field {
	seen, want := o.Seen, o.Expected
	fields := []Field{{Column: "join", Expected: yes(want.Join), Seen: yes(seen.Join)}}
	for _, claim := range []evidence.Claim{evidence.Firewall, evidence.HoldClaim, evidence.Reservation, evidence.Circuit, evidence.JobClaim} {
		v, ok := seen.Verdicts[claim]
		fields = append(fields, Field{Column: string(claim), Expected: want.Verdicts[claim].String(), Seen: word(v, ok)})
	}
	fields = append(fields, o.others(),
		Field{Column: "direct", Expected: list(want.Direct), Seen: direct(seen)},
		Field{Column: "reserved after", Seen: took(seen.ReservedMS)},
		Field{Column: "transport", Expected: list(want.Ways), Seen: list(seen.Transports)},
		Field{Column: "diagnosis", Expected: strings.Join(want.Causes, "; "), Seen: seen.Way})
	for i := range fields {
		f := &fields[i]
		f.Differs = slices.ContainsFunc(o.Differs, func(d Difference) bool {
			return d.Column == f.Column || f.Column == "other claims" && slices.Contains(quiet, evidence.Claim(d.Column))
		})
	}
	return fields
}

// quiet are the claims that share a column: those about the suite rather than
// the network.
var quiet = []evidence.Claim{evidence.Visibility, evidence.ResidueFree, evidence.Whole}

func (o Outcome) others() Field {
	f := Field{Column: "other claims", Expected: "pass", Seen: "pass"}
	var wants, sees []string
	for _, claim := range quiet {
		v, ok := o.Seen.Verdicts[claim]
		want := o.Expected.Verdicts[claim]
		if !ok || v != evidence.Pass || want != evidence.Pass {
			wants = append(wants, fmt.Sprintf("%s %s", claim, want))
			sees = append(sees, fmt.Sprintf("%s %s", claim, word(v, ok)))
		}
	}
	if len(sees) > 0 {
		f.Expected, f.Seen = strings.Join(wants, ", "), strings.Join(sees, ", ")
	}
	return f
}

func direct(s Seen) string {
	if len(s.Direct) == 0 {
		return list(nil)
	}
	if s.DirectMS == 0 {
		return list(s.Direct)
	}
	return list(s.Direct) + " after " + took(s.DirectMS)
}

// took writes milliseconds; none at all is a dash.
func took(ms float64) string {
	switch {
	case ms == 0:
		return "-"
	case ms < 1000:
		return fmt.Sprintf("%.0f ms", ms)
	case ms < 60_000:
		return fmt.Sprintf("%.1f s", ms/1000)
	}
	return (time.Duration(math.Round(ms/1000)) * time.Second).String()
}

// Sentence sums up a matrix.
func (r Results) Sentence() string {
	s := fmt.Sprintf("%d of %d cells as expected", r.Count(AsExpected), len(r.Outcomes))
	if n := r.Count(Differs); n > 0 {
		s += fmt.Sprintf(", %d differ", n)
	}
	if n := r.Count(Failed); n > 0 {
		s += fmt.Sprintf(", in %d the suite failed", n)
	}
	if r.Missing > 0 {
		s += fmt.Sprintf(", %d of %d cells are missing", r.Missing, r.Whole)
	}
	return s
}
