package check

import (
	"strings"
	"testing"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/wire"
)

// clause is a part of a claim, and a run that lacks just that.
type clause struct {
	name  string
	spoil func(*story)
	want  evidence.Verdict
	says  string // part of what the verdict tells
}

const (
	pass         = evidence.Pass
	fail         = evidence.Fail
	inconclusive = evidence.Inconclusive
)

// judgeClauses spoils a passing run in one way after another.
func judgeClauses(t *testing.T, claim evidence.Claim, from func() *story, clauses []clause) {
	t.Helper()
	if a := verdictOn(t, claim, from()); a.Verdict != pass {
		t.Fatalf("the run to be spoilt does not pass: %s", a.Observed)
	}
	for _, c := range clauses {
		t.Run(c.name, func(t *testing.T) {
			s := from()
			c.spoil(s)
			a := verdictOn(t, claim, s)
			if a.Verdict != c.want || a.Pass != (c.want == pass) || !strings.Contains(a.Observed, c.says) {
				t.Errorf("%s: %s\nwant %s: ...%s...", a.Verdict, a.Observed, c.want, c.says)
			}
		})
	}
}

func verdictOn(t *testing.T, claim evidence.Claim, s *story) evidence.Assertion {
	t.Helper()
	for _, a := range Check(s.input(t)).Assertions {
		if a.Name == claim {
			return a
		}
	}
	t.Fatalf("no verdict on %s", claim)
	return evidence.Assertion{}
}

// gone drops whatever it is asked about.
func gone(*wire.Event) bool { return false }

// noProbe drops probes.
func noProbe(*evidence.Probe, *wire.DialResult) bool { return false }
