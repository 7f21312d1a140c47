package wire

import "strings"

// TransportOf names the transport of a multiaddr as Event.Transport does: tcp,
// quic-v1, webtransport, ws, wss, http, https, circuit; empty when it is none of
// these. "/tls/ws" and "/wss" are the same, and so are "/tls/http" and "/https".
func TransportOf(multiaddr string) string {
	has := func(protocol string) bool { return strings.Contains(multiaddr+"/", "/"+protocol+"/") }
	switch {
	case has("p2p-circuit"):
		return "circuit"
	case has("webtransport"):
		return "webtransport"
	case has("quic-v1"):
		return "quic-v1"
	case has("wss"), has("tls") && has("ws"):
		return "wss"
	case has("ws"):
		return "ws"
	case has("https"), has("tls") && has("http"):
		return "https"
	case has("http"):
		return "http"
	case has("tcp"):
		return "tcp"
	}
	return ""
}
