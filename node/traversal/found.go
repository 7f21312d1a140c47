package traversal

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// foundAfter is how long reservations have to be lacking before relays are
	// dialled that no list of ours names: the configured ones come first.
	foundAfter = time.Second
	// keptFor is how long a found relay stays connected that is not needed.
	keptFor = time.Minute
	// maxFound bounds how many of them are known; there is always room for those
	// of lists.
	maxFound = 64
)

// Found tells of a peer that may be a relay, learned from others or from a
// cache. It is dialled while reservations on relays without limits are lacking.
// What is said twice changes nothing.
func (k *Keeper) Found(ctx context.Context, info peer.AddrInfo) {
	if info.ID == k.Host.ID() || k.want() == 0 {
		return
	}
	k.begin.Do(k.reset)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.candidates == nil || ctx.Err() != nil {
		return // it has ended
	}
	c, known := k.candidates[info.ID]
	if !known {
		if !k.roomLocked() {
			return
		}
		c = k.candidateLocked(info.ID)
		c.found = true
		k.tending.Go(func() { c.tend(ctx) })
	}
	for _, a := range info.Addrs {
		if TransportName(a) != "" && !has(a, ma.P_CIRCUIT) {
			c.addLocked(canonical(a), false)
		}
	}
	k.tellLocked()
}

// roomLocked makes room for one more found candidate, by letting go of the one
// that was longest out of reach, and tells whether there is any. k.mu is held.
func (k *Keeper) roomLocked() bool {
	var oldest *candidate
	n := 0
	for id, c := range k.candidates {
		if !c.found || len(c.lists) > 0 {
			continue
		}
		n++
		idle := k.held[id] == nil && k.Host.Network().Connectedness(id) != network.Connected
		if idle && (oldest == nil || c.reached.Before(oldest.reached)) {
			oldest = c
		}
	}
	if n < maxFound {
		return true
	}
	if oldest != nil {
		oldest.gone = true
		delete(k.candidates, oldest.id)
		k.tellLocked()
	}
	return oldest != nil
}

// candidateLocked is a new candidate. k.mu is held.
func (k *Keeper) candidateLocked(id peer.ID) *candidate {
	c := &candidate{keeper: k, id: id, lists: map[string]bool{}, reached: time.Now()}
	k.candidates[id] = c
	return c
}

// awaitNeed waits until the candidate is to be dialled, and tells whether it is:
// not when ctx has ended, or another one has its place. One that a list names
// always is.
func (c *candidate) awaitNeed(ctx context.Context) bool {
	k := c.keeper
	for ctx.Err() == nil {
		k.mu.Lock()
		change, gone := k.changed, c.gone
		if gone && k.candidates[c.id] == nil { // nor is it a candidate anew
			k.Host.ConnManager().Unprotect(c.id, protectTag)
		}
		needed := !c.onlyFoundLocked() || c.first != nil
		lacking := since(k.limitedSince)
		k.mu.Unlock()
		if gone {
			return false
		}
		if needed || lacking >= foundAfter {
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
	return c.onlyFoundLocked() && k.limitedSince.IsZero() && k.held[c.id] == nil && time.Since(k.lost) > keptFor
}

// letGo ends a connection that we made and nobody uses, and protects it no more.
func (c *candidate) letGo(conn network.Conn, mine bool) {
	c.keeper.Host.ConnManager().Unprotect(c.id, protectTag)
	if mine && len(conn.GetStreams()) == 0 {
		_ = conn.Close()
	}
}

func (c *candidate) onlyFoundLocked() bool { return c.found && len(c.lists) == 0 }
