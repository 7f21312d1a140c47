package traversal

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// foundAfter is how long reservations have to be lacking before relays are
	// dialled that no list of ours names: the configured ones come first.
	foundAfter = time.Second
	// keptFor is how long a found relay stays connected that is not needed.
	keptFor = time.Minute
)

// Found tells of a peer that may be a relay, learned from others or from a
// cache. It is dialled while reservations are lacking. What is said twice
// changes nothing.
func (k *Keeper) Found(ctx context.Context, info peer.AddrInfo) {
	if info.ID == k.Host.ID() || k.want() == 0 {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.candidates == nil {
		return // not running yet
	}
	c, known := k.candidates[info.ID]
	if !known {
		if len(k.candidates) >= maxCandidates {
			return
		}
		c = k.candidateLocked(info.ID)
	}
	c.found = true
	for _, a := range info.Addrs {
		if TransportName(a) != "" && !has(a, ma.P_CIRCUIT) {
			c.listedFound(canonical(a))
		}
	}
	k.tellLocked()
	if !known && ctx.Err() == nil {
		k.tending.Go(func() { c.tend(ctx) })
	}
}

// candidateLocked is a new candidate. k.mu is held.
func (k *Keeper) candidateLocked(id peer.ID) *candidate {
	c := &candidate{keeper: k, id: id, lists: map[string]bool{}, reached: time.Now()}
	k.candidates[id] = c
	return c
}

// listedFound adds an address that no list names. keeper.mu is held.
func (c *candidate) listedFound(a ma.Multiaddr) {
	c.listed(foundList, []ma.Multiaddr{a})
	delete(c.lists, foundList)
}

// foundList is the list, never seen from outside, of what is in no list.
const foundList = "found"

// awaitNeed waits until the candidate is to be dialled, and tells whether it is:
// not when ctx has ended. One that a list names always is.
func (c *candidate) awaitNeed(ctx context.Context) bool {
	for ctx.Err() == nil {
		change := c.keeper.change()
		if !c.onlyFound() || c.leads() || c.existing() != nil {
			return true
		}
		lacking := c.keeper.lackingFor()
		if lacking >= foundAfter {
			return true
		}
		wait := idleBackoff
		if lacking > 0 {
			wait = foundAfter - lacking
		}
		await(ctx, change, wait)
	}
	return false
}

// dispensable tells whether the candidate is connected without need.
func (c *candidate) dispensable() bool {
	k := c.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	return c.found && len(c.lists) == 0 && k.lacking.IsZero() && k.held[c.id] == nil && time.Since(k.lost) > keptFor
}

func (c *candidate) onlyFound() bool {
	c.keeper.mu.Lock()
	defer c.keeper.mu.Unlock()
	return c.found && len(c.lists) == 0
}
