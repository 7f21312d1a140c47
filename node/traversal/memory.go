package traversal

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/wire"
)

// Way is how a relay was reached.
type Way struct {
	Relay  peer.ID
	Addr   ma.Multiaddr  // that was dialled, without /p2p
	Narrow bool          // full-size packets vanish
	Took   time.Duration // from the start to the reservation
}

// Memory keeps, for each network, the way that won in it. It is asked about the
// network that this machine is in now. What wins instead of a remembered way
// takes its place.
type Memory interface {
	Recall() (Way, bool)
	Keep(Way)
}

// Bounds of the head start that a remembered way has over all others. A way that
// fails, or that leads to its reservation, ends it.
const (
	shortestHeadStart = 200 * time.Millisecond
	longestHeadStart  = 3 * time.Second
)

// beginRemembered begins with the way that won in this network last time, and
// opens the gate for all others when that has had its time.
func (k *Keeper) beginRemembered(ctx context.Context) {
	way, known := k.tryRemembered(ctx)
	if !known {
		k.starts.open()
		return
	}
	time.AfterFunc(min(max(2*way.Took, shortestHeadStart), longestHeadStart), k.starts.open)
}

// tryRemembered has the relay that won in this network last time dialled as it
// was dialled then, if there is one.
func (k *Keeper) tryRemembered(ctx context.Context) (Way, bool) {
	if k.Memory == nil || k.want() == 0 {
		return Way{}, false
	}
	way, known := k.Memory.Recall()
	if !known || way.Relay == k.Host.ID() || TransportName(way.Addr) == "" {
		return Way{}, false
	}
	k.record(wire.Event{Kind: wire.WayRemembered, Relay: way.Relay.String(), Addr: way.Addr.String(), Transport: TransportName(way.Addr)})
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.candidates == nil {
		return Way{}, false // it has ended
	}
	if way.Narrow {
		k.narrowLocked(true)
	}
	c, known := k.candidates[way.Relay]
	if !known {
		c = k.candidateLocked(way.Relay)
		c.found = true
		c.addLocked(way.Addr, false)
		if ctx.Err() == nil {
			k.tending.Go(func() { c.tend(ctx) })
		}
	}
	c.first, c.recalled = way.Addr, way.Addr
	k.tellLocked()
	return way, true
}

// dialsAlone tells whether the candidate is about to be dialled by one way only.
func (c *candidate) dialsAlone() bool {
	c.keeper.mu.Lock()
	defer c.keeper.mu.Unlock()
	return c.first != nil
}

// takeFirst is that way, once. Whoever has given a reservation by it is a relay,
// and is asked for another without waiting for its word on what it is.
func (c *candidate) takeFirst() ma.Multiaddr {
	c.keeper.mu.Lock()
	defer c.keeper.mu.Unlock()
	first := c.first
	if first != nil {
		c.hop, c.relayed = hopYes, true
	}
	c.first = nil
	return first
}

// memorize keeps the way of a reservation, the first in this network.
func (k *Keeper) memorize(h *holding) {
	k.mu.Lock()
	known := k.Memory == nil || k.kept
	k.kept = true
	narrow := k.narrow && !has(h.used, ma.P_UDP)
	k.mu.Unlock()
	if known {
		return
	}
	way := Way{Relay: h.conn.RemotePeer(), Addr: h.used, Narrow: narrow, Took: h.took}
	k.tending.Go(func() { k.Memory.Keep(way) })
}

// memorizeStanding keeps the way of the first reservation that is known to live in
// this network. After a move the others may be as dead as the one that was
// lost, and not be found silent yet.
func (k *Keeper) memorizeStanding() {
	for _, h := range k.holdings() {
		if h.sound() && (!k.stirredSince(h.heard) || !k.stirredSince(h.made)) {
			k.memorize(&h)
			return
		}
	}
}

// Way tells how the first of Relays was reached, nil while there is none.
func (k *Keeper) Way() *wire.WayStatus {
	for _, h := range k.holdings() {
		return &wire.WayStatus{
			Relay: h.conn.RemotePeer().String(), Addr: h.used.String(), Transport: TransportName(h.used),
			Route: h.route, TookMS: ms(h.took), Why: h.why,
		}
	}
	return nil
}

// whyLocked tells why a reservation came by this address. keeper.mu is held.
func (c *candidate) whyLocked(used ma.Multiaddr) string {
	if c.recalled != nil && sameEndpoint(c.recalled, used) {
		return "it won in this network last time, and works"
	}
	relays, addrs := 0, 0
	for _, other := range c.keeper.candidates {
		relays, addrs = relays+1, addrs+len(other.addrs)
	}
	return fmt.Sprintf("the first to lead to a reservation, of %d addresses of %d peers", addrs, relays)
}
