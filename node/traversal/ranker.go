package traversal

import (
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
)

// When the classes of a peer's addresses start, counted from the first that there
// is. Three things decide: QUIC needs the fewest round trips, and a near relay
// answers it before TCP is begun; TCP and WebSocket start together, since
// the swarm holds later batches back while a TCP connection of an earlier one
// shakes hands, and a censor that lets TCP connect and then starves it would
// delay the way that works (raw TCP, needing fewer round trips, wins where both
// work); and a reservation is owed within 100 ms plus its round trips.
const (
	streamDelay = 10 * time.Millisecond // tcp, ws, wss
	lateDelay   = 80 * time.Millisecond // webtransport and what else there is
	// anotherDelay is what a second address of the same class and IP family
	// waits: it is rarely better than the first, and peers that announce a dozen
	// of them would eat the swarm's limit on dials per peer.
	anotherDelay = 200 * time.Millisecond
	// circuitDelay is what a relayed way waits when there is a direct one, and
	// sameRelayDelay what the second address of one relay waits: it leads to the
	// same place, and the library's circuit client refuses concurrent dials.
	circuitDelay   = 500 * time.Millisecond
	sameRelayDelay = time.Second
)

// Ranker says when each address of a peer is dialled; it is a
// network.DialRanker, for swarm.WithDialRanker. The library's own starts
// WebSocket last and steps in 250 ms. It wants a swarm that lets more than eight
// dials per peer go at once (swarm.DefaultPerPeerRateLimit), or else a peer with
// many dead addresses holds the good one back for seconds.
func Ranker(addrs []ma.Multiaddr) []network.AddrDelay {
	out := make([]network.AddrDelay, 0, len(addrs))
	direct := false
	for _, a := range addrs {
		direct = direct || !has(a, ma.P_CIRCUIT)
	}
	seen := map[string]bool{}
	var earliest time.Duration
	for i, a := range addrs {
		d := delay(a, direct, seen)
		if i == 0 || d < earliest {
			earliest = d
		}
		out = append(out, network.AddrDelay{Addr: a, Delay: d})
	}
	for i := range out {
		out[i].Delay -= earliest
	}
	return out
}

// delay is when a starts; seen are the groups that have an address already.
func delay(a ma.Multiaddr, direct bool, seen map[string]bool) time.Duration {
	if has(a, ma.P_CIRCUIT) {
		relay, _ := a.ValueForProtocol(ma.P_P2P)
		return nth(seen, "circuit "+relay, sameRelayDelay) + when(direct, circuitDelay)
	}
	return start(TransportName(a)) + nth(seen, way(a), anotherDelay)
}

func start(transport string) time.Duration {
	switch transport {
	case "quic-v1":
		return 0
	case "tcp", "ws", "wss":
		return streamDelay
	}
	return lateDelay
}

// nth is nothing for the first of a group and later for all others.
func nth(seen map[string]bool, group string, later time.Duration) time.Duration {
	first := !seen[group]
	seen[group] = true
	return when(!first, later)
}

func when(yes bool, d time.Duration) time.Duration {
	if yes {
		return d
	}
	return 0
}
