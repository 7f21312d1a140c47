package evidence

import "fmt"

// Verdict is the answer to a claim. The zero Verdict is Inconclusive, never Pass.
type Verdict int

const (
	Inconclusive Verdict = iota // nothing was shown, either way
	Pass
	Fail
)

var verdictWords = [...]string{"inconclusive", "pass", "fail"}

func (v Verdict) String() string { return verdictWords[v] }

func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

func (v *Verdict) UnmarshalText(b []byte) error {
	for i, w := range verdictWords {
		if string(b) == w {
			*v = Verdict(i)
			return nil
		}
	}
	return fmt.Errorf("unknown verdict %q", b)
}

// Worst is the verdict of a whole: fail > inconclusive > pass. Of nothing it is
// Inconclusive.
func Worst(vs ...Verdict) Verdict {
	if len(vs) == 0 {
		return Inconclusive
	}
	worst := Pass
	for _, v := range vs {
		switch {
		case v == Fail:
			return Fail
		case v != Pass:
			worst = Inconclusive
		}
	}
	return worst
}

// Claim is one of the acceptance claims.
type Claim string

const (
	Firewall    Claim = "firewall"
	Visibility  Claim = "visibility"
	HoldClaim   Claim = "hold"
	Reservation Claim = "reservation"
	Circuit     Claim = "circuit"
	JobClaim    Claim = "job"
	ResidueFree Claim = "residue"
	Whole       Claim = "evidence"
)

// Claims lists every claim, in the order of a report.
var Claims = []Claim{Firewall, Visibility, HoldClaim, Reservation, Circuit, JobClaim, ResidueFree, Whole}

// WayOut is the claim about one host that was diagnosed: a relay is reached from
// there, and what is in the way is explained.
func WayOut(host string) Claim { return Claim("way out of " + host) }

// Label says what a run as a whole may call itself.
type Label string

const (
	Accepted    Label = "accepted"       // all claims pass, on real hosts, held for AcceptHold or longer
	AcceptedLab Label = "accepted (lab)" // the same, on simulated hosts
	Smoke       Label = "smoke"          // all claims pass, but the hold was short
	NotAccepted Label = "not accepted"

	// Of a diagnosis.
	Explained   Label = "explained"   // whatever is in the way
	Unexplained Label = "unexplained" // something is not
)

// Results is results.json.
type Results struct {
	Overall    string      `json:"overall"` // pass | fail | partial (World Compute's word for inconclusive)
	Label      Label       `json:"label"`
	Assertions []Assertion `json:"assertions"`
}

// Assertion is the verdict on one claim.
type Assertion struct {
	Name     Claim    `json:"name"`
	Expected string   `json:"expected"` // the claim, in a sentence
	Observed string   `json:"observed"` // what was seen, in a sentence or a few
	Pass     bool     `json:"pass"`
	Verdict  Verdict  `json:"verdict"`
	Because  []uint64 `json:"because"` // seq of the trace lines that decided it
}

// Verdict is the worst of the assertions.
func (r Results) Verdict() Verdict {
	vs := make([]Verdict, len(r.Assertions))
	for i, a := range r.Assertions {
		vs[i] = a.Verdict
	}
	return Worst(vs...)
}
