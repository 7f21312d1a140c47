package traversal

import (
	"context"
	"math/rand/v2"
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
	addrs     []ma.Multiaddr // as configured or resolved, without /p2p
	fresh     bool           // addrs has grown since the last dial
	hop       hopSupport
	notBefore time.Time // of the next request for a reservation

	// used by tend only
	failures int // of connecting, in a row
	refusals int // of a reservation, in a row
}

// tend keeps the candidate connected until ctx ends, and uses it as a relay
// whenever one is lacking.
func (c *candidate) tend(ctx context.Context) {
	for ctx.Err() == nil {
		conn, err := c.connect(ctx)
		if err != nil {
			c.rest(ctx)
			continue
		}
		began := time.Now()
		c.attend(ctx, conn)
		if time.Since(began) > steadyAfter {
			c.failures = 0
		} else {
			c.rest(ctx)
		}
	}
}

// rest waits before the next try, longer each time. It ends early when a
// reservation has been lost since the last try, or when the candidate has got
// new addresses.
func (c *candidate) rest(ctx context.Context) {
	began, failures, luck := time.Now(), c.failures, jitter()
	c.failures++
	for ctx.Err() == nil {
		change := c.keeper.change()
		left := c.pauseFor(failures, luck, began) - time.Since(began)
		if left <= 0 || c.hasFreshAddrs() {
			return
		}
		await(ctx, change, left)
	}
}

// pauseFor is how long the rest is that began after so many failures, as things
// stand now.
func (c *candidate) pauseFor(failures int, luck float64, began time.Time) time.Duration {
	lacking, lost := c.keeper.need()
	if !lacking {
		return backoff(failures, idleBackoff, luck)
	}
	d := backoff(failures, maxBackoff, luck)
	if lost.After(began) {
		d = min(d, wokenAfter)
	}
	return d
}

func (c *candidate) hasFreshAddrs() bool {
	c.keeper.mu.Lock()
	defer c.keeper.mu.Unlock()
	return c.fresh
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
// reservation whenever one is lacking and this candidate may give one.
func (c *candidate) attend(ctx context.Context, conn network.Conn) {
	k := c.keeper
	k.Host.ConnManager().Protect(c.id, protectTag)
	closed := k.closed(conn)
	c.learnHop()
	patience := time.Now().Add(identifyPatience)
	for ctx.Err() == nil && !isClosed(closed) {
		change := k.change()
		wait, ready := c.mayAsk(patience)
		if ready && k.claim(c.id) {
			c.serve(ctx, conn, closed)
			continue
		}
		awaitEither(ctx, change, closed, wait)
	}
}

// learnHop takes over what the library remembers of the peer: a relay that we
// were connected to before may be asked at once. Otherwise identify will tell.
func (c *candidate) learnHop() {
	known, err := c.keeper.Host.Peerstore().SupportsProtocols(c.id, proto.ProtoIDv2Hop)
	if err != nil || len(known) == 0 {
		return
	}
	c.keeper.mu.Lock()
	defer c.keeper.mu.Unlock()
	if c.hop == hopUnknown {
		c.hop = hopYes
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
		return idleBackoff, false
	case hopUnknown:
		if d := time.Until(patience); d > 0 {
			return d, false
		}
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
