package traversal

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
)

// improveEvery is how often a better way to a relay is looked for: firewalls are
// changed, and machines come home, seldom. A change of the network that is seen
// brings the next look about at once.
const improveEvery = 15 * time.Minute

// merit ranks the ways to one relay; less is better. QUIC and TCP need the fewest
// round trips and are what hole punches need to learn our address by; requests
// over HTTPS are the last resort.
func merit(transport, route string) int {
	m := map[string]int{"quic-v1": 0, "tcp": 0, "webtransport": 1, "ws": 2, "wss": 2, "http": 4, "https": 4}[transport]
	if route != "" {
		m++
	}
	return m
}

// improves ends with errBetterWay when a better way to the relay has opened. It is
// tried out on a connection of its own first, and taken only while another
// reservation keeps us reachable.
func (h *holding) improves(ctx context.Context) error {
	every := h.keeper.improveEvery
	if every == 0 {
		every = improveEvery
	}
	for ctx.Err() == nil {
		awaitEither(ctx, h.keeper.stirs(), nil, time.Duration(float64(every)*jitter()))
		if ctx.Err() != nil {
			return nil
		}
		if better := h.betterWay(ctx); better != nil && h.covered() {
			h.keeper.takeWay(h, better)
			return errBetterWay
		}
	}
	return nil
}

// betterWay is an address of the relay that works, and is better than the one in
// use; nil when there is none.
func (h *holding) betterWay(ctx context.Context) ma.Multiaddr {
	n, ok := h.keeper.Host.Network().(interface {
		TransportForDialing(ma.Multiaddr) transport.Transport
	})
	if !ok || h.inbound() {
		return nil
	}
	for _, a := range h.keeper.waysTo(h) {
		tpt := n.TransportForDialing(a)
		if tpt == nil || merit(TransportName(a), "") >= merit(TransportName(h.used), h.route) {
			continue
		}
		dial, cancel := context.WithTimeout(ctx, connectTimeout)
		conn, err := tpt.Dial(dial, a, h.conn.RemotePeer())
		cancel()
		if err == nil {
			_ = conn.Close()
			return a
		}
	}
	return nil
}

// inbound tells whether the relay has connected to us: then there is no way of
// ours to improve.
func (h *holding) inbound() bool {
	return !sameEndpoint(h.used, h.conn.RemoteMultiaddr()) && h.route == ""
}

// covered tells whether we stay reachable without this reservation.
func (h *holding) covered() bool {
	k := h.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	others := k.soundLocked()
	if h.sound() {
		others--
	}
	return others > 0
}

// waysTo are the addresses of a relay: those of the list, and those that it says
// it has.
func (k *Keeper) waysTo(h *holding) []ma.Multiaddr {
	id := h.conn.RemotePeer()
	k.mu.Lock()
	var known []ma.Multiaddr
	if c := k.candidates[id]; c != nil {
		known = append(known, c.addrs...)
	}
	k.mu.Unlock()
	return ma.Unique(append(known, k.Host.Peerstore().Addrs(id)...))
}

// takeWay has the relay dialled by a better way next time, and first.
func (k *Keeper) takeWay(h *holding, better ma.Multiaddr) {
	k.log().Info("a better way to a relay is open", "relay", h.conn.RemotePeer().String(), "addr", better.String(), "instead_of", h.used.String())
	k.mu.Lock()
	defer k.mu.Unlock()
	if c := k.candidates[h.conn.RemotePeer()]; c != nil {
		c.lead = better
	}
}
