// Package check turns what a run observed into verdicts. It is pure: no I/O, no
// clock, no randomness. Whoever has the trace and the logs gets the same
// verdicts, on any machine, at any time.
//
//	trace ──► history ──┬─► firewall     ──► finding ──┐
//	logs  ──►           ├─► visibility   ──► finding ──┤
//	                    ├─► hold         ──► finding ──┼─► evidence.Results
//	                    ├─► ...                        │
//	                    └─► evidence     ──► finding ──┘
//
// There is one file per claim. A checker passes nothing by default: a claim of
// which nothing was seen is inconclusive, and so is one whose checker panicked.
// It fails a claim only where an observation contradicts it.
package check

import (
	"fmt"
	"time"

	"github.com/worldcompute/wce2e/evidence"
)

// AcceptHold is how long a connection must be held for a run to be accepted and
// not called a smoke test.
const AcceptHold = 10 * time.Minute

// Input is what the verdicts are made from.
type Input struct {
	Events   []evidence.Event  // the trace, in order
	Logs     map[string][]byte // host -> the text of its log
	Problems []string          // what was wrong with the bundle when it was read
	Answers  Answers           // nil: the claim job cannot pass, since nobody knows the right answer
}

// Answers recomputes, without WebAssembly, what a fixture's answer to a nonce
// must be, and what must have been sent to get it. All three are SHA-256 in hex.
// An error means that this build does not know the fixture.
type Answers func(fixture string, nonce []byte) (output, module, input string, err error)

type claim struct {
	name     evidence.Claim
	expected string
	judge    func(*history, *finding)
}

// claims says of every claim what it claims and who judges it. Its order is
// that of evidence.Claims.
var claims = []claim{
	{evidence.Firewall, "The donor is behind a firewall: what listens there cannot be reached from the submitter, though both ends work, and what the operator expects to be blocked is.", firewall},
	{evidence.Visibility, "No dial is silent: every attempt of every node has one outcome with its reason, in the events and in the log.", visibility},
	{evidence.HoldClaim, "The donor keeps one connection to a relay for the whole hold, proven by round trips on it.", hold},
	{evidence.Reservation, "The donor holds a reservation at a relay, listens on its circuit address, and the relay confirms it.", reservation},
	{evidence.Circuit, "A node on another network, with another egress address, reaches the donor through the relay, before and after the hold.", circuit},
	{evidence.JobClaim, "A WebAssembly job sent through the circuit returns the bytes computed independently, before and after the hold.", job},
	{evidence.ResidueFree, "The hosts are as they were: nothing of ours runs, listens or lies there, except the cached binary.", residue},
	{evidence.Whole, "The evidence is whole: every file is the one hashed on its host, every event is there, and the run came to its end.", whole},
}

// Check judges every claim: those of the acceptance, or of a diagnosis, as the
// trace says what it is of. It never panics and always returns all claims.
func Check(in Input) evidence.Results {
	h, err := read(in)
	list := claims
	if h.started.Kind == evidence.Diagnosing {
		list = h.diagnosisClaims()
	}
	var r evidence.Results
	for _, c := range list {
		f := judged(h, err, c.judge)
		a := f.assertion()
		a.Name, a.Expected = c.name, c.expected
		r.Assertions = append(r.Assertions, a)
	}
	r.Overall = overall(r.Verdict())
	r.Label = label(h, r.Verdict())
	return r
}

// judged runs one checker. A panic says that the checker is wrong, not the
// mesh: then nothing is known.
func judged(h *history, err error, judge func(*history, *finding)) (f *finding) {
	f = new(finding)
	if err != nil {
		f.lack("The trace could not be read: %v.", err)
		return f
	}
	defer func() {
		if p := recover(); p != nil {
			f = new(finding)
			f.lack("The checker itself broke down: %v.", p)
		}
	}()
	judge(h, f)
	return f
}

// read is newHistory that returns an error instead of panicking.
func read(in Input) (h *history, err error) {
	defer func() {
		if p := recover(); p != nil {
			h, err = &history{in: in}, fmt.Errorf("panic: %v", p)
		}
	}()
	return newHistory(in), nil
}

// overall is World Compute's word for a verdict.
func overall(v evidence.Verdict) string {
	switch v {
	case evidence.Pass:
		return "pass"
	case evidence.Fail:
		return "fail"
	}
	return "partial"
}

// label says what the run may call itself. A trace that tells of a lab is a
// lab's, whatever its first line says.
func label(h *history, v evidence.Verdict) evidence.Label {
	switch {
	case h.started.Kind == evidence.Diagnosing:
		return h.explained()
	case v != evidence.Pass:
		return evidence.NotAccepted
	case time.Duration(h.started.Hold) < AcceptHold:
		return evidence.Smoke
	case h.started.Lab || h.lab:
		return evidence.AcceptedLab
	}
	return evidence.Accepted
}
