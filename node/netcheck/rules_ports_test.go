package netcheck

import (
	"slices"
	"testing"
)

// wellKnown is the page whose content is known.
var wellKnown = Record{Operation: Portal, Proto: "http", Addr: "http://portal.example/", Facts: Facts{Status: 200}}

// at4001 is a list with relays at port 4001 only, of which none is reached.
func at4001() *seen {
	return newSeen().here("tcp", Connect, Timeout).here("quic-v1", QUIC, QUICIdleTimeout).aside(stun(Timeout)).aside(version(Datagram, 1200), Timeout)
}

func (s *seen) askedProxy(transport, lead string, f Failure) *seen {
	s.next++
	add(&s.Records, Record{Transaction: s.next, Operation: ProxyTunnel, Transport: transport, Lead: lead, Addr: "http://proxy:3128"}, f)
	return s
}

func TestWhatGetsOutIsToldByAllThatWasTried(t *testing.T) {
	for name, c := range map[string]struct {
		make *seen
		want []Cause
	}{
		"a page comes by port 80, and relays are at another port": {at4001().aside(wellKnown, ""), []Cause{TCPPortsBlocked, UDPBlocked}},
		"a page does not come, nor anything else":                 {at4001().aside(wellKnown, Timeout), []Cause{AllBlocked}},
		"a page comes, and what a proxy forbids may pass without it": {
			at4001().askedProxy("tcp", leads["tcp"], ProxyForbidden).aside(wellKnown, ""), []Cause{TCPPortsBlocked, UDPBlocked, NoControl}},
		"a page comes, and TLS does not pass without the proxy": {
			at4001().here("wss", Connect, Timeout).askedProxy("wss", leads["wss"], "").aside(wellKnown, ""), []Cause{ProxyRequired, UDPBlocked}},
	} {
		t.Run(name, func(t *testing.T) {
			d := Diagnose(c.make.fine().Report)
			if got := causesOf(d); !slices.Equal(sorted(got), sorted(c.want)) {
				t.Errorf("found %v, want %v\n%s", got, c.want, marshal(d))
			}
		})
	}
}
