package wire

import "testing"

func TestATransportIsNamedByItsMultiaddr(t *testing.T) {
	for addr, want := range map[string]string{
		"/ip4/1.2.3.4/tcp/4001":                               "tcp",
		"/ip4/1.2.3.4/tcp/4001/p2p/12D3KooW":                  "tcp",
		"/ip6/::1/udp/4001/quic-v1":                           "quic-v1",
		"/ip4/1.2.3.4/udp/4001/quic-v1/webtransport":          "webtransport",
		"/ip4/1.2.3.4/tcp/80/ws":                              "ws",
		"/ip4/1.2.3.4/tcp/443/wss":                            "wss",
		"/ip4/1.2.3.4/tcp/443/tls/ws":                         "wss",
		"/ip4/1.2.3.4/tcp/443/tls/sni/relay.example.net/ws":   "wss",
		"/ip4/1.2.3.4/tcp/443/tls/http":                       "https",
		"/ip4/1.2.3.4/tcp/443/tls/sni/relay.example.net/http": "https",
		"/ip4/1.2.3.4/tcp/443/https":                          "https",
		"/ip4/1.2.3.4/tcp/80/http":                            "http",
		"/ip4/1.2.3.4/udp/4001/quic-v1/p2p/R/p2p-circuit":     "circuit",
		"/ip4/1.2.3.4/tcp/443/tls/ws/p2p/R/p2p-circuit/p2p/D": "circuit",
		"/dnsaddr/bootstrap.example.net":                      "",
		"":                                                    "",
	} {
		if got := TransportOf(addr); got != want {
			t.Errorf("%q is called %q, want %q", addr, got, want)
		}
	}
}
