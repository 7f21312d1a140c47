package matrix

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/worldcompute/wce2e/evidence"
)

// Difference is one thing that was seen otherwise than expected.
type Difference struct {
	Column   string `json:"column"` // a Column's name, or a claim
	Expected string `json:"expected"`
	Seen     string `json:"seen"`
	Why      string `json:"why,omitempty"` // the checker's sentence, where it is a claim
}

func (d Difference) String() string {
	s := fmt.Sprintf("%s: expected %s, seen %s", d.Column, d.Expected, d.Seen)
	if d.Why != "" {
		s += ": " + d.Why
	}
	return s
}

// Compare lists where a run and the ground truth disagree, whichever of them is
// the better one.
func Compare(e Expected, s Seen) []Difference {
	var out []Difference
	differ := func(column, expected, seen, why string) {
		out = append(out, Difference{column, expected, seen, why})
	}
	if e.Join != s.Join {
		differ("join", yes(e.Join), yes(s.Join), s.Way)
	}
	for _, claim := range evidence.Claims {
		seen, ok := s.Verdicts[claim]
		if want := e.Verdicts[claim]; !ok || seen != want {
			differ(string(claim), want.String(), word(seen, ok), s.Observed[claim])
		}
	}
	if odd := beside(s.Transports, e.Ways); len(odd) > 0 {
		differ("transport", list(e.Ways), list(s.Transports), s.Way)
	}
	switch odd := beside(s.Direct, e.Direct); {
	case len(odd) > 0:
		differ("direct", list(e.Direct), list(s.Direct), "")
	case len(e.Direct) > 0 && len(s.Direct) == 0:
		differ("direct", list(e.Direct), list(s.Direct), "")
	}
	return out
}

// beside are those of seen that were not expected.
func beside(seen, expected []string) []string {
	return slices.DeleteFunc(slices.Clone(seen), func(s string) bool { return slices.Contains(expected, s) })
}

func word(v evidence.Verdict, ok bool) string {
	if !ok {
		return "nothing"
	}
	return v.String()
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// list writes transports; none of them is "none".
func list(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, " ")
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
