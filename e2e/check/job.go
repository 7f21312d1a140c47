package check

import (
	"encoding/hex"
	"strings"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/wire"
)

// succeeded is the protocol's word for a task that was carried out.
const succeeded = "Succeeded"

// minNonce is the least size of a nonce, in bytes: one that nobody can have
// prepared an answer for.
const minNonce = 16

// job judges that a job sent through the circuit came back with the right bytes,
// on each side of the hold.
//
//	nonce ─┬─► the suite: the answer, without WebAssembly ──► equal? ◄──┐
//	       └─► submitter ─► circuit ─► donor: WebAssembly ──────────────┘
//
// The answer to a nonce cannot have been prepared, and what it must be is
// recomputed here, whatever the trace says of it.
func job(h *history, f *finding) {
	donor, submitter, ok := h.both(f)
	if !ok {
		return
	}
	nonces := map[string]evidence.Phase{}
	for _, p := range phases {
		s := &sending{h: h, f: f, donor: donor, submitter: submitter, phase: p}
		t, ok := s.judge()
		if !ok {
			continue
		}
		if before, twice := nonces[t.Nonce]; twice {
			f.fail("The job %s the hold has the nonce of the one %s it: its answer was known already.", p, before)
		}
		nonces[t.Nonce] = p
	}
}

// sending is the job on one side of the hold.
type sending struct {
	h                *history
	f                *finding
	donor, submitter *host
	phase            evidence.Phase
}

// judge takes the last job of the phase: there is one, unless a run was resumed.
func (s *sending) judge() (t task, ok bool) {
	for _, x := range s.h.jobs {
		if x.Phase == s.phase && x.host == s.submitter.Name {
			t, ok = x, true
		}
	}
	if !ok {
		s.h.unmetPhase(s.f, "the job", s.phase, len(s.h.jobs) > 0)
		return t, false
	}
	one := new(finding)
	one.cite(t.seq)
	if s.answered(one, t) && s.rightAnswer(one, t) {
		s.records(one, t)
	}
	if one.sound() {
		one.see("%s the hold %s ran %s of %s for %s in %.0f ms (round trip %.0f ms), relayed through %s: the answer %s is the one computed without WebAssembly, and both ends' records of the task %s agree.",
			capital(string(s.phase)), s.donor.Name, t.Fixture, short(t.ModuleSHA256), s.submitter.Name, t.result.DurationMS, t.result.RoundTripMS,
			s.h.peerName(t.result.Relay), short(t.result.OutputSHA256), t.result.TaskID)
	}
	s.f.add(one)
	return t, true
}

// short is the beginning of a hash, enough to find it by.
func short(hash string) string { return hash[:min(len(hash), 12)] }

// answered judges how the job travelled and ended.
func (s *sending) answered(f *finding, t task) bool {
	d := t.result
	switch {
	case !s.h.inPhase(t.seq, s.phase):
		f.lack("The job said to be sent %s the hold was sent at another time.", s.phase)
	case t.Fixture != s.h.started.Fixture:
		f.lack("The job %s the hold was %s, the inventory wants %s.", s.phase, word(t.Fixture, "none"), word(s.h.started.Fixture, "none"))
	case d.Status != succeeded:
		f.fail("The job %s the hold did not succeed: %s%s.", s.phase, word(d.Status, "it never got there"), because(d.Error))
	case d.Path != wire.Relayed || d.Relay == "":
		f.fail("The job %s the hold did not go through a circuit: its path was %s.", s.phase, word(string(d.Path), "not told"))
	case !s.donor.is(d.Peer):
		f.fail("The job %s the hold went to %s, not to %s.", s.phase, s.h.peerName(d.Peer), s.donor.Name)
	}
	return f.sound()
}

// rightAnswer compares the answer with the one that is computed here.
func (s *sending) rightAnswer(f *finding, t task) bool {
	nonce, err := hex.DecodeString(t.Nonce)
	switch {
	case err != nil || len(nonce) < minNonce:
		f.lack("The job %s the hold carries no nonce of %d bytes or more: %q.", s.phase, minNonce, t.Nonce)
		return false
	case t.result.OutputSHA256 == "" || t.ExpectedSHA256 == "":
		f.lack("The job %s the hold has no answer, or none to compare it with.", s.phase)
		return false
	case t.result.OutputSHA256 != t.ExpectedSHA256:
		f.fail("The job %s the hold returned the wrong bytes: their SHA-256 is %s, expected was %s.", s.phase, short(t.result.OutputSHA256), short(t.ExpectedSHA256))
		return false
	case s.h.in.Answers == nil:
		f.lack("The answer to the job %s the hold could not be recomputed: this verifier has no fixtures.", s.phase)
		return false
	}
	output, module, input, err := s.h.in.Answers(t.Fixture, nonce)
	if err != nil {
		f.lack("The answer to the job %s the hold could not be recomputed: %v.", s.phase, err)
		return false
	}
	for _, x := range []struct{ what, recomputed, recorded string }{
		{"answer", output, t.ExpectedSHA256},
		{"module", module, t.ModuleSHA256},
		{"input", input, t.InputSHA256},
	} {
		if x.recomputed != x.recorded {
			f.fail("The %s recorded for the job %s the hold is not that of %s with this nonce: %s instead of %s.", x.what, s.phase, t.Fixture, short(x.recorded), short(x.recomputed))
		}
	}
	return f.sound()
}

// records compares the records of both ends.
func (s *sending) records(f *finding, t task) {
	id := t.result.TaskID
	if !strings.Contains(id, t.Nonce) {
		f.lack("The ID of the task %s the hold does not carry its nonce: %s.", s.phase, word(id, "it has none"))
		return
	}
	ends := []struct {
		host, other *host
		began       wire.Kind
	}{{s.submitter, s.donor, wire.JobSent}, {s.donor, s.submitter, wire.JobReceived}}
	for _, e := range ends {
		s.begun(f, t, e.host, e.other, e.began)
		s.finished(f, t, e.host)
	}
}

// begun compares an end's record of the task's start.
func (s *sending) begun(f *finding, t task, x, other *host, kind wire.Kind) {
	e, ok := s.record(f, x, kind, t)
	if !ok {
		return
	}
	switch {
	case e.ModuleSHA256 != t.ModuleSHA256 || e.InputSHA256 != t.InputSHA256:
		f.fail("%s's record (%s) tells of another module or input than was sent %s the hold.", x.Name, kind, s.phase)
	case !other.is(e.Peer):
		f.fail("%s's record (%s) %s the hold names %s, not %s.", x.Name, kind, s.phase, s.h.peerName(e.Peer), other.Name)
	default:
		s.viaCircuit(f, t, x, e)
	}
}

// finished compares an end's record of the task's end.
func (s *sending) finished(f *finding, t task, x *host) {
	e, ok := s.record(f, x, wire.JobEnded, t)
	if !ok {
		return
	}
	switch {
	case e.Status != succeeded:
		f.fail("%s's record says that the job %s the hold ended as %s%s.", x.Name, s.phase, word(e.Status, "nothing known"), because(e.Err))
	case e.OutputSHA256 != t.result.OutputSHA256:
		f.fail("%s's record has another answer to the job %s the hold: %s instead of %s.", x.Name, s.phase, word(short(e.OutputSHA256), "none"), short(t.result.OutputSHA256))
	default:
		s.viaCircuit(f, t, x, e)
	}
}

// record finds the one event of a kind about the task.
func (s *sending) record(f *finding, x *host, kind wire.Kind, t task) (said, bool) {
	var found []said
	for _, e := range x.of(kind) {
		if e.Task == t.result.TaskID {
			found = append(found, e)
		}
	}
	if len(found) != 1 {
		f.lack("%s has %d records (%s) of the job %s the hold.", x.Name, len(found), kind, s.phase)
		return said{}, false
	}
	f.cite(found[0].line)
	return found[0], true
}

// viaCircuit makes sure that a record tells of the same circuit.
func (s *sending) viaCircuit(f *finding, t task, x *host, e said) {
	if e.Path != wire.Relayed || e.Relay != t.result.Relay {
		f.fail("%s's record (%s) of the job %s the hold: its path was %s through %s, not relayed through %s.", x.Name, e.Kind, s.phase,
			word(string(e.Path), "not told"), s.h.peerName(e.Relay), s.h.peerName(t.result.Relay))
		return
	}
	for _, b := range x.boots {
		opened, ok := b.connOpened(e.Conn)
		if b.id == e.Boot && ok && opened.Relay != e.Relay {
			f.fail("%s's record (%s) of the job %s the hold names the connection %s, which does not go through %s.", x.Name, e.Kind, s.phase, e.Conn, s.h.peerName(e.Relay))
		}
	}
}
