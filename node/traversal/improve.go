package traversal

import (
	"cmp"
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
)

// improveEvery is how often a better way to a relay is looked for: firewalls are
// changed seldom. A change of the network that we see has us look anyway.
const improveEvery = time.Hour

// merits rank the ways to one relay; less is better. QUIC and TCP need the fewest
// round trips and are what hole punches need to learn our address by; requests
// over HTTPS are the last resort.
var merits = map[string]int{"quic-v1": 0, "tcp": 0, "webtransport": 1, "ws": 2, "wss": 2, "http": 4, "https": 4}

// merit is that of a transport by a route; false where there is none.
func merit(transport, route string) (int, bool) {
	m, known := merits[transport]
	if route != "" {
		m++
	}
	return m, known
}

// improves ends with errBetterWay when a better way to the relay has opened. It is
// tried out on a connection of its own first, and taken only while another
// reservation keeps us reachable and nobody uses this one.
func (h *holding) improves(ctx context.Context) error {
	every := cmp.Or(h.keeper.improveEvery, improveEvery)
	for pause(ctx, time.Duration(float64(every)*jitter())) {
		if !h.spared() {
			continue
		}
		if better := h.betterWay(ctx); better != nil && h.stepAside() {
			h.keeper.takeWay(h, better)
			return errBetterWay
		}
	}
	return nil
}

// betterWay is an address of the relay that works, and is better than the one in
// use; nil when there is none.
func (h *holding) betterWay(ctx context.Context) ma.Multiaddr {
	now, known := merit(TransportName(h.used), h.route)
	if !known || h.conn.Stat().Direction != network.DirOutbound {
		return nil // the relay has connected to us: it is no way of ours
	}
	for _, a := range h.keeper.waysTo(h.conn.RemotePeer()) {
		if m, known := merit(TransportName(a), ""); known && m < now && h.tryWay(ctx, a, now) {
			return a
		}
	}
	return nil
}

// tryWay dials an address, and tells whether that worked, by a way that is better
// than now: it may have gone by the same proxy.
func (h *holding) tryWay(ctx context.Context, a ma.Multiaddr, now int) bool {
	n, ok := h.keeper.Host.Network().(dialer)
	if !ok {
		return false
	}
	tpt := n.TransportForDialing(a)
	if tpt == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := tpt.Dial(ctx, a, h.conn.RemotePeer())
	if err != nil {
		return false
	}
	defer conn.Close()
	m, _ := merit(TransportName(a), h.keeper.routeOf(conn))
	return m < now
}

// dialer is a network whose transports can be had.
type dialer interface {
	TransportForDialing(ma.Multiaddr) transport.Transport
}

// spared tells whether we stay reachable without this reservation, and nobody
// uses a circuit through its relay.
func (h *holding) spared() bool {
	k := h.keeper
	k.mu.Lock()
	others := h.othersLocked()
	k.mu.Unlock()
	if others == 0 {
		return false
	}
	for _, conn := range k.Host.Network().Conns() {
		via, err := conn.RemoteMultiaddr().ValueForProtocol(ma.P_P2P)
		if err == nil && has(conn.RemoteMultiaddr(), ma.P_CIRCUIT) && via == h.conn.RemotePeer().String() {
			return false
		}
	}
	return true
}

// stepAside counts the reservation out where there are others that stay.
func (h *holding) stepAside() bool {
	if !h.spared() {
		return false
	}
	h.keeper.mu.Lock()
	defer h.keeper.mu.Unlock()
	h.leaving = h.othersLocked() > 0
	return h.leaving
}

// othersLocked counts the other sound reservations. keeper.mu is held.
func (h *holding) othersLocked() int {
	others := h.keeper.soundLocked()
	if h.sound() {
		others--
	}
	return others
}

// waysTo are the addresses of a relay: those of the list, and those that it says
// it has.
func (k *Keeper) waysTo(relay peer.ID) []ma.Multiaddr {
	k.mu.Lock()
	var known []ma.Multiaddr
	if c := k.candidates[relay]; c != nil {
		known = append(known, c.addrs...)
	}
	k.mu.Unlock()
	return ma.Unique(append(known, k.Host.Peerstore().Addrs(relay)...))
}

// takeWay has the relay dialled by a better way next time, and first.
func (k *Keeper) takeWay(h *holding, better ma.Multiaddr) {
	k.log().Info("a better way to a relay is open", "relay", h.conn.RemotePeer().String(), "addr", better.String(), "instead_of", h.used.String())
	k.mu.Lock()
	defer k.mu.Unlock()
	if c := k.candidates[h.conn.RemotePeer()]; c != nil {
		c.first = better
	}
}
