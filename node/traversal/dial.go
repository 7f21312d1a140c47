package traversal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peerstore"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// connectTimeout bounds one try to connect to a peer over all its addresses.
	// It is longer than the transports' own timeouts (15 s), which know the
	// reason of a failure, and leaves room for addresses that had to queue.
	connectTimeout = 45 * time.Second
	// maxStarts peers are begun to be dialled at once, and as many again every
	// startEvery: a long list neither floods a home router nor lets its dead
	// relays hold up the living ones.
	maxStarts  = 16
	startEvery = 50 * time.Millisecond
	// shadowDelay is what the WebSocket address waits that the swarm hides behind
	// a raw TCP one on the same port.
	shadowDelay = 2 * streamDelay
	// tunnelDelay is what the last resort waits, ordinary HTTPS requests: longer
	// than a WebSocket takes that comes through, satellites excepted.
	tunnelDelay = 1500 * time.Millisecond
)

// connect returns a direct connection to the candidate: one that is there, or a
// new one, which is mine. A change of the network ends it: what was dialled in the
// former one answers no more.
func (c *candidate) connect(ctx context.Context) (conn network.Conn, mine bool, err error) {
	if conn := c.existing(); conn != nil {
		return conn, false, nil
	}
	if err := c.keeper.starts.enter(ctx, c.dialsAlone()); err != nil {
		return nil, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	// The swarm's own backoff would answer "dial backoff" for an attempt that was
	// never made; ours is the one that counts. Forcing also keeps relayed
	// connections out: a reservation cannot be had through a relay.
	ctx = network.WithForceDirectDial(ctx, "bootstrap")
	stirred := c.keeper.stirs()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-stirred:
			cancel()
		case <-stop:
		}
	}()
	if conn, err = c.dial(ctx); err != nil {
		return nil, false, fmt.Errorf("connect to %s: %w", c.id, err)
	}
	return conn, true, nil
}

// existing is a direct connection that is there already, preferably one that we
// opened: its far end is an address others can dial.
func (c *candidate) existing() network.Conn {
	var found network.Conn
	for _, conn := range c.keeper.Host.Network().ConnsToPeer(c.id) {
		if conn.IsClosed() || has(conn.RemoteMultiaddr(), ma.P_CIRCUIT) {
			continue
		}
		if found == nil || conn.Stat().Direction == network.DirOutbound {
			found = conn
		}
	}
	return found
}

// takeAddrs are the candidate's addresses for one dial. What a peer spoke last
// time it may not speak on the next connection.
func (c *candidate) takeAddrs() []ma.Multiaddr {
	c.keeper.mu.Lock()
	defer c.keeper.mu.Unlock()
	c.fresh, c.hop, c.hopUntil = false, hopUnknown, time.Time{}
	return slices.Clone(c.addrs)
}

// dial races all addresses of the candidate.
//
// The swarm drops a WebSocket address when it knows a raw TCP one on the same IP
// and port. Where something on the way looks into port 443, only the WebSocket
// passes: so it is asked for a second time, with the raw address taken away. Both
// requests are served by the same race, and the first connection ends it.
func (c *candidate) dial(ctx context.Context) (network.Conn, error) {
	store, swarm := c.keeper.Host.Peerstore(), c.keeper.Host.Network()
	if first := c.takeFirst(); first != nil {
		return c.dialOnly(ctx, store.Addrs(c.id), []ma.Multiaddr{first})
	}
	store.AddAddrs(c.id, c.takeAddrs(), peerstore.TempAddrTTL)
	known := store.Addrs(c.id)
	r := newRace(ctx)
	avoid := c.cut.among(known)
	r.enter(func(ctx context.Context) (network.Conn, error) {
		if len(avoid) > 0 {
			return c.dialOnly(ctx, avoid, nil)
		}
		return swarm.DialPeer(ctx, c.id)
	})
	if shadows := shadowing(known); len(shadows) > 0 && len(avoid) == 0 {
		r.enter(func(ctx context.Context) (network.Conn, error) {
			pause(ctx, shadowDelay)
			return c.dialOnly(ctx, shadows, nil)
		})
	}
	if tunnels := c.tunnels(known); len(tunnels) > 0 {
		r.enter(func(ctx context.Context) (network.Conn, error) {
			pause(ctx, tunnelDelay)
			return c.dialOnly(ctx, known, tunnels)
		})
	}
	return r.first()
}

// swarmReads is what the swarm gets to read a peer's addresses in: it does so
// when a dial is asked for, once.
const swarmReads = 50 * time.Millisecond

// dialOnly dials with some addresses taken out of the peerstore for a moment, and
// others put in: the swarm has no other way to be told which to dial.
func (c *candidate) dialOnly(ctx context.Context, without, with []ma.Multiaddr) (network.Conn, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	net, store := c.keeper.Host.Network(), c.keeper.Host.Peerstore()
	store.SetAddrs(c.id, without, 0)
	store.AddAddrs(c.id, with, peerstore.TempAddrTTL)
	restore := sync.OnceFunc(func() {
		ttl := peerstore.TempAddrTTL
		if net.Connectedness(c.id) == network.Connected {
			ttl = peerstore.ConnectedAddrTTL
		}
		store.SetAddrs(c.id, with, 0)
		store.AddAddrs(c.id, without, ttl)
	})
	defer restore()
	timer := time.AfterFunc(swarmReads, restore)
	defer timer.Stop()
	return net.DialPeer(ctx, c.id)
}

// tunnels are the addresses of ordinary HTTP requests beside a peer's WebSocket
// ones, where we speak that. Nobody announces them: the swarm takes them for raw
// TCP, which would hide the WebSocket.
func (c *candidate) tunnels(known []ma.Multiaddr) []ma.Multiaddr {
	n, ok := c.keeper.Host.Network().(dialer)
	if !ok {
		return nil
	}
	var out []ma.Multiaddr
	for _, a := range known {
		if t := TransportName(a); t != "ws" && t != "wss" {
			continue
		}
		rest, _ := ma.SplitLast(canonical(a))
		if tunnel := slices.Concat(rest, http); n.TransportForDialing(tunnel) != nil {
			out = append(out, tunnel)
		}
	}
	return out
}

var http = ma.StringCast("/http")

// shadowing are the raw TCP addresses that hide a WebSocket one.
func shadowing(addrs []ma.Multiaddr) []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, raw := range addrs {
		hides := func(a ma.Multiaddr) bool {
			t := TransportName(a)
			return (t == "ws" || t == "wss") && sameHostPort(a, raw)
		}
		if TransportName(raw) == "tcp" && slices.ContainsFunc(addrs, hides) {
			out = append(out, raw)
		}
	}
	return out
}

// race runs ways to the same end side by side. The first success wins and ends
// the others.
type race struct {
	ctx     context.Context
	cancel  context.CancelFunc
	results chan result
	entered int
}

const maxWays = 3

type result struct {
	conn network.Conn
	err  error
}

func newRace(ctx context.Context) *race {
	ctx, cancel := context.WithCancel(ctx)
	return &race{ctx: ctx, cancel: cancel, results: make(chan result, maxWays)}
}

// enter starts one way; at most maxWays may enter.
func (r *race) enter(way func(context.Context) (network.Conn, error)) {
	r.entered++
	go func() {
		c, err := way(r.ctx)
		r.results <- result{c, err}
	}()
}

// first waits for the first success, or for all failures. It does not return
// before every way has ended.
func (r *race) first() (won network.Conn, err error) {
	defer r.cancel()
	var errs []error
	for range r.entered {
		res := <-r.results
		switch {
		case res.err != nil:
			errs = append(errs, res.err)
		case won == nil:
			won = res.conn
			r.cancel()
		}
	}
	if won != nil {
		return won, nil
	}
	return nil, errors.Join(errs...)
}

// gate lets a burst through and then as many again every startEvery, once it is
// open.
type gate struct {
	slots  chan struct{}
	opened chan struct{} // closed when it is
	open   func()
}

func newGate() gate {
	g := gate{slots: make(chan struct{}, maxStarts), opened: make(chan struct{})}
	g.open = sync.OnceFunc(func() { close(g.opened) })
	return g
}

// enter waits for its turn, or for the end of ctx. Who leads waits for nobody.
func (g *gate) enter(ctx context.Context, leads bool) error {
	if leads {
		return nil
	}
	select {
	case <-g.opened:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case g.slots <- struct{}{}:
		time.AfterFunc(startEvery, func() { <-g.slots })
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
