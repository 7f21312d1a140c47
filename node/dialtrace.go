package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/netcheck"
	"github.com/worldcompute/wce2e/node/wire"
)

// dialGrace is how long a transport may go on after its context has ended, to
// tell why it failed. One that does not look at its context is left behind.
const dialGrace = 250 * time.Millisecond

var errTransportStuck = errors.New("the transport did not stop with its context")

// tracedTransport records the start and the one end of every dial of the
// transport inside it, and passes everything else through. It has every
// optional interface that the swarm looks for; where the transport inside has
// not, it answers as the swarm itself does in their absence.
type tracedTransport struct {
	transport.Transport
	rec   *recorder
	why   string // of every dial; empty means to connect
	nat64 *nat64 // the host's; nil: addresses are dialled as they are

	// uses tells whether this network lets a transport through. AutoNAT is told that
	// we cannot dial what it does not: our firewall is no finding about others, and
	// a dial over QUIC that nobody answers costs 10 KB. nil: it may well.
	uses func(transport string) bool
}

var (
	_ transport.DialUpdater  = (*tracedTransport)(nil)
	_ transport.Resolver     = (*tracedTransport)(nil)
	_ transport.SkipResolver = (*tracedTransport)(nil)
	_ swarm.OrderedListener  = (*tracedTransport)(nil)
	_ io.Closer              = (*tracedTransport)(nil)
)

func (t *tracedTransport) CanDial(addr ma.Multiaddr) bool {
	return t.Transport.CanDial(addr) && (t.uses == nil || t.uses(transportOf(addr)))
}

func (t *tracedTransport) Dial(ctx context.Context, addr ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	return t.traced(ctx, addr, p, func() (transport.CapableConn, error) {
		return t.Transport.Dial(ctx, t.toward(ctx, addr), p)
	})
}

func (t *tracedTransport) DialWithUpdates(ctx context.Context, addr ma.Multiaddr, p peer.ID, updates chan<- transport.DialUpdate) (transport.CapableConn, error) {
	u, ok := t.Transport.(transport.DialUpdater)
	if !ok {
		return t.Dial(ctx, addr, p)
	}
	return t.traced(ctx, addr, p, func() (transport.CapableConn, error) {
		return u.DialWithUpdates(ctx, t.toward(ctx, addr), p, updates)
	})
}

func (t *tracedTransport) toward(ctx context.Context, addr ma.Multiaddr) ma.Multiaddr {
	if t.nat64 == nil {
		return addr
	}
	return t.nat64.toward(ctx, addr)
}

func (t *tracedTransport) traced(ctx context.Context, addr ma.Multiaddr, p peer.ID, dial func() (transport.CapableConn, error)) (transport.CapableConn, error) {
	id := t.rec.dialStarted(p, addr, t.why)
	c, err := obeying(ctx, dial)
	outcome, failure, why := judgeDial(ctx, t.rec.stopping.Load(), err)
	t.rec.dialEnded(id, outcome, failure, why)
	return c, err
}

// obeying runs dial, and gives up on it shortly after ctx has ended.
func obeying(ctx context.Context, dial func() (transport.CapableConn, error)) (transport.CapableConn, error) {
	type result struct {
		conn transport.CapableConn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		c, err := dial()
		done <- result{c, err}
	}()
	select {
	case r := <-done:
		return r.conn, r.err
	case <-ctx.Done():
	}
	grace := time.NewTimer(dialGrace)
	defer grace.Stop()
	select {
	case r := <-done:
		return r.conn, r.err
	case <-grace.C:
	}
	go func() { // whatever it brings now, nobody waits for
		if r := <-done; r.conn != nil {
			r.conn.Close()
		}
	}()
	return nil, fmt.Errorf("%w: %w", errTransportStuck, ctx.Err())
}

// judgeDial names the end of a dial. An attempt is aborted when we gave it up:
// another way won, whoever wanted the connection left, or the node stops. A
// deadline is no such thing: then the other side was too slow, and that is a
// failure.
func judgeDial(ctx context.Context, stopping bool, err error) (wire.Outcome, netcheck.Failure, error) {
	if err == nil {
		return wire.OK, "", nil
	}
	if stopping {
		return wire.Aborted, netcheck.Aborted, fmt.Errorf("the node stops: %w", err)
	}
	if !errors.Is(ctx.Err(), context.Canceled) {
		return wire.Failed, netcheck.Classify(err), err
	}
	cause := context.Cause(ctx)
	if errors.Is(cause, context.DeadlineExceeded) {
		// The library cancels a dial when its last waiter's deadline is over,
		// and so hides that time was the reason.
		err = fmt.Errorf("%s: %w", strings.TrimSuffix(err.Error(), ": "+context.Canceled.Error()), cause)
		return wire.Failed, netcheck.Classify(err), err
	}
	return wire.Aborted, netcheck.Aborted, fmt.Errorf("given up (%w): %w", cause, err)
}

// Resolve is for transports that rewrite addresses; the others keep them.
func (t *tracedTransport) Resolve(ctx context.Context, addr ma.Multiaddr) ([]ma.Multiaddr, error) {
	if r, ok := t.Transport.(transport.Resolver); ok {
		return r.Resolve(ctx, addr)
	}
	return []ma.Multiaddr{addr}, nil
}

// SkipResolve is for transports that leave resolving to another one.
func (t *tracedTransport) SkipResolve(ctx context.Context, addr ma.Multiaddr) bool {
	s, ok := t.Transport.(transport.SkipResolver)
	return ok && s.SkipResolve(ctx, addr)
}

// ListenOrder is for transports that share another one's socket.
func (t *tracedTransport) ListenOrder() int {
	if o, ok := t.Transport.(swarm.OrderedListener); ok {
		return o.ListenOrder()
	}
	return 0
}

// Close is for transports that hold something open.
func (t *tracedTransport) Close() error {
	if c, ok := t.Transport.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
