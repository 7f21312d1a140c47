package traversal

import (
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"
)

func TestRankerStartsEveryWayWithinATenthOfASecond(t *testing.T) {
	circuitVia := func(id string) string { return "/ip4/11.0.0.3/tcp/443/tls/ws/p2p/" + id + "/p2p-circuit" }
	for name, c := range map[string]map[string]time.Duration{
		"one address of each kind": {
			"/ip4/11.0.0.1/udp/4001/quic-v1":              0,
			"/ip6/2a00::1/udp/4001/quic-v1":               0,
			"/ip4/11.0.0.1/tcp/4001":                      streamDelay,
			"/ip4/11.0.0.1/tcp/443/tls/ws":                streamDelay,
			"/ip4/11.0.0.1/tcp/80/ws":                     streamDelay,
			"/ip4/11.0.0.1/udp/4001/quic-v1/webtransport": lateDelay,
			circuitVia(idA):                               circuitDelay,
			circuitVia(idB):                               circuitDelay,
		},
		"only circuits":           {circuitVia(idA): 0, circuitVia(idB): 0},
		"only a WebSocket on 443": {"/ip4/11.0.0.1/tcp/443/tls/sni/x.example/ws": 0},
	} {
		var addrs []ma.Multiaddr
		for a := range c {
			addrs = append(addrs, ma.StringCast(a))
		}
		ranked := Ranker(addrs)
		if len(ranked) != len(c) {
			t.Errorf("%s: %d of %d addresses are dialled", name, len(ranked), len(c))
		}
		for _, r := range ranked {
			if want := c[r.Addr.String()]; r.Delay != want {
				t.Errorf("%s: %s starts after %s, not %s", name, r.Addr, r.Delay, want)
			}
		}
	}
}

func TestRankerHoldsBackFurtherAddressesOfOneKind(t *testing.T) {
	same := []string{"/ip4/11.0.0.1/tcp/4001", "/ip4/11.0.0.2/tcp/4001", "/ip4/11.0.0.3/tcp/4001"}
	viaOne := []string{"/ip4/11.0.0.1/tcp/4001/p2p/" + idA + "/p2p-circuit", "/ip4/11.0.0.1/udp/4001/quic-v1/p2p/" + idA + "/p2p-circuit"}
	for _, c := range []struct {
		addrs []string
		want  []time.Duration
	}{
		{same, []time.Duration{0, anotherDelay, anotherDelay}},
		{viaOne, []time.Duration{0, sameRelayDelay}},
		{nil, nil},
	} {
		var addrs []ma.Multiaddr
		for _, a := range c.addrs {
			addrs = append(addrs, ma.StringCast(a))
		}
		for i, r := range Ranker(addrs) {
			if r.Delay != c.want[i] {
				t.Errorf("%s starts after %s, not %s", r.Addr, r.Delay, c.want[i])
			}
		}
	}
}

func TestTransportNames(t *testing.T) {
	for a, want := range map[string]string{
		"/ip4/11.0.0.1/tcp/4001":                                   "tcp",
		"/ip4/11.0.0.1/tcp/80/ws":                                  "ws",
		"/ip4/11.0.0.1/tcp/443/wss":                                "wss",
		"/ip4/11.0.0.1/tcp/443/tls/sni/x.example/ws":               "wss",
		"/ip6/2a00::1/udp/4001/quic-v1":                            "quic-v1",
		"/ip4/11.0.0.1/udp/4001/quic-v1/webtransport":              "webtransport",
		"/ip4/11.0.0.1/tcp/443/tls/ws/p2p/" + idA + "/p2p-circuit": "circuit",
		"/p2p-circuit":                                             "circuit",
		"/ip4/11.0.0.1/udp/53":                                     "",
	} {
		if got := TransportName(ma.StringCast(a)); got != want {
			t.Errorf("%s: %q, not %q", a, got, want)
		}
	}
}
