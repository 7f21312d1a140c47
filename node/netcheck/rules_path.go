package netcheck

import (
	"cmp"
	"slices"
)

// What a path does to anything: sizes, numbers, silence, delay, loss.

// blackHole looks for steps that fail in packets as large as the system makes them
// and succeed in smaller ones.
func blackHole(l *look, found []obstacle) *obstacle {
	if has(found, FlowsLimited) {
		return nil // what is one flow too many fails whatever its size
	}
	var because []int
	var ways []*way
	other := untried
	for _, large := range failing(l.all(Size)) {
		for _, small := range succeeded(slices.Concat(l.all(Size), l.all(Datagram))) {
			if silent(large) && large.ICMP == "" && small.Addr == large.Addr && small.Proto == large.Proto && smaller(small, large) && l.recordElsewhere(large) != fails {
				because, other = append(because, small.ID, large.ID), max(other, l.recordElsewhere(large))
			}
		}
	}
	for _, small := range succeeded(l.all(Size)) {
		for _, w := range l.ways {
			rec := w.failed()
			if rec != nil && silent(*rec) && w.addr == small.Lead && small.Facts.Segment > 0 && small.Proto == string(rec.Operation) && l.elsewhere(w) != fails {
				because, ways, other = append(because, small.ID), append(ways, w), max(other, l.elsewhere(w))
			}
		}
	}
	if len(because) == 0 {
		return nil
	}
	for _, w := range l.ways {
		if rec := w.failed(); rec != nil && silent(*rec) && rec.Operation != Connect && l.elsewhere(w) != fails && !slices.Contains(ways, w) {
			ways = append(ways, w)
		}
	}
	return shown(MTUBlackHole, surer(other), ways, because, "Full-size packets vanish on the way and no ICMP error says so, while small ones pass.")
}

// smaller tells whether two sizes differ in their packets only. Of a datagram, its
// bytes are the packet.
func smaller(a, b Record) bool {
	if a.Proto == "quic-version" {
		return a.Facts.Bytes < b.Facts.Bytes
	}
	return a.Facts.Segment > 0 && b.Facts.Segment == 0 && a.Facts.Bytes >= b.Facts.Bytes*9/10
}

// silent tells of a step that nothing came back to.
func silent(r Record) bool {
	return failedWith(&r, Timeout, SecurityTimeout, MuxerTimeout, QUICIdleTimeout, QUICHandshakeTimeout)
}

// bytesCapped looks for connections that carry a little and then freeze.
func bytesCapped(l *look, found []obstacle) *obstacle {
	if has(found, MTUBlackHole) {
		return nil
	}
	for _, long := range failing(l.all(Size)) {
		other := l.recordElsewhere(long)
		if !silent(long) || other == fails {
			continue
		}
		for _, short := range succeeded(l.all(Size)) {
			if long.Proto == "echo" && short.Proto == "echo" && short.Lead == long.Lead && short.Transport == long.Transport && short.Facts.Bytes < long.Facts.Bytes {
				return shown(BytesCapped, surer(other), nil, []int{short.ID, long.ID},
					"Connections freeze after some bytes: %d pass both ways, %d do not; %d bytes came back.", short.Facts.Bytes, long.Facts.Bytes, long.Received)
			}
		}
	}
	return nil
}

// surer is how well something is shown of which it is known what becomes of it on
// other hosts.
func surer(other elsewhere) Confidence {
	switch other {
	case works:
		return Certain
	case similar:
		return Likely
	}
	return Possible
}

// flowsLimited looks at many connections at once, of which some stood. The probe's own
// are many: those that end as the surplus ends are explained by that.
func flowsLimited(l *look, _ []obstacle) *obstacle {
	many := failing(l.all(Flows))
	if len(many) == 0 || many[0].Facts.Stood == 0 || l.recordElsewhere(many[0]) == fails {
		return nil
	}
	surplus := slices.DeleteFunc(direct(l.blocked(Connect)), func(w *way) bool { return *w.failed().Failure != *many[0].Failure })
	if len(succeeded(l.datagrams())) > 0 {
		surplus = slices.Concat(surplus, direct(l.blocked(QUIC)))
	}
	return shown(FlowsLimited, surer(l.recordElsewhere(many[0])), surplus, idsOf(many), "Of %d connections at once %d stood: the network limits how many one machine may have.",
		many[0].Facts.Tried, many[0].Facts.Stood)
}

func udpTimeout(l *look, found []obstacle) *obstacle {
	if o := l.forgotten(found, UDPTimeout, "UDP", "quic-v1", "webtransport"); o != nil {
		return o
	}
	return l.deaf()
}

// deaf finds QUIC connections to which nothing came in a silence, though it came to
// others. They outlive that their flow is forgotten: what we say later makes another
// one, to which the relay moves (RFC 9000, section 9). But what the relay says
// meanwhile is lost, such as libp2p's keepalive every 15 s: a NAT that remembers for
// longer is not told from one that never forgets. WebTransport's connections are of no
// use here, since libp2p has them say something themselves.
func (l *look) deaf() *obstacle {
	var because []Record
	how := Possible // relays differ in what they say unasked
	for _, r := range succeeded(l.all(Keepalive)) {
		heard := outcome(r.Addr, slices.DeleteFunc(l.controls(Keepalive), func(o Record) bool {
			return o.Transport != r.Transport || o.Facts.Silence != r.Facts.Silence
		}), func(o Record) bool { return o.Facts.Arrived > 0 })
		switch {
		case r.Transport != "quic-v1" || heard < similar:
		case r.Facts.Arrived > 0:
			return nil
		default:
			if because = append(because, r); heard == works {
				how = Likely
			}
		}
	}
	if len(because) == 0 {
		return nil
	}
	return shown(UDPTimeout, how, nil, idsOf(because), "UDP flows that are silent for %.0f seconds are forgotten meanwhile: what a relay says then arrives elsewhere, and not here.",
		because[0].Facts.Silence)
}

func tcpTimeout(l *look, found []obstacle) *obstacle {
	return l.forgotten(found, TCPTimeout, "TCP", "tcp", "ws", "wss", "http", "https")
}

// forgotten finds connections that did not outlive a silence. Those that the other end
// closed in order were not forgotten: it had waited for long enough. One that is reset
// when we speak again may end with its connection or, a moment later, with the stream.
func (l *look) forgotten(found []obstacle, c Cause, what string, transports ...string) *obstacle {
	if has(found, MTUBlackHole) {
		return nil // nothing lasts where large packets vanish
	}
	dead := slices.DeleteFunc(failing(l.all(Keepalive)), func(r Record) bool {
		forgot := silent(r) || failedWith(&r, Reset, StreamReset, QUICReset)
		return !forgot || !slices.Contains(transports, r.Transport) || l.recordElsewhere(r) == fails
	})
	if len(dead) == 0 {
		return nil
	}
	shortest := slices.MinFunc(dead, func(a, b Record) int { return int(a.Facts.Silence - b.Facts.Silence) })
	return shown(c, surer(l.recordElsewhere(shortest)), nil, idsOf(dead), "%s flows that are silent for %.0f seconds are dead afterwards.", what, shortest.Facts.Silence)
}

// slowAfter is a round trip that no distance on Earth explains: a satellite's.
const slowAfter = 0.5 // seconds

// slow is told only of what stands: a dead address is not slow. The quickest of many
// round trips counts: a lost packet makes some of them late, and so does a busy
// machine; a reservation takes no less than one. Connections may be answered by somebody
// in between: libp2p's first bytes are the first that go all the way. Relays that are as
// far from everybody are no network's.
func slow(l *look, _ []obstacle) *obstacle {
	stood := succeeded(slices.Concat(l.all(Multistream), l.all(QUIC)))
	if len(stood) == 0 || quickest(slices.Concat(stood, succeeded(l.all(Reserve)))) < slowAfter {
		return nil
	}
	same := slices.DeleteFunc(succeeded(slices.Concat(l.controls(Multistream), l.controls(QUIC))), func(o Record) bool {
		return !slices.ContainsFunc(stood, func(r Record) bool { return r.Addr == o.Addr })
	})
	how := Possible
	if len(same) > 0 {
		if how = Likely; quickest(same) >= slowAfter {
			return nil
		}
	}
	return shown(Slow, how, nil, idsOf(stood), "Round trips are long: of %d the quickest took %.1f seconds.", len(stood), quickest(stood))
}

// quickest is how long the quickest of some records took, in seconds.
func quickest(list []Record) float64 {
	return slices.MinFunc(list, func(a, b Record) int { return cmp.Compare(a.T, b.T) }).T
}

// lossLeast is how many must be lost, of datagrams and of messages on a TCP
// connection, before it is worth a word: a busy machine is late as well.
var lossLeast = map[string]int{"stun": 2, "ping": 3}

// lossy looks at how many datagrams came back, beside how many did elsewhere: a busy
// server loses them for everybody. Where most are lost, it is no loss, but a limit. TCP
// is looked at where there is nothing else.
func lossy(l *look, found []obstacle) *obstacle {
	proto := "stun"
	here := losses(l.all(Loss), proto)
	if here.tried == 0 {
		proto = "ping"
		here = losses(l.all(Loss), proto)
	}
	if lost := here.tried - here.stood; lost < lossLeast[proto] || 2*lost > here.tried || has(found, FlowsLimited) {
		return nil
	}
	how := Possible
	if there := losses(l.controls(Loss), proto); there.tried > 0 {
		if how = Likely; 3*there.share() > here.share() {
			return nil
		}
	}
	return shown(Lossy, how, nil, here.ids, "Packets get lost: %d were sent, and %d were answered, or in time.", here.tried, here.stood)
}

// loss is what several Loss records come to.
type loss struct {
	tried, stood int
	ids          []int
}

func losses(records []Record, proto string) (sum loss) {
	for _, r := range records {
		if r.Proto == proto && r.Failure == nil {
			sum.tried, sum.stood, sum.ids = sum.tried+r.Facts.Tried, sum.stood+r.Facts.Stood, append(sum.ids, r.ID)
		}
	}
	return sum
}

// share is how much did not come back.
func (s loss) share() float64 { return 1 - float64(s.stood)/float64(s.tried) }

// littleRate is what a few jobs a minute take, in bytes a second.
const littleRate = 128 << 10

// farFlow is how many round trips a long flow takes that nothing holds back: one opens its
// stream, and TCP grows its window in the others. At 600 ms the lab's takes seven.
const farFlow = 10

// throttled looks at what the longest flow carried, beside what others' did from the
// same relays: a busy machine or relay is slow for everybody.
func throttled(l *look, found []obstacle) *obstacle {
	if has(found, Slow) || has(found, Lossy) || has(found, BytesCapped) || has(found, MTUBlackHole) {
		return nil // which explain it
	}
	here, because := fastest(l.all(Size))
	others, how, whose := l.controls(Size), Possible, "from other relays"
	same := slices.DeleteFunc(slices.Clone(others), func(o Record) bool { return !l.carriedAt(o.Addr) })
	if there, _ := fastest(same); there > 0 {
		others, how, whose = same, Likely, "from the same relays"
	}
	there, _ := fastest(others)
	if here == 0 || here > littleRate || there < 4*here || l.farAway(here) {
		return nil
	}
	return shown(Throttled, how, nil, because, "The network carries %.0f kbit/s; another one carries %.0f kbit/s %s.", here*8/1000, there*8/1000, whose)
}

// farAway tells whether distance explains that our best flow carried no more.
func (l *look) farAway(rate float64) bool {
	trips := succeeded(slices.Concat(l.all(Multistream), l.all(QUIC)))
	for _, r := range succeeded(l.all(Size)) {
		if best, _ := fastest([]Record{r}); best != rate {
			continue
		}
		there := slices.DeleteFunc(slices.Clone(trips), func(o Record) bool { return o.Addr != r.Addr })
		if len(there) > 0 && r.T < farFlow*quickest(there) {
			return true
		}
	}
	return false
}

// carriedAt tells whether a long flow of ours to an address was measured.
func (l *look) carriedAt(addr string) bool {
	rate, _ := fastest(slices.DeleteFunc(l.all(Size), func(r Record) bool { return r.Addr != addr }))
	return rate > 0
}

// fastest is the best rate of the long flows among records, in bytes a second.
func fastest(records []Record) (rate float64, ids []int) {
	for _, r := range succeeded(records) {
		if r.Proto == "echo" && r.Facts.Bytes >= 32<<10 && r.T > 0 {
			rate, ids = max(rate, float64(r.Facts.Bytes)/r.T), append(ids, r.ID)
		}
	}
	return rate, ids
}
