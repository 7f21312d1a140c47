package matrix

import (
	"maps"
	"slices"
	"time"

	"github.com/worldcompute/wce2e/e2e/lab"
	"github.com/worldcompute/wce2e/evidence"
)

// Expected is what must be seen of a cell. It comes from the ground truth of its
// profiles, and from nothing that was ever seen, but for what Given says.
type Expected struct {
	Join     bool                                `json:"join"`             // the donor reaches a relay
	Ways     []string                            `json:"ways,omitempty"`   // the transports by which it can
	Direct   []string                            `json:"direct,omitempty"` // those of a direct upgrade; none: it stays relayed
	Luck     []string                            `json:"luck,omitempty"`   // those by which it may become direct, or not
	Verdicts map[evidence.Claim]evidence.Verdict `json:"verdicts"`         // of every claim
	Severs   []string                            `json:"severs,omitempty"` // transports by which a hold fails
	Causes   []string                            `json:"causes,omitempty"` // what a diagnosis would find
}

// Expect derives from a profile's truth what a run behind it with that hold must
// show, the submitter at home.
func Expect(truth lab.Truth, hold time.Duration) Expected {
	e := Expected{Join: len(truth.Ways) > 0, Ways: truth.Ways, Direct: truth.Direct, Luck: truth.Luck, Severs: truth.Severs, Causes: truth.Causes, Verdicts: map[evidence.Claim]evidence.Verdict{}}
	for _, claim := range evidence.Claims {
		e.Verdicts[claim] = evidence.Pass
		if word, ok := truth.Verdicts[string(claim)]; ok {
			e.Verdicts[claim] = verdict(word)
		}
	}
	if truth.Lifetime > 0 && hold >= truth.Lifetime {
		e.Verdicts[evidence.HoldClaim] = evidence.Fail
	}
	return e
}

// Given is what must be seen of a run that holds its connection by a transport,
// which it is free to choose.
func (e Expected) Given(held string) Expected {
	if slices.Contains(e.Severs, held) {
		e.Verdicts = maps.Clone(e.Verdicts)
		e.Verdicts[evidence.HoldClaim] = evidence.Fail
	}
	return e
}

// verdict reads a truth's word. One that is none is Inconclusive, which no run
// shows by accident.
func verdict(word string) (v evidence.Verdict) {
	v.UnmarshalText([]byte(word)) // leaves what it does not know as it was
	return v
}

// ExpectPair is Expect for a cell of the grid: another submitter, one transport.
// What becomes of the direct upgrade, theory says.
func ExpectPair(donor, submitter lab.Profile, transport string, hold time.Duration) Expected {
	e := Expect(donor.Truth, hold)
	word := map[string]string{"quic": "quic-v1"}[transport]
	if word == "" {
		word = transport
	}
	e.Ways = slices.DeleteFunc(slices.Clone(e.Ways), func(w string) bool { return w != word })
	e.Join = len(e.Ways) > 0
	e.Direct, e.Luck = nil, nil
	switch {
	case transport == "tcp" && Punchable(donor.NAT(), submitter.NAT()) && MayCollide(donor.NAT(), submitter.NAT()):
		e.Luck = []string{word}
	case Punchable(donor.NAT(), submitter.NAT()):
		e.Direct = []string{word}
	case donor.NAT().Few || submitter.NAT().Few:
		e.Luck = []string{word}
	}
	return e
}
