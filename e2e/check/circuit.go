package check

import (
	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/wire"
)

// circuit judges that a node on another network reached the donor through its
// relay, on each side of the hold, by the records of both ends.
//
//	submitter ──► relay ──► donor
//	   │            │         │
//	probe's     circuit's   conn.opened, inbound,
//	result      record      from the probe's identity
func circuit(h *history, f *finding) {
	donor, submitter, ok := h.both(f)
	if !ok {
		return
	}
	dials := h.probesFor(submitter, evidence.CircuitDial)
	for _, p := range phases {
		(&reaching{h: h, f: f, donor: donor, submitter: submitter, phase: p}).judge(dials)
	}
	if len(dials) == 0 {
		return // where the hosts are matters once there is a circuit
	}
	h.otherNetwork(f, donor, submitter)
	if h.otherEgress(f, donor, submitter) {
		f.see("Their egress addresses differ: %s for %s, %s for %s.", h.egressOf(donor), donor.Name, h.egressOf(submitter), submitter.Name)
	}
}

// otherNetwork compares what the operator says of the hosts, and where they were
// moved.
func (h *history) otherNetwork(f *finding, donor, submitter *host) {
	for _, p := range phases {
		d, s := h.networkIn(donor, p), h.networkIn(submitter, p)
		switch {
		case d == "" || s == "":
			f.lack("The inventory does not say on which networks %s and %s are.", donor.Name, submitter.Name)
		case d == s:
			f.lack("%s and %s are on the same network, %s.", donor.Name, submitter.Name, d)
		case p == evidence.AfterHold && (d != donor.Network || s != submitter.Network):
			f.see("After the hold, %s is on the network %s, %s on %s.", donor.Name, d, submitter.Name, s)
		default:
			f.see("%s is on the network %s, %s on %s.", donor.Name, d, submitter.Name, s)
		}
	}
}

// reaching is the circuit dial on one side of the hold.
type reaching struct {
	h                *history
	f                *finding
	donor, submitter *host
	phase            evidence.Phase
}

// judge takes the first dial that shows everything, else complains about the
// last one.
func (r *reaching) judge(dials []probe) {
	var one *finding
	for _, p := range dials {
		if p.Phase != r.phase {
			continue
		}
		one = new(finding)
		one.cite(p.seq)
		r.dial(one, p)
		if one.sound() {
			break
		}
	}
	if one == nil {
		r.h.unmetPhase(r.f, "the circuit dial", r.phase, len(dials) > 0)
		return
	}
	r.f.add(one)
}

// add takes over another finding.
func (f *finding) add(other *finding) {
	f.wrong = append(f.wrong, other.wrong...)
	f.missing = append(f.missing, other.missing...)
	f.seen = append(f.seen, other.seen...)
	f.because = append(f.because, other.because...)
}

func (r *reaching) dial(f *finding, p probe) {
	d := p.result
	a, _ := parseAddr(d.Addr)
	relay := r.h.peerName(d.Relay)
	switch {
	case !r.h.inPhase(p.seq, r.phase):
		f.lack("The circuit dial said to be made %s the hold was made at another time.", r.phase)
		return
	case !isCircuit(d.Addr, a.relay, r.donor) || !r.listenedOn(d.Addr, p.seq):
		f.lack("The circuit dial %s the hold was not to a circuit address of %s: %s.", r.phase, r.donor.Name, d.Addr)
		return
	case d.Outcome != wire.OK:
		f.fail("%s could not reach %s %s the hold through %s: %s%s.", r.submitter.Name, r.donor.Name, r.phase, r.h.peerName(a.relay), failureOf(p), because(d.Err))
		return
	case d.Path != wire.Relayed:
		f.fail("The connection from %s to %s %s the hold was %s, not relayed.", r.submitter.Name, r.donor.Name, r.phase, word(string(d.Path), "of unknown kind"))
		return
	case d.Relay != a.relay || !r.donor.is(d.Peer):
		f.fail("The connection made %s the hold went through %s, while the address names %s.", r.phase, relay, r.h.peerName(a.relay))
		return
	}
	theirs := r.donorSide(f, p)
	ours := r.relaySide(f, p)
	if f.sound() {
		f.see("%s the hold %s reached %s through %s in %.0f ms, relayed by the records of both ends%s%s.", capital(string(r.phase)),
			r.submitter.Name, r.donor.Name, relay, d.MS, theirs, ours)
	}
}

// listenedOn tells whether the donor had announced the address by then.
func (r *reaching) listenedOn(addr string, by uint64) bool {
	for _, e := range r.donor.of(wire.ListenAddr) {
		if e.Addr == addr && e.Relay != "" && e.line < by {
			return true
		}
	}
	return false
}

// donorSide looks for the donor's record of the connection. The identity of the
// probe is its own, so that there is no mistaking it.
func (r *reaching) donorSide(f *finding, p probe) string {
	for _, e := range r.donor.of(wire.ConnOpened) {
		if e.Peer != p.result.Self || e.Peer == "" {
			continue
		}
		f.cite(e.line)
		if e.Relay == p.result.Relay && e.Direction == "inbound" {
			return " (the donor's connection " + e.Conn + ")"
		}
		f.fail("%s's record of the connection made %s the hold is of another one: %s, %s.", r.donor.Name, r.phase,
			word(e.Direction, "no direction"), word(e.Remote, "no address"))
		return ""
	}
	f.lack("%s has no record of the connection made %s the hold.", r.donor.Name, r.phase)
	return ""
}

// relaySide looks for the record of a relay of our own. A stranger keeps none
// for us.
func (r *reaching) relaySide(f *finding, p probe) string {
	own := r.h.relay(p.result.Relay)
	if own == nil {
		return ""
	}
	for _, e := range own.of(wire.RelayCircuitOpened) {
		if e.Peer == p.result.Self && r.donor.is(e.Target) {
			f.cite(e.line)
			return " and of the relay (its circuit " + e.Circuit + ")"
		}
	}
	f.lack("%s has no record of the circuit made %s the hold.", own.Name, r.phase)
	return ""
}
