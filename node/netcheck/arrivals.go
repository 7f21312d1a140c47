package netcheck

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// What the relays' own records say of connections that came to nothing. Both ends
// of a connection may see a reset, or nothing more; only together do they tell
// whether one of them did it, or somebody in between.

// Arrival is a connection that a relay saw come in by TCP, from an address by which
// this host leaves its network, and end before libp2p's security handshake on it
// had succeeded.
type Arrival struct {
	Host     string  `json:"host"`   // the relay's name in the inventory
	Peer     string  `json:"peer"`   // the relay
	Local    string  `json:"local"`  // IP:port at the relay, which a NAT may show as another one
	Remote   string  `json:"remote"` // IP:port, as the relay sees us
	T0       float64 `json:"t0"`     // seconds since Report.Began
	T        float64 `json:"t"`      // seconds it lasted
	Within   float64 `json:"within"` // seconds by which T0 may be wrong: clocks of two hosts differ
	Received int64   `json:"received"`
	Sent     int64   `json:"sent"`
	// Failure is how it ended at the relay: Reset and EOF by the other end, Timeout
	// when that said no more, ResourceLimit when the relay had no room, and Aborted
	// when it hung up on what it had got.
	Failure Failure `json:"failure"`
	Error   string  `json:"error"` // the raw error
}

// cut is a try that died on a connection that stood, and what its relay says of it.
type cut struct {
	step    Record // at which it died
	sent    int64  // bytes, until then
	arrival Arrival
}

// cuts are those tries of some ways of which a relay says something.
func (l *look) cuts(ways []*way) (list []cut) {
	for _, w := range direct(ways) {
		for _, try := range w.tries {
			if c, ok := l.cutOf(try); ok {
				list = append(list, c)
			}
		}
	}
	return list
}

func (l *look) cutOf(try []Record) (c cut, ok bool) {
	connected := slices.IndexFunc(try, func(r Record) bool { return r.Operation == Connect && r.Failure == nil })
	died := slices.IndexFunc(try, func(r Record) bool { return r.Failure != nil })
	if connected < 0 || died < 0 {
		return c, false
	}
	c.step = try[died]
	for _, r := range try[:died+1] {
		c.sent += r.Sent
	}
	a := l.arrivalOf(try[connected], c.sent)
	if a == nil {
		return c, false
	}
	c.arrival = *a
	return c, true
}

// arrivalOf is what a relay saw of a connection: the one that began nearest to it,
// and of which no more arrived than was sent.
func (l *look) arrivalOf(connect Record, sent int64) (nearest *Arrival) {
	began := connect.T0 + connect.T
	away := math.Inf(1)
	for i, a := range l.r.Arrivals {
		off := math.Abs(a.T0 - began)
		if a.at(connect) && a.Received <= sent && off <= a.Within+connect.T && off < away {
			nearest, away = &l.r.Arrivals[i], off
		}
	}
	return nearest
}

// at tells whether an arrival was where a connection led: at its address, or, where
// the relay is behind a NAT, at the same port of the same peer.
func (a Arrival) at(connect Record) bool {
	if a.Local == connect.Addr {
		return true
	}
	return a.Peer != "" && strings.HasSuffix(connect.Lead, "/p2p/"+a.Peer) &&
		port(a.Local) == port(connect.Addr) && isIPv6(a.Local) == isIPv6(connect.Addr)
}

// refused tells whether the relay did it: it says so itself, and unless it did not
// even want to read what was sent, all of that had arrived, and this host was told.
func (c cut) refused() bool {
	switch c.arrival.Failure {
	case ResourceLimit, Gated:
		return true
	case Aborted:
		// Before libp2p's own words it may have been somebody else's hello.
		early := c.step.Operation == TLS || c.step.Operation == Upgrade
		return !early && !silent(c.step) && c.arrival.Received == c.sent
	}
	return false
}

// between tells whether somebody in between did it: this host was told of an end
// that the relay has not made. A reset leaves this host with nothing to say, so it
// has not made the relay's either.
func (c cut) between() bool {
	told := failedWith(&c.step, Reset, SecurityReset)
	return told && slices.Contains([]Failure{Reset, EOF, Timeout}, c.arrival.Failure)
}

// swallowed tells whether what followed the connection vanished.
func (c cut) swallowed() bool {
	return silent(c.step) && c.sent > 0 && slices.Contains([]Failure{Reset, EOF, Timeout}, c.arrival.Failure)
}

// relayRefuses looks for relays that say themselves that they hung up: no firewall,
// whatever others saw of them.
func relayRefuses(l *look, found []obstacle) *obstacle {
	var ways []*way
	full, closed := 0, 0
	for _, w := range unexplained(l.ways, found) {
		if w.stands() {
			continue
		}
		cuts := l.cuts([]*way{w})
		if len(cuts) == 0 || slices.ContainsFunc(cuts, func(c cut) bool { return !c.refused() }) {
			continue
		}
		ways = append(ways, w)
		if cuts[0].arrival.Failure == Aborted {
			closed++
		} else {
			full++
		}
	}
	switch {
	case full > 0:
		return shown(RelayRefuses, Certain, ways, nil, "A relay itself closed what arrived, unread: it has no room for more connections, or none for us.")
	case closed > 0:
		return shown(RelayRefuses, Likely, ways, nil, "A relay itself closed the connection, after all that was sent to it had arrived.")
	}
	return nil
}

// killing are the causes about which a relay may know more: those that kill
// connections that stand.
var killing = []Cause{MultistreamKilled, HandshakeKilled, NameKilled, MTUBlackHole}

// askRelays adds to what was found what relays say of it. Where one shows that it
// was neither end, libp2p's first bytes are certainly what somebody looks for.
func (l *look) askRelays(found []obstacle) {
	for i, o := range found {
		if !slices.Contains(killing, o.Cause) {
			continue
		}
		says, neither := relaysSay(l.cuts(o.ways))
		if says != "" {
			found[i].Sentence += " " + says
		}
		if neither && o.Cause == MultistreamKilled {
			found[i].Confidence = Certain
		}
	}
}

// relaysSay puts into words what relays say; neither tells whether they show that
// neither end ended a connection.
func relaysSay(cuts []cut) (says string, neither bool) {
	var reset, unread, answered, closed []cut
	for _, c := range cuts {
		switch {
		case c.between():
			reset = append(reset, c)
		case c.swallowed() && c.arrival.Received == 0:
			unread = append(unread, c)
		case c.swallowed() && c.step.Received == 0:
			answered = append(answered, c)
		case c.refused(), c.arrival.Failure == Aborted:
			closed = append(closed, c)
		}
	}
	switch {
	case len(reset) > 0:
		return fmt.Sprintf("The relay received %d bytes %s. Neither end closed the connection: something in between did.", reset[0].arrival.Received, thenWhat(reset[0].arrival)), true
	case len(unread) > 0:
		return "The relay saw the connection, and nothing of what followed on it.", false
	case len(answered) > 0:
		a := answered[0].arrival
		return fmt.Sprintf("The relay received %d bytes and answered with %d, of which none came back.", a.Received, a.Sent), false
	case len(closed) > 0:
		return fmt.Sprintf("The relay itself closed the connection, after %d bytes.", closed[0].arrival.Received), false
	}
	return "", false
}

func thenWhat(a Arrival) string {
	switch a.Failure {
	case Reset:
		return "and then a reset"
	case EOF:
		return "and then an end"
	}
	return "and waited in vain for more"
}
