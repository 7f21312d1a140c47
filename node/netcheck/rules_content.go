package netcheck

import (
	"slices"
)

// What is stopped for what it carries.

func quicBlocked(l *look, found []obstacle) *obstacle {
	if has(found, UDPBlocked) || has(found, MTUBlackHole) {
		return nil
	}
	alive := map[string]bool{}
	for _, r := range succeeded(l.all(Datagram)) {
		alive[r.Addr] = true
	}
	lost := slices.DeleteFunc(unexplained(direct(l.blocked(QUIC)), found), func(w *way) bool { return !alive[w.hostPort()] || w.answered() })
	if len(lost) == 0 || slices.ContainsFunc(l.ways, func(w *way) bool { return w.passed(QUIC) }) {
		return nil
	}
	return shown(QUICBlocked, Certain, lost, nil, "UDP gets out, and other packets to the same ports are answered; packets that begin a QUIC connection are not.")
}

// largeHelloKilled looks for large hellos that fail in packets of any size, where
// the daemon's own, smaller one passed.
func largeHelloKilled(l *look, found []obstacle) *obstacle {
	if has(found, MTUBlackHole) || has(found, FlowsLimited) {
		return nil // which explain it
	}
	passed := map[string]bool{} // any hello, by the address
	var whole, cut []Record
	for _, r := range l.ours {
		switch {
		case r.Operation == TLS && r.Failure == nil, r.Operation == Size && r.Proto == "tls" && r.Failure == nil:
			passed[r.Addr] = passed[r.Addr] || r.Operation == TLS
		case r.Operation == Size && r.Proto == "tls" && r.Facts.Segment == 0:
			whole = append(whole, r)
		case r.Operation == Size && r.Proto == "tls":
			cut = append(cut, r)
		}
	}
	for _, a := range whole {
		other := l.recordElsewhere(a)
		for _, b := range cut {
			if a.Addr == b.Addr && passed[a.Addr] && other != fails {
				return shown(LargeHelloKilled, surer(other), nil, []int{a.ID, b.ID},
					"TLS hellos of %d bytes are stopped, in packets of any size, while small ones pass.", max(a.Facts.Bytes, b.Facts.Bytes))
			}
		}
	}
	return nil
}

// nameKilled looks for TLS that gets through once another name stands in it, or none.
func nameKilled(l *look, found []obstacle) *obstacle {
	var because []Record
	var lost []*way
	for _, r := range l.ours {
		if r.Operation != Harmless || r.Proto != "tls" {
			continue
		}
		kept := slices.DeleteFunc(unexplained(direct(l.blocked(TLS)), found), func(w *way) bool { return w.hostPort() != r.Addr })
		if r.Failure == nil && len(kept) > 0 || r.Failure != nil && !has(found, FlowsLimited) && l.strangerStopped(r) && l.passedTLS(r.Addr) {
			because, lost = append(because, r), append(lost, kept...)
		}
	}
	if len(because) == 0 {
		return nil
	}
	other := because[0]
	if other.Failure == nil {
		return shown(NameKilled, Certain, lost, idsOf(because), "TLS to the relays is stopped; with the name %s in it, it gets through to the same addresses.", other.Facts.Question)
	}
	return shown(NameKilled, Certain, nil, idsOf(because), "TLS to the relays gets through; with the name %s in it, it is stopped on its way to the same addresses.", other.Facts.Question)
}

// strangerStopped tells whether a hello with a name that its server does not know was
// stopped on its way. A server that takes no such hello says so by an alert, or hangs up on
// everybody: what another server does is of no use here.
func (l *look) strangerStopped(r Record) bool {
	return (silent(r) || failedWith(&r, Reset, EOF)) && l.recordElsewhere(r) == works
}

// passedTLS tells whether a dial of ours got through TLS at an address.
func (l *look) passedTLS(addr string) bool {
	return slices.ContainsFunc(l.ways, func(w *way) bool { return w.hostPort() == addr && w.passed(TLS) })
}

func multistreamKilled(l *look, found []obstacle) *obstacle {
	lost := unexplained(l.openings(), found)
	if len(lost) == 0 {
		return nil
	}
	var steps []Record
	for _, w := range lost {
		steps = append(steps, *w.failed())
	}
	tried := l.harmless(lost)
	how, because, others := Likely, []Record{}, ""
	switch passed, arrived := answeredOf(tried), l.arrivedOf(tried, lost); {
	case len(passed) > 0:
		how, because, others = Certain, passed, " Other bytes to the same address pass."
	case len(arrived) > 0:
		because, others = arrived, " Other bytes to the same address arrive there."
	case len(tried) > 0:
		how, because, others = Possible, tried, " A web browser's request to the same address gets nothing back either: it may be all that is spoken there."
	}
	return shown(MultistreamKilled, how, lost, idsOf(because), "Connections that open like libp2p's (/multistream/1.0.0) are killed: %s.%s", howKilled(steps), others)
}

// openings are the ways over plain TCP on which nothing came back to libp2p's first bytes,
// and does elsewhere.
func (l *look) openings() []*way {
	return slices.DeleteFunc(over(direct(l.blocked(Multistream)), "tcp"), (*way).answered)
}

// answered tells of a way at whose end somebody answered, if in a way that is of no use.
func (w *way) answered() bool {
	rec := w.failed()
	return rec != nil && rec.Failure.Answered()
}

// harmless are a web browser's requests to addresses at which ways were lost.
func (l *look) harmless(lost []*way) []Record {
	return slices.DeleteFunc(l.all(Harmless), func(r Record) bool {
		return r.Proto != "http" || !slices.ContainsFunc(lost, func(w *way) bool { return w.hostPort() == r.Addr })
	})
}

// answeredOf are those requests to which something came back.
func answeredOf(harmless []Record) []Record {
	return slices.DeleteFunc(succeeded(harmless), func(r Record) bool { return r.Received == 0 })
}

// arrivedOf are those requests of which a relay saw more come in than libp2p's first bytes.
// What it answers may be libp2p's all the same, and not come back.
func (l *look) arrivedOf(harmless []Record, lost []*way) []Record {
	var opening int64 // the most that a try had sent
	for _, w := range lost {
		for _, try := range w.tries {
			var sent int64
			for _, r := range try {
				sent += r.Sent
			}
			opening = max(opening, sent)
		}
	}
	return slices.DeleteFunc(slices.Clone(harmless), func(r Record) bool {
		return !slices.ContainsFunc(l.r.Arrivals, func(a Arrival) bool {
			meanwhile := a.T0 >= r.T0-a.Within && a.T0 <= r.T0+r.T+a.Within
			return a.at(r) && meanwhile && a.Received > opening && a.Received <= r.Sent
		})
	})
}

// anythingDies tells whether it is not only libp2p that gets no answer where libp2p gets
// none.
func (l *look) anythingDies() bool {
	lost := l.openings()
	tried := l.harmless(lost)
	return len(tried) > 0 && len(answeredOf(tried)) == 0 && len(l.arrivedOf(tried, lost)) == 0
}

func howKilled(steps []Record) string {
	for _, r := range steps {
		if failedWith(&r, Reset, SecurityReset, EOF, SecurityEOF) {
			return "they are reset at once"
		}
	}
	return "what follows vanishes, and nobody is told"
}

// libp2p's names for its handshakes, which are Security's Proto.
const protoNoise, protoTLS = "/noise", "/tls/1.0.0"

// alpnKilled looks for libp2p's TLS that dies where its Noise passes.
func alpnKilled(l *look, found []obstacle) *obstacle {
	if has(found, MTUBlackHole) || has(found, LargeHelloKilled) {
		return nil // libp2p's TLS begins with a large hello
	}
	noise := map[string]bool{}
	for _, r := range l.ours {
		if r.Operation == Security && r.Proto == protoNoise && r.Failure == nil {
			noise[r.Lead] = true
		}
	}
	var because []Record
	other := untried
	for _, r := range l.ours {
		if r.Operation == Security && r.Proto == protoTLS && r.Failure != nil && !r.Failure.Answered() && noise[r.Lead] && l.recordElsewhere(r) != fails {
			because, other = append(because, r), max(other, l.recordElsewhere(r))
		}
	}
	if len(because) == 0 {
		return nil
	}
	return shown(ALPNKilled, surer(other), nil, idsOf(because), "TLS that offers the protocol libp2p is killed: %s. Noise to the same address passes.", howKilled(because))
}

func handshakeKilled(l *look, found []obstacle) *obstacle {
	lost := unexplained(slices.Concat(l.blocked(Security), l.blocked(Muxer), l.blocked(Identify)), found)
	lost = slices.DeleteFunc(over(direct(lost), "tcp"), (*way).answered)
	if len(lost) == 0 {
		return nil
	}
	var steps []Record
	for _, w := range lost {
		steps = append(steps, *w.failed())
	}
	return shown(HandshakeKilled, Certain, lost, nil, "Connections open like libp2p's and die during the handshake: %s.", howKilled(steps))
}
