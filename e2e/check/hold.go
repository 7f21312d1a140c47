package check

import (
	"fmt"
	"slices"
	"time"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/wire"
)

// maxSilence is the longest time between two round trips for which a connection
// still counts as held: the time after which a library's own keepalive would
// have given it up (yamux: 30 s between pings).
const maxSilence = 30 * time.Second

// hold judges that the donor kept one connection to a relay, as long as planned.
// What is claimed is a lower bound that can be proven: the time from the first
// to the last confirmed round trip on that very connection.
func hold(h *history, f *finding) {
	donor := h.donor()
	if h.holdFrom == nil {
		h.unmet(f, "the hold")
		return
	}
	if donor == nil || donor.Name != h.holdFrom.host {
		f.lack("The connection held is not the donor's.")
		return
	}
	f.cite(h.holdFrom.seq)
	k, ok := keptBy(h, f, donor)
	if !ok {
		return
	}
	k.donorSide()
	k.interrupted()
	h.tellFaults(f, "During the hold", h.holdFrom.event.TS, h.faultsInHold())
	k.otherSide()
	if f.sound() {
		k.tell()
	}
}

// kept is the connection that was to be held.
type kept struct {
	h       *history
	f       *finding
	donor   *host
	boot    *boot // of the donor's node
	opened  said  // conn.opened
	planned time.Duration
	own     *host // the relay, if it is one of the inventory

	pings    []said // that were answered, within the run of pings that proves most
	answered int    // of all round trips on the connection
	missed   int
	relayed  string // what the relay's side shows
}

// keptBy finds the connection that hold.started names among the donor's.
func keptBy(h *history, f *finding, donor *host) (*kept, bool) {
	from := h.holdFrom
	k := &kept{h: h, f: f, donor: donor, own: h.relay(from.Relay)}
	k.planned = max(time.Duration(from.Planned), time.Duration(h.started.Hold))
	if from.Relay == "" || from.Conn == "" {
		f.lack("The trace does not name the connection to be held.")
		return k, false
	}
	for _, b := range donor.boots {
		if e, ok := b.connOpened(from.Conn); ok && e.line < from.seq {
			k.boot, k.opened = b, e // the last such start: IDs are unique per start
		}
	}
	switch {
	case k.boot == nil:
		f.lack("%s has no record of the connection %s that was to be held.", donor.Name, from.Conn)
		return k, false
	case k.opened.Peer != from.Relay || k.opened.Relay != "":
		f.lack("The connection %s that was to be held is not one to the relay %s.", from.Conn, h.peerName(from.Relay))
		return k, false
	case k.planned <= 0:
		f.lack("The trace does not say how long the hold was to be.")
		return k, false
	}
	f.cite(k.opened.line)
	return k, true
}

// donorSide measures what the donor's round trips prove.
func (k *kept) donorSide() {
	var run []said
	for _, e := range k.boot.of(wire.RelayPing) {
		if e.Conn != k.opened.Conn || e.Relay != k.opened.Peer {
			continue
		}
		if e.Outcome != wire.OK {
			k.missed++
			continue
		}
		k.answered++
		if len(run) > 0 && e.Time.Sub(run[len(run)-1].Time) > maxSilence {
			run = nil
		}
		run = append(run, e)
		if span(run) >= span(k.pings) {
			k.pings = run // grows with run, but never changes
		}
	}
	switch proven := span(k.pings); {
	case len(k.pings) == 0:
		k.f.lack("No round trip was confirmed on the connection to %s.", k.name())
	case proven < k.planned && k.missed > 0:
		k.f.fail("The connection to %s is proven for %v of %v only: %d round trips were answered, %d were not.", k.name(), round(proven), k.planned, k.answered, k.missed)
	case proven < k.planned:
		k.f.lack("The connection to %s is proven for %v of %v only: %d round trips, none of them unanswered.", k.name(), round(proven), k.planned, k.answered)
	}
	if n := len(k.pings); n > 0 {
		k.f.cite(k.pings[0].line, k.pings[n-1].line)
	}
}

// span is the time from the first to the last of some events.
func span(events []said) time.Duration {
	if len(events) == 0 {
		return 0
	}
	return events[len(events)-1].Time.Sub(events[0].Time)
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }

// interrupted looks for an end of the connection, the node or the run before the
// hold was over.
func (k *kept) interrupted() {
	to := k.h.holdTo
	if closed, ok := k.boot.connClosed(k.opened.Conn); ok && k.beforeEnd(closed) {
		k.f.fail("The connection to %s closed %v after it had opened, before the hold was over%s.", k.name(),
			round(closed.Time.Sub(k.opened.Time)), because(closed.Err))
		k.f.cite(closed.line)
	}
	for _, e := range k.boot.of(wire.NodeStopped) {
		if k.beforeEnd(e) {
			k.f.fail("The node of %s, which held the connection, stopped before the hold was over.", k.donor.Name)
			k.f.cite(e.line)
		}
	}
	for _, e := range k.donor.exits {
		if to != nil && e.seq > to.seq && to.Cut == "" {
			continue
		}
		k.f.cite(e.seq)
		if e.Lease {
			k.f.lack("The node of %s ended before the hold was over: %s.", k.donor.Name, e)
			continue
		}
		k.f.fail("The node of %s ended before the hold was over: %s.", k.donor.Name, e)
	}
	switch {
	case to == nil:
		k.f.lack("The end of the hold is not in the trace.")
	case to.Conn != k.opened.Conn || to.Relay != k.opened.Peer:
		k.f.lack("The hold began with one connection and ended with another.")
	case to.Cut != "":
		k.f.lack("The hold was cut short: %s.", to.Cut)
	}
	if to != nil {
		k.f.cite(to.seq)
	}
}

func because(err string) string {
	if err == "" {
		return ""
	}
	return " (" + err + ")"
}

// beforeEnd tells whether an event of the donor came before the end of the hold:
// by the order of the trace, or by the clocks beyond their error. Where the end
// is not in the trace, it is when it was planned to be.
func (k *kept) beforeEnd(e said) bool {
	end := k.h.holdFrom.event.TS.Add(k.planned)
	if to := k.h.holdTo; to != nil {
		if e.line < to.seq {
			return true
		}
		end = to.event.TS
	}
	return k.donor.suiteTime(e.Time).Add(k.donor.clockError()).Before(end)
}

// otherSide looks for the relay's own record, or, where the relay is a
// stranger's, for circuits through it at both ends of the hold.
func (k *kept) otherSide() {
	if len(k.pings) == 0 {
		return
	}
	if k.own == nil {
		k.strangersRelay()
		return
	}
	if !k.own.clockKnown() || !k.donor.clockKnown() {
		k.f.lack("The clocks of %s and %s were not compared: their records cannot be put side by side.", k.donor.Name, k.own.Name)
		return
	}
	spans := k.spanning()
	switch len(spans) {
	case 0:
		k.f.lack("%s has no record of one connection from %s that stood for all that time.", k.own.Name, k.donor.Name)
		return
	case 1:
	default:
		k.f.lack("%s has record of %d connections from %s at that time, and it cannot be told which one is meant.", k.own.Name, len(spans), k.donor.Name)
		return
	}
	c := spans[0]
	k.f.cite(c.line)
	k.reservedOn(c)
	k.relayed = fmt.Sprintf("%s's own record shows one connection from %s for all that time", k.own.Name, remoteOf(c.said))
}

func remoteOf(e said) string {
	if a, ok := parseAddr(e.Remote); ok {
		return a.hostPort()
	}
	return e.Remote
}

// stood is a connection in the relay's record.
type stood struct {
	said
	boot *boot
}

// spanning gives the donor's connections that stood, by the relay's record, from
// the donor's first round trip to its last.
func (k *kept) spanning() []stood {
	within := k.donor.clockError() + k.own.clockError()
	first := k.donor.suiteTime(k.pings[0].Time).Add(within)
	last := k.donor.suiteTime(k.pings[len(k.pings)-1].Time).Add(-within)
	var out []stood
	for _, b := range k.own.boots {
		for _, e := range b.of(wire.ConnOpened) {
			if !k.donor.is(e.Peer) || e.Relay != "" || plainName(e.Transport) != plainName(k.opened.Transport) {
				continue
			}
			end := b.last() // still open when the record ends
			if closed, ok := b.connClosed(e.Conn); ok {
				end = closed
			}
			if !k.own.suiteTime(e.Time).After(first) && !k.own.suiteTime(end.Time).Before(last) {
				out = append(out, stood{e, b})
			}
		}
	}
	return k.sameEnd(out)
}

// plainName is a transport without the TLS around a WebSocket, which may end in
// front of the relay.
func plainName(transport string) string {
	if transport == "wss" {
		return "ws"
	}
	return transport
}

// sameEnd tells connections apart by the donor's address as the relay sees it,
// where the donor's record of the held connection holds it.
func (k *kept) sameEnd(spans []stood) []stood {
	for _, e := range k.boot.of(wire.ObservedAddr) {
		if e.Conn != k.opened.Conn || len(spans) < 2 {
			continue
		}
		seen, ok := parseAddr(e.Addr)
		same := slices.DeleteFunc(slices.Clone(spans), func(s stood) bool {
			a, valid := parseAddr(s.Remote)
			return !ok || !valid || a.hostPort() != seen.hostPort()
		})
		if len(same) > 0 {
			return same
		}
	}
	return spans
}

// reservedOn makes sure that the relay granted a reservation on the connection.
func (k *kept) reservedOn(c stood) {
	for _, e := range c.boot.of(wire.RelayReservation) {
		if e.Conn == c.Conn && e.Outcome == wire.OK && k.donor.is(e.Peer) {
			k.f.cite(e.line)
			return
		}
	}
	k.f.lack("%s has no record of a reservation on that connection.", k.own.Name)
}

// strangersRelay needs the submitter's circuits through that relay, at both ends
// of the hold: the only other witness there is.
func (k *kept) strangersRelay() {
	submitter := k.h.submitter()
	if submitter == nil {
		k.f.lack("The trace names no submitter who could confirm the connection.")
		return
	}
	for _, p := range phases {
		i := slices.IndexFunc(k.h.probesFor(submitter, evidence.CircuitDial), func(c probe) bool {
			return c.result.Outcome == wire.OK && c.result.Relay == k.opened.Peer && k.donor.is(c.result.Peer) && k.h.inPhase(c.seq, p)
		})
		if i < 0 {
			k.f.lack("%s is not of this inventory, and %s made no circuit through it %s the hold that would confirm the connection.", k.name(), submitter.Name, p)
			return
		}
		k.f.cite(k.h.probesFor(submitter, evidence.CircuitDial)[i].seq)
	}
	k.relayed = fmt.Sprintf("%s dialled %s through it before and after", submitter.Name, k.donor.Name)
}

// name says whose relay it is.
func (k *kept) name() string {
	if k.own != nil {
		return k.own.Name + " (a relay of our own)"
	}
	if slices.Contains(publicBootstrappers, k.opened.Peer) {
		return k.h.peerName(k.opened.Peer) + " (a public bootstrap relay)"
	}
	return k.h.peerName(k.opened.Peer) + " (a volunteer's relay)"
}

// publicBootstrappers are the peers that libp2p's own bootstrap list names
// (bootstrap.libp2p.io, its va1, and mars.i.ipfs.io). Names do not count: anybody's DNS
// can hold anybody's relay.
var publicBootstrappers = []string{
	"QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN",
	"QmQCU2EcMqAqQPR2i9bChDtGNJchTbq5TbXJJ16u19uLTa",
	"QmbLHAnMoJPWSCR5Zhtx6BHJX9KiKNN6tpvbUcqanj75Nb",
	"QmcZf59bWwK5XFi76CZX8cbJ4BhTzzA3gU1ZjYZcYW3dwt",
	"QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ",
	"12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8",
}

// tell sums up a hold that was proven.
func (k *kept) tell() {
	var rtts []float64
	var longest time.Duration
	for i, e := range k.pings {
		rtts = append(rtts, e.MS)
		if i > 0 {
			longest = max(longest, e.Time.Sub(k.pings[i-1].Time))
		}
	}
	slices.Sort(rtts)
	k.f.see("One connection to %s over %s, proven for %v (%v were planned): %d round trips, median %.1f ms, slowest %.1f ms, %v between two at most, %d unanswered; %s.",
		k.name(), k.opened.Transport, round(span(k.pings)), k.planned, len(k.pings), rtts[len(rtts)/2], rtts[len(rtts)-1],
		round(longest), k.missed, k.relayed)
}
