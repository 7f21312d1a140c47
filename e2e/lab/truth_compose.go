package lab

import (
	"maps"
	"slices"
	"time"
)

// and is the truth of both together. What either of them stops is stopped; what
// one does to a connection is done. Where nothing is left to get out by, all that
// takes a relay fails.
func (t Truth) and(other Truth) Truth {
	both := Truth{
		Ways: common(t.Ways, other.Ways), Direct: common(t.Direct, other.Direct),
		Verdicts: map[string]string{}, Lifetime: soonest(t.Lifetime, other.Lifetime),
		Events: slices.Concat(t.Events, other.Events), Causes: slices.Compact(slices.Sorted(slices.Values(slices.Concat(t.Causes, other.Causes)))),
	}
	maps.Copy(both.Verdicts, t.Verdicts)
	for claim, verdict := range other.Verdicts {
		if both.Verdicts[claim] != fail {
			both.Verdicts[claim] = verdict
		}
	}
	if len(both.Ways) == 0 {
		for _, claim := range []string{"hold", "reservation", "circuit", "job"} {
			both.Verdicts[claim] = fail
		}
		both.Direct = nil
	}
	return both
}

const fail = "fail" // the verdict

func common(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return !slices.Contains(b, s) })
}

// soonest is the one that ends first, where 0 never does.
func soonest(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
