package check

import (
	"strings"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/wire"
)

func TestAJobIsAnsweredThroughTheCircuitWithTheRightBytes(t *testing.T) {
	after := func(change func(*evidence.Job, *wire.DispatchResult)) func(*story) {
		return func(s *story) {
			s.worked(evidence.AfterHold, func(j *evidence.Job, r *wire.DispatchResult) bool { change(j, r); return true })
		}
	}
	result := func(change func(*wire.DispatchResult)) func(*story) {
		return after(func(_ *evidence.Job, r *wire.DispatchResult) { change(r) })
	}
	forged := sha("forged")
	judgeClauses(t, evidence.JobClaim, passing, []clause{
		{"none before", func(s *story) {
			s.worked(evidence.BeforeHold, func(*evidence.Job, *wire.DispatchResult) bool { return false })
		}, inconclusive, "The job before the hold: not in the trace"},
		{"none after", func(s *story) {
			s.worked(evidence.AfterHold, func(*evidence.Job, *wire.DispatchResult) bool { return false })
		}, inconclusive, "The job after the hold: not in the trace"},
		{"one before said to be after", func(s *story) {
			s.worked(evidence.AfterHold, func(*evidence.Job, *wire.DispatchResult) bool { return false })
			s.worked(evidence.BeforeHold, func(j *evidence.Job, _ *wire.DispatchResult) bool { j.Phase = evidence.AfterHold; return true })
		}, inconclusive, "was sent at another time"},
		{"another fixture", after(func(j *evidence.Job, _ *wire.DispatchResult) { j.Fixture = "noop" }), inconclusive, "was noop, the inventory wants sha256"},
		{"it failed", result(func(r *wire.DispatchResult) { r.Status, r.Error = "Failed", "trap" }), fail, "did not succeed: Failed (trap)"},
		{"it never got there", result(func(r *wire.DispatchResult) { r.Status = "" }), fail, "it never got there"},
		{"it went directly", result(func(r *wire.DispatchResult) { r.Path, r.Relay = wire.Direct, "" }), fail, "its path was direct"},
		{"it went through nobody", result(func(r *wire.DispatchResult) { r.Relay = "" }), fail, "did not go through a circuit"},
		{"it went to somebody else", result(func(r *wire.DispatchResult) { r.Peer = strangerID }), fail, "not to tensor02"},
		{"no nonce", after(func(j *evidence.Job, _ *wire.DispatchResult) { j.Nonce = "" }), inconclusive, "no nonce of 16 bytes"},
		{"a short nonce", after(func(j *evidence.Job, _ *wire.DispatchResult) { j.Nonce = "a1b2" }), inconclusive, "no nonce of 16 bytes"},
		{"a nonce that is none", after(func(j *evidence.Job, _ *wire.DispatchResult) { j.Nonce = strings.Repeat("xy", 32) }), inconclusive, "no nonce of 16 bytes"},
		{"wrong bytes", result(func(r *wire.DispatchResult) { r.OutputSHA256 = forged }), fail, "returned the wrong bytes"},
		{"no bytes", result(func(r *wire.DispatchResult) { r.OutputSHA256 = "" }), inconclusive, "has no answer"},
		{"nothing expected", after(func(j *evidence.Job, _ *wire.DispatchResult) { j.ExpectedSHA256 = "" }), inconclusive, "none to compare it with"},
		{"what is expected is forged", after(func(j *evidence.Job, _ *wire.DispatchResult) { j.ExpectedSHA256 = forged }), fail, "returned the wrong bytes"},
		{"wrong bytes and what is expected are forged alike", func(s *story) {
			after(func(j *evidence.Job, r *wire.DispatchResult) { j.ExpectedSHA256, r.OutputSHA256 = forged, forged })(s)
			for _, h := range []string{donorName, submitterName} {
				s.said(h, wire.JobEnded, func(e *wire.Event) bool { e.OutputSHA256 = forged; return true })
			}
		}, fail, "The answer recorded for the job after the hold is not that of sha256 with this nonce"},
		{"another module", after(func(j *evidence.Job, _ *wire.DispatchResult) { j.ModuleSHA256 = forged }), fail, "The module recorded"},
		{"another input", after(func(j *evidence.Job, _ *wire.DispatchResult) { j.InputSHA256 = forged }), fail, "The input recorded"},
		{"nobody can compute the answer", func(s *story) { s.answers = nil }, inconclusive, "this verifier has no fixtures"},
		{"the fixture is unknown here", func(s *story) {
			s.started().Fixture = "primes"
			for _, p := range phases {
				s.worked(p, func(j *evidence.Job, _ *wire.DispatchResult) bool { j.Fixture = "primes"; return true })
			}
		}, inconclusive, `could not be recomputed: no fixture "primes"`},
		{"the task does not carry the nonce", result(func(r *wire.DispatchResult) { r.TaskID = "wce2e-1" }), inconclusive, "does not carry its nonce"},
		{"sent by another host", func(s *story) {
			s.each(func(it *item) bool {
				if it.name == evidence.JobDone {
					it.host = relayName
				}
				return true
			})
		}, inconclusive, "The job before the hold: not in the trace"},
	})
}

func TestANonceIsUsedOnce(t *testing.T) {
	s := passing()
	var again evidence.Job
	var copied wire.DispatchResult
	s.worked(evidence.BeforeHold, func(j *evidence.Job, r *wire.DispatchResult) bool { again, copied = *j, *r; return true })
	s.worked(evidence.AfterHold, func(j *evidence.Job, r *wire.DispatchResult) bool {
		*j, *r = again, copied
		j.Phase = evidence.AfterHold
		return true
	})
	if a := verdictOn(t, evidence.JobClaim, s); a.Verdict != fail || !strings.Contains(a.Observed, "has the nonce of the one before it") {
		t.Errorf("%s: %s", a.Verdict, a.Observed)
	}
}

func TestTheRecordsOfAJobAgree(t *testing.T) {
	var clauses []clause
	add := func(name, host string, kind wire.Kind, change func(*wire.Event) bool, want evidence.Verdict, says string) {
		clauses = append(clauses, clause{host + " " + string(kind) + ": " + name, func(s *story) {
			s.said(host, kind, func(e *wire.Event) bool { return e.Task != "wce2e-"+nonceAfter || change(e) })
		}, want, says})
	}
	forged := sha("forged")
	for _, x := range []struct {
		host  string
		begun wire.Kind
	}{{donorName, wire.JobReceived}, {submitterName, wire.JobSent}} {
		for _, kind := range []wire.Kind{x.begun, wire.JobEnded} {
			add("missing", x.host, kind, gone, inconclusive, x.host+" has 0 records ("+string(kind)+")")
			add("direct", x.host, kind, func(e *wire.Event) bool { e.Path, e.Relay = wire.Direct, ""; return true }, fail, "its path was direct")
			add("another relay", x.host, kind, func(e *wire.Event) bool { e.Relay = strangerID; return true }, fail, "not relayed through relay1")
		}
		add("another module", x.host, x.begun, func(e *wire.Event) bool { e.ModuleSHA256 = forged; return true }, fail, "another module or input")
		add("another input", x.host, x.begun, func(e *wire.Event) bool { e.InputSHA256 = forged; return true }, fail, "another module or input")
		add("another peer", x.host, x.begun, func(e *wire.Event) bool { e.Peer = strangerID; return true }, fail, "names peer")
		add("another end", x.host, wire.JobEnded, func(e *wire.Event) bool { e.Status, e.Err = "Timeout", "60 s"; return true }, fail, "ended as Timeout (60 s)")
		add("another answer", x.host, wire.JobEnded, func(e *wire.Event) bool { e.OutputSHA256 = forged; return true }, fail, "has another answer")
	}
	clauses = append(clauses,
		clause{"received twice", func(s *story) {
			s.insert(named(evidence.JobDone), func() {
				s.says(time.Minute, donorName, wire.Event{Kind: wire.JobReceived, Task: "wce2e-" + nonceAfter})
			})
		}, inconclusive, "tensor02 has 2 records (job.received)"},
		clause{"the connection it names is a direct one", func(s *story) {
			s.said(donorName, wire.ConnOpened, func(e *wire.Event) bool {
				if e.Conn == "j-after" {
					e.Relay = ""
				}
				return true
			})
		}, fail, "which does not go through relay1"},
	)
	judgeClauses(t, evidence.JobClaim, passing, clauses)
}
