package traversal

import (
	"net"
	"net/netip"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/worldcompute/wce2e/node/wire"
)

// TransportName is the word of wire.Event's Transport for an address: tcp,
// quic-v1, webtransport, ws, wss or circuit; empty for any other.
func TransportName(a ma.Multiaddr) string {
	return wire.TransportOf(a.String())
}

// has tells whether the protocol with this code occurs in a.
func has(a ma.Multiaddr, code int) bool {
	return slices.ContainsFunc(a, func(c ma.Component) bool { return c.Protocol().Code == code })
}

var (
	tlsWS   = ma.StringCast("/tls/ws")
	circuit = ma.StringCast("/p2p-circuit")
)

// canonical writes /wss as /tls/ws, so that one address has one spelling.
func canonical(a ma.Multiaddr) ma.Multiaddr {
	out := make(ma.Multiaddr, 0, len(a)+1)
	for _, c := range a {
		if c.Protocol().Code == ma.P_WSS {
			out = append(out, tlsWS...)
			continue
		}
		out = append(out, c)
	}
	return out
}

// splitPeer takes the last /p2p/ID off an address; the ID is empty when there
// is none.
func splitPeer(a ma.Multiaddr) (ma.Multiaddr, peer.ID) {
	rest, id := peer.SplitAddr(a)
	return rest, id
}

// sameEndpoint tells whether a and b are the same transport at the same IP and
// port, whatever the spelling and whether or not they say which TLS name to ask
// for (a connection's remote address does not).
func sameEndpoint(a, b ma.Multiaddr) bool {
	return TransportName(a) == TransportName(b) && sameHostPort(a, b)
}

func sameHostPort(a, b ma.Multiaddr) bool {
	x, errX := manet.ToIP(a)
	y, errY := manet.ToIP(b)
	return errX == nil && errY == nil && x.Equal(y) && port(a) == port(b)
}

// port is the TCP or UDP port of a, as text; empty when there is none.
func port(a ma.Multiaddr) string {
	for _, c := range a {
		if code := c.Protocol().Code; code == ma.P_TCP || code == ma.P_UDP {
			return c.Value()
		}
	}
	return ""
}

// throughRelay is the address of whoever holds a reservation on the relay at a:
// a/p2p/RELAY/p2p-circuit.
func throughRelay(a ma.Multiaddr, relay peer.ID) ma.Multiaddr {
	p2p := ma.StringCast("/p2p/" + relay.String())
	a = canonical(a)
	if rest, last := ma.SplitLast(a); last != nil && last.Protocol().Code == ma.P_HTTP {
		// Where a relay answers ordinary requests it speaks WebSocket, which all
		// can dial; and swarms take the former for raw TCP.
		a = slices.Concat(rest, ma.StringCast("/ws"))
	}
	return slices.Concat(a, p2p, circuit)
}

// maxCircuitAddrs bounds how many addresses one reservation gives us: what we
// announce, everybody who wants us dials.
const maxCircuitAddrs = 4

// circuitAddrs are the addresses through one relay, best first: by the address
// that is known to work (used), then by what the relay says of itself, one for
// each other IP family and transport, for peers that cannot go the way we went.
func circuitAddrs(relay peer.ID, used ma.Multiaddr, vouched []ma.Multiaddr) []ma.Multiaddr {
	used = beyondNAT64(used, vouched)
	out := []ma.Multiaddr{throughRelay(used, relay)}
	seen := map[string]bool{way(used): true}
	for _, a := range vouched {
		a, _ = splitPeer(a)
		if w := way(a); w != "" && !seen[w] && len(out) < maxCircuitAddrs && !has(a, ma.P_CIRCUIT) && manet.IsPublicAddr(a) {
			seen[w] = true
			out = append(out, throughRelay(a, relay))
		}
	}
	return out
}

// wellKnownNAT64 stands before IPv4 addresses in networks that have none (RFC 6052).
var wellKnownNAT64 = netip.MustParsePrefix("64:ff9b::/96")

// beyondNAT64 is used as all the world knows it: an IPv6 address that a NAT64
// translates leads there from within that network only. Where the prefix is the
// network's own, it is told by what the relay says of itself: not that address,
// but the IPv4 one at the end of it.
func beyondNAT64(used ma.Multiaddr, vouched []ma.Multiaddr) ma.Multiaddr {
	if len(used) == 0 || used[0].Code() != ma.P_IP6 {
		return used
	}
	ip := used[0].RawValue()
	ipv4, err := manet.FromIP(ip[net.IPv6len-net.IPv4len:])
	if err != nil {
		return used
	}
	plain := slices.Concat(ipv4, used[1:])
	says := func(a ma.Multiaddr) bool {
		return slices.ContainsFunc(vouched, func(v ma.Multiaddr) bool { return sameEndpoint(v, a) })
	}
	if wellKnownNAT64.Contains(netip.AddrFrom16([net.IPv6len]byte(ip))) || says(plain) && !says(used) {
		return plain
	}
	return used
}

// way is the IP family and the transport of an address; empty when it has no
// transport we speak.
func way(a ma.Multiaddr) string {
	name := TransportName(a)
	if name == "" {
		return ""
	}
	return family(a) + " " + name
}

// family is ip4, ip6 or, for any other address, the name of its first protocol.
func family(a ma.Multiaddr) string {
	if len(a) == 0 {
		return ""
	}
	return a[0].Protocol().Name
}
