package check

import (
	"strings"
	"time"

	"github.com/worldcompute/wce2e/node/wire"
)

// reservation judges that the donor held a reservation, and each of its
// neighbours where it has some.
func reservation(h *history, f *finding) {
	donor := h.donor()
	if donor == nil {
		f.lack("The trace names no donor.")
		return
	}
	if len(donor.of(wire.ReservationMade)) == 0 {
		h.unmet(f, "the reservation")
		return
	}
	f.add(h.reservationOf(donor))
	// What may be done before the hold is done while the donor joins.
	h.tellFaults(f, "While "+donor.Name+" joined", h.upOf(donor), h.faultsBeforeHold())
	for _, x := range h.neighbours() {
		if len(x.of(wire.ReservationMade)) == 0 {
			h.neverReserved(f, x, "The reservation of a neighbour")
			continue
		}
		f.add(h.reservationOf(x))
	}
}

// reservationOf judges a donor's reservation: its own record, its listen address,
// that address in its log, and the relay's word. One reservation of which all
// that is shown will do: the first such one. If there is none, the first one that
// is contradicted decides, else the first one.
func (h *history) reservationOf(donor *host) *finding {
	var best *finding
	for _, e := range donor.of(wire.ReservationMade) {
		if e.Renewal {
			continue
		}
		one := new(finding)
		(&reserving{h: h, f: one, donor: donor, made: e}).judge()
		if one.sound() {
			return one
		}
		if best == nil || len(best.wrong) == 0 && len(one.wrong) > 0 {
			best = one
		}
	}
	if best == nil {
		best = new(finding)
		best.lack("%s tells of renewals only, and not of the reservation that they renew.", donor.Name)
	}
	return best
}

// upOf is when the suite first saw a host's node up.
func (h *history) upOf(x *host) (t time.Time) {
	if len(x.ups) > 0 {
		t = x.ups[0].event.TS
	}
	return t
}

// reserving is one reservation.
type reserving struct {
	h     *history
	f     *finding
	donor *host
	made  said // reservation.made
}

// expiryTolerance: both records of an expiry come from one message, which gives
// whole seconds.
const expiryTolerance = 2 * time.Second

func (r *reserving) judge() {
	relay := r.h.peerName(r.made.Relay)
	r.f.cite(r.made.line)
	if r.made.Relay == "" {
		r.f.lack("%s does not say at which relay it made a reservation.", r.donor.Name)
		return
	}
	addr, ok := r.listening()
	if !ok {
		r.f.lack("%s told of no circuit address through %s.", r.donor.Name, relay)
		return
	}
	r.inLog(addr)
	if len(r.made.Voucher) > 0 {
		r.voucher()
	}
	how := r.relaysWord()
	if r.f.sound() {
		r.f.see("%s holds a reservation at %s until %s and listens on %s, as its log says (NewListenAddr); %s.",
			r.donor.Name, relay, r.made.Expires.UTC().Format(time.RFC3339), addr, how)
	}
}

// listening finds the donor's listen address through the relay.
func (r *reserving) listening() (addr string, ok bool) {
	for _, e := range r.donor.of(wire.ListenAddr) {
		if e.Boot == r.made.Boot && e.Relay == r.made.Relay && isCircuit(e.Addr, r.made.Relay, r.donor) {
			r.f.cite(e.line)
			return e.Addr, true
		}
	}
	return "", false
}

// isCircuit tells whether addr is .../p2p/<relay>/p2p-circuit/p2p/<donor>.
func isCircuit(addr, relay string, donor *host) bool {
	a, ok := parseAddr(addr)
	return ok && relay != "" && a.transport == "circuit" && a.relay == relay && donor.is(a.peer)
}

func (r *reserving) inLog(addr string) {
	text, ok := r.h.in.Logs[r.donor.Name]
	if !ok {
		r.f.lack("There is no log of %s.", r.donor.Name)
		return
	}
	if strings.Contains(string(text), "NewListenAddr("+addr+")") {
		return
	}
	if l := r.donor.log; l != nil && l.Kept == l.Size {
		r.f.fail("The log of %s has no line NewListenAddr(%s).", r.donor.Name, addr)
		return
	}
	r.f.lack("What there is of the log of %s has no line NewListenAddr(%s).", r.donor.Name, addr)
}

// relaysWord looks for the relay's side: its own record, or its signature.
func (r *reserving) relaysWord() string {
	if own := r.h.relay(r.made.Relay); own != nil {
		return r.relaysRecord(own)
	}
	if len(r.made.Voucher) == 0 {
		r.f.lack("%s is not of this inventory, and there is no voucher with its signature.", r.h.peerName(r.made.Relay))
		return ""
	}
	return "the relay is not of this inventory and says so in a voucher with its valid signature"
}

func (r *reserving) relaysRecord(own *host) string {
	if len(own.events) == 0 {
		r.f.lack("There are no events of the relay %s.", own.Name)
		return ""
	}
	var other *said
	for _, e := range own.of(wire.RelayReservation) {
		if e.Outcome != wire.OK || !r.donor.is(e.Peer) {
			continue
		}
		if !sameExpiry(e.Expires, r.made.Expires) {
			other = &e
			continue
		}
		r.f.cite(e.line)
		return own.Name + "'s own record agrees"
	}
	if other != nil {
		r.f.cite(other.line)
		r.f.fail("The records disagree: by %s's the reservation ends at %s, by %s's at %s.", r.donor.Name,
			r.made.Expires.UTC().Format(time.RFC3339), own.Name, other.Expires.UTC().Format(time.RFC3339))
		return ""
	}
	r.f.fail("%s says that %s granted it a reservation, but %s has no record of that.", r.donor.Name, own.Name, own.Name)
	return ""
}

func sameExpiry(a, b time.Time) bool { return a.Sub(b).Abs() <= expiryTolerance }

// voucher verifies the relay's signature, whoever's relay it is.
func (r *reserving) voucher() {
	err := verifyVoucher(r.made.Voucher, voucherTerms{
		relay: r.made.Relay, peer: r.donor.peer(), expires: r.made.Expires,
		after: r.donor.suiteTime(r.made.Time).Add(-r.donor.clockError()),
	})
	if err != nil {
		r.f.fail("The voucher of %s does not hold: %v.", r.h.peerName(r.made.Relay), err)
	}
}
