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
// network that this machine is in now.
type Memory interface {
	Recall() (Way, bool)
	Keep(Way)
	Drop(Way)
}

// Bounds of the head start that a remembered way has over all others. A way that
// fails, or that leads to its reservation, ends it.
const (
	shortestHeadStart = 200 * time.Millisecond
	longestHeadStart  = 3 * time.Second
)

// follow begins with the way that won in this network last time, and opens the
// gate for all others when that has had its time.
func (k *Keeper) follow(ctx context.Context) {
	way, known := k.recall()
	if !known || k.want() == 0 {
		k.starts.open()
		return
	}
	k.record(wire.Event{Kind: wire.WayRemembered, Relay: way.Relay.String(), Addr: way.Addr.String(), Transport: TransportName(way.Addr)})
	if way.Narrow {
		k.beNarrow()
	}
	k.led(ctx, way)
	time.AfterFunc(min(max(2*way.Took, shortestHeadStart), longestHeadStart), k.starts.open)
}

func (k *Keeper) recall() (Way, bool) {
	if k.Memory == nil {
		return Way{}, false
	}
	way, known := k.Memory.Recall()
	return way, known && way.Relay != k.Host.ID() && TransportName(way.Addr) != ""
}

// led makes a candidate of a remembered relay, to be dialled by the remembered
// way first.
func (k *Keeper) led(ctx context.Context, way Way) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.candidateLocked(way.Relay)
	c.lead, c.led, c.found = way.Addr, way.Addr, true
	c.listedFound(way.Addr)
	k.tending.Go(func() { c.tend(ctx) })
}

// leads tells whether the candidate is about to be dialled by a remembered way.
func (c *candidate) leads() bool {
	c.keeper.mu.Lock()
	defer c.keeper.mu.Unlock()
	return c.lead != nil
}

// takeLead is the remembered way, once.
func (c *candidate) takeLead() ma.Multiaddr {
	c.keeper.mu.Lock()
	defer c.keeper.mu.Unlock()
	lead := c.lead
	c.lead = nil
	return lead
}

// ledAstray gives up the remembered way: it does not lead anywhere any more.
func (c *candidate) ledAstray() {
	k := c.keeper
	k.starts.open()
	if way, known := k.recall(); known && way.Relay == c.id {
		k.Memory.Drop(way)
	}
}

// memorize keeps the way of a reservation.
func (k *Keeper) memorize(h *holding) {
	if k.Memory == nil {
		return
	}
	k.mu.Lock()
	narrow := k.narrow
	k.mu.Unlock()
	k.Memory.Keep(Way{Relay: h.conn.RemotePeer(), Addr: h.used, Narrow: narrow, Took: h.took})
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
	if c.led != nil && sameEndpoint(c.led, used) {
		return "it won in this network last time, and works"
	}
	relays, addrs := 0, 0
	for _, other := range c.keeper.candidates {
		relays, addrs = relays+1, addrs+len(other.addrs)
	}
	return fmt.Sprintf("the first to lead to a reservation, of %d addresses of %d peers", addrs, relays)
}
