package traversal

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// maxBackoff is the longest wait between two tries while a reservation is
	// lacking, idleBackoff while none is.
	maxBackoff  = time.Minute
	idleBackoff = 5 * time.Minute
	// refusedBackoff is the shortest wait after a relay said no itself: it is
	// full, or does not want us, and both take longer to pass than a lost packet.
	refusedBackoff = 10 * time.Second
	// wokenAfter is how old a failed try has to be for the loss of a reservation
	// elsewhere to start another one at once.
	wokenAfter = 2 * time.Second
	// steadyAfter is how long a connection lives that forgives earlier failures.
	steadyAfter = 30 * time.Second
	// partedBackoff is the shortest wait before a peer is dialled again that let go
	// of us and that we do not need: public bootstrappers trim whom they have no
	// use for, and would have to do it again and again.
	partedBackoff = time.Minute
	// forgetAfter is how long a peer may be unreachable that no list names any more.
	forgetAfter = 24 * time.Hour
	// maxAddrs bounds the addresses of one candidate.
	maxAddrs = 16
)

// hopSupport is what we know of a peer's being a relay.
type hopSupport int

const (
	hopUnknown hopSupport = iota
	hopYes
	hopNo
)

// candidate is a peer of the bootstrap list: perhaps a relay.
type candidate struct {
	keeper *Keeper
	id     peer.ID

	// guarded by keeper.mu
	addrs     []ma.Multiaddr  // as configured or resolved, without /p2p; the configured first, then the longest unheard of
	fixed     int             // how many of addrs are configured
	lists     map[string]bool // which name it now: configured, or the name that was resolved
	found     bool            // it was found by other means, and is dialled only while needed
	gone      bool            // another one that was found has taken its place
	first     ma.Multiaddr    // dialled first, and alone, once: a way that was remembered, or is better
	recalled  ma.Multiaddr    // the way that was remembered
	limited   bool            // its last reservation had limits on circuits
	fresh     bool            // addrs has grown since the last dial
	hop       hopSupport
	hopUntil  time.Time // when a hopNo that was only inferred ends; zero: never
	relayed   bool      // it has said once that it relays
	notBefore time.Time // of the next request for a reservation
	reached   time.Time // when it was last connected; at first, when it was added

	// used by tend only
	failures int // of connecting, in a row
	partings int // connections in a row that ended, although not early, before idleBackoff
	refusals int // of a reservation, in a row
	cut      cut
}

// tend keeps the candidate connected until ctx ends, and uses it as a relay
// whenever one is lacking. It ends, too, when the candidate is forgotten.
func (c *candidate) tend(ctx context.Context) {
	for ctx.Err() == nil && c.awaitNeed(ctx) {
		began, alone := time.Now(), c.dialsAlone()
		conn, mine, err := c.connect(ctx)
		switch {
		case err == nil:
			since := time.Now()
			c.attend(ctx, conn, mine)
			c.learnCut(conn, time.Since(since))
			c.rest(ctx, time.Now(), c.parted(time.Since(since)))
		case alone:
			c.keeper.starts.open() // the way of last time leads nowhere any more
		case c.keeper.stirredSince(began): // it says nothing about the network of now
		default:
			c.suspectNarrow(err)
			if c.forget() {
				return
			}
			c.rest(ctx, began, rest{failures: c.failures})
			c.failures++
		}
		if c.keeper.stirredSince(began) {
			c.failures, c.partings, c.refusals, c.cut = 0, 0, 0, cut{} // that was in another network
		}
	}
}

// parted tells how to rest after a connection that lived for so long.
func (c *candidate) parted(lived time.Duration) rest {
	c.keeper.mu.Lock()
	c.reached = time.Now()
	c.keeper.mu.Unlock()
	if lived > idleBackoff {
		c.partings = 0
	}
	r := rest{failures: c.failures, parted: true, partings: c.partings, steady: lived > steadyAfter}
	c.partings++
	c.failures++
	if r.steady {
		c.failures = 0
	}
	return r
}

// rest is why we wait before a peer is dialled again.
type rest struct {
	failures int  // before
	parted   bool // it was connected
	partings int  // before
	steady   bool // the connection lived for steadyAfter
}

// rest waits before the next try, longer each time. It ends early when a
// reservation has been lost since the last try, when the candidate has got new
// addresses, or when another connection to it stands.
func (c *candidate) rest(ctx context.Context, began time.Time, why rest) {
	luck := jitter()
	for ctx.Err() == nil {
		change := c.keeper.change()
		left := c.pauseFor(why, luck, began) - time.Since(began)
		if left <= 0 || c.hasFreshAddrs() || c.keeper.stirredSince(began) || why.parted && c.existing() != nil {
			return
		}
		await(ctx, change, left)
	}
}

// pauseFor is how long the rest is that began for a reason, as things stand now.
func (c *candidate) pauseFor(why rest, luck float64, began time.Time) time.Duration {
	lacking, lost := c.keeper.need()
	switch useful := c.mayRelay(); {
	case why.parted && !(lacking && useful):
		d := min(partedBackoff<<min(why.partings, 8), idleBackoff)
		return max(time.Duration(float64(d)*luck), backoff(why.failures, idleBackoff, luck))
	case !lacking:
		return backoff(why.failures, idleBackoff, luck)
	case why.steady:
		return 0
	}
	d := backoff(why.failures, maxBackoff, luck)
	if lost.After(began) {
		d = min(d, wokenAfter)
	}
	return d
}

// mayRelay tells whether a reservation may be had of the peer. A relay that is
// shut down in order says first that it relays no more, and comes back as one.
func (c *candidate) mayRelay() bool {
	c.keeper.mu.Lock()
	defer c.keeper.mu.Unlock()
	return c.hop != hopNo || c.relayed
}

func (c *candidate) hasFreshAddrs() bool {
	c.keeper.mu.Lock()
	defer c.keeper.mu.Unlock()
	return c.fresh
}

// forget takes the candidate out of the keeper when no list names it and it has
// long been out of reach, and tells whether it did.
func (c *candidate) forget() bool {
	k := c.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(c.lists) > 0 || k.held[c.id] != nil || time.Since(c.reached) < forgetAfter {
		return false
	}
	delete(k.candidates, c.id)
	k.Host.ConnManager().Unprotect(c.id, protectTag)
	return true
}

// addLocked notes an address. Where they become too many, the one that is longest
// unheard of goes; configured ones stay. keeper.mu is held.
func (c *candidate) addLocked(a ma.Multiaddr, fixed bool) {
	at := slices.IndexFunc(c.addrs, a.Equal)
	switch {
	case at >= 0 && at < c.fixed:
		return
	case at >= 0:
		c.addrs = slices.Delete(c.addrs, at, at+1)
	case len(c.addrs) < maxAddrs:
		c.fresh = true
	case c.fixed < len(c.addrs):
		c.addrs, c.fresh = slices.Delete(c.addrs, c.fixed, c.fixed+1), true
	default:
		return // all are configured, and as many as we dial
	}
	if fixed {
		c.addrs = slices.Insert(c.addrs, c.fixed, a)
		c.fixed++
	} else {
		c.addrs = append(c.addrs, a)
	}
}

// backoff is 1 s, 2 s, 4 s ... up to most, times luck.
func backoff(failures int, most time.Duration, luck float64) time.Duration {
	d := min(time.Second<<min(failures, 16), most)
	return time.Duration(float64(d) * luck)
}

// jitter is a fifth more or less than 1, so that donors which lost the same
// relay do not all come back in the same moment.
func jitter() float64 { return 0.8 + 0.4*rand.Float64() }

// attend is with a connected candidate until the connection is gone: it takes a
// reservation whenever one is lacking and this candidate may give one. After a
// change of the network the connection has to show that it lives: a dead one would
// keep the candidate until the muxer's keepalive notices.
func (c *candidate) attend(ctx context.Context, conn network.Conn, mine bool) {
	k := c.keeper
	k.Host.ConnManager().Protect(c.id, protectTag)
	closed := k.closed(conn)
	c.learnHop()
	patience := time.Now().Add(identifyPatience)
	stirred := k.stirs()
	for ctx.Err() == nil && !isClosed(closed) {
		change := k.change() // of the network, too
		if isClosed(stirred) {
			stirred = k.stirs()
			if Dead(ctx, conn, hurriedDead) {
				_ = conn.Close()
				return
			}
		}
		wait, ready := c.mayAsk(patience)
		if c.dispensable() {
			c.letGo(conn, mine)
			return
		}
		if ready && k.claim(c) {
			c.serve(ctx, conn, closed)
			continue
		}
		awaitEither(ctx, change, closed, wait)
	}
}

// learnHop takes over what the library remembers of the peer: a relay that we
// were connected to before may be asked at once. Otherwise identify will tell.
func (c *candidate) learnHop() {
	if !c.keeper.says(c.id, proto.ProtoIDv2Hop) {
		return
	}
	c.keeper.mu.Lock()
	defer c.keeper.mu.Unlock()
	if c.hop == hopUnknown {
		c.hop, c.relayed = hopYes, true
	}
}

// identifyPatience is how long a peer may take to say what it speaks before it
// is asked for a reservation all the same.
const identifyPatience = 2 * time.Second

// mayAsk tells whether this candidate may be asked for a reservation now, and if
// not, when to look again.
func (c *candidate) mayAsk(patience time.Time) (time.Duration, bool) {
	c.keeper.mu.Lock()
	defer c.keeper.mu.Unlock()
	if d := time.Until(c.notBefore); d > 0 {
		return d, false
	}
	switch c.hop {
	case hopNo:
		if c.hopUntil.IsZero() {
			return idleBackoff, false
		}
		if d := time.Until(c.hopUntil); d > 0 {
			return d, false
		}
		c.hop, c.hopUntil = hopUnknown, time.Time{}
	case hopUnknown:
		if d := time.Until(patience); d > 0 {
			return d, false
		}
	}
	if len(c.keeper.asking) == 0 {
		return idleBackoff, true // a change ends that
	}
	return hedgeAfter, true
}

// protectTag keeps the connection manager from trimming what we live by.
const protectTag = "wce2e-bootstrap"

// await waits for a change, for d, or for the end of ctx.
func await(ctx context.Context, change <-chan struct{}, d time.Duration) {
	awaitEither(ctx, change, nil, d)
}

// awaitEither waits for a or b to be closed (nil never is), for d, or for the
// end of ctx.
func awaitEither(ctx context.Context, a, b <-chan struct{}, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-a:
	case <-b:
	case <-t.C:
	}
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
