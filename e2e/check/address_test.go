package check

import (
	"testing"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/wire"
)

func TestAddressesAreTakenApart(t *testing.T) {
	for _, c := range []struct {
		addr, transport, hostPort, relay, peer string
	}{
		{"/ip4/45.1.0.2/tcp/4001", "tcp", "45.1.0.2:4001", "", ""},
		{"/ip6/2a00::1/udp/4001/quic-v1/p2p/" + donorID, "quic-v1", "[2a00::1]:4001", "", donorID},
		{"/ip4/45.1.0.2/udp/4001/quic-v1/webtransport", "webtransport", "45.1.0.2:4001", "", ""},
		{"/dns4/relay.example.net/tcp/443/tls/sni/relay.example.net/ws", "wss", "port 443", "", ""},
		{"/ip4/45.1.0.2/tcp/443/wss", "wss", "45.1.0.2:443", "", ""},
		{"/ip4/45.1.0.2/tcp/80/ws", "ws", "45.1.0.2:80", "", ""},
		{"/ip4/45.1.0.2", "", "45.1.0.2:", "", ""},
		{circuitAddr, "circuit", "45.9.0.10:443", relayID, donorID},
	} {
		a, ok := parseAddr(c.addr)
		if !ok || a.transport != c.transport || a.hostPort() != c.hostPort || a.relay != c.relay || a.peer != c.peer {
			t.Errorf("%s: %+v, %s", c.addr, a, a.hostPort())
		}
	}
	for addr, want := range map[string]string{"/ip4/45.1.0.2/tcp/1": "ip4", "/ip6/::ffff:45.1.0.2/tcp/1": "ip4", "/ip6/2a00::1/tcp/1": "ip6", "/dns4/a.example/tcp/1": ""} {
		if a, _ := parseAddr(addr); a.family() != want {
			t.Errorf("%s is of family %q, want %q", addr, a.family(), want)
		}
	}
	for _, addr := range []string{"", "45.1.0.2:4001", "/ip4/45.1.0/tcp/4001", "/ip4/45.1.0.2/tcp/99999", "/nonsense/1"} {
		if a, ok := parseAddr(addr); ok {
			t.Errorf("%q is taken for an address: %+v", addr, a)
		}
	}
}

func TestEgressIsWhatOthersSaw(t *testing.T) {
	none := egress{}.String()
	conn := func(host, peer, direction, remote string) func(*story) {
		return func(s *story) {
			s.says(0, host, wire.Event{Kind: wire.ConnOpened, Peer: peer, Direction: direction, Remote: remote})
		}
	}
	observed := func(addr string) func(*story) {
		return func(s *story) { s.says(0, donorName, wire.Event{Kind: wire.ObservedAddr, Addr: addr}) }
	}
	probe := func(host string, outcome wire.Outcome) func(*story) {
		return func(s *story) {
			s.probes(0, host, evidence.Probe{}, wire.DialResult{Outcome: outcome, Observed: "/ip4/45.1.0.9/tcp/1"})
		}
	}
	for name, c := range map[string]struct {
		tell func(*story)
		want string
	}{
		"a peer of its node":                 {observed("/ip4/45.1.0.9/tcp/1"), "45.1.0.9"},
		"a peer on its own network":          {observed("/ip4/192.168.1.9/tcp/1"), none},
		"a peer behind the same carrier NAT": {observed("/ip4/100.64.1.9/tcp/1"), none},
		"its own machine":                    {observed("/ip6/::1/tcp/1"), none},
		"a peer through a relay":             {observed("/ip4/45.1.0.9/tcp/1/p2p/" + relayID + "/p2p-circuit"), none},
		"nothing that is an address":         {observed("somewhere"), none},
		"a relay of ours":                    {conn(relayName, donorID, "inbound", "/ip4/45.1.0.9/tcp/1"), "45.1.0.9"},
		"a relay of ours, of another peer":   {conn(relayName, strangerID, "inbound", "/ip4/45.1.0.9/tcp/1"), none},
		"a relay of ours that dialled":       {conn(relayName, donorID, "outbound", "/ip4/45.1.0.9/tcp/1"), none},
		"the submitter":                      {conn(submitterName, donorID, "inbound", "/ip4/45.1.0.9/tcp/1"), none},
		"whom its probe reached":             {probe(donorName, wire.OK), "45.1.0.9"},
		"whom its probe did not reach":       {probe(donorName, wire.Failed), none},
		"whom another host's probe reached":  {probe(submitterName, wire.OK), none},
	} {
		t.Run(name, func(t *testing.T) {
			s := passing()
			s.items = s.items[:1]
			s.add(0, evidence.NodeUp, donorName, &evidence.NodeStart{PeerID: donorID})
			c.tell(s)
			h := newHistory(s.input(t))
			if got := h.egressOf(h.donor()).String(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
