package node

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multistream"

	"github.com/worldcompute/wce2e/node/wire"
)

// errWrongPath tells that an address and the wished path contradict.
var errWrongPath = errors.New("the address does not go that way")

// route is one connection to a peer, chosen on purpose: streams are opened on
// it and on no other.
type route struct {
	peer   peer.ID
	conn   string // as in the events
	path   wire.Path
	relay  string
	remote ma.Multiaddr
	open   func(context.Context) (network.MuxedStream, error)
	close  func() // of a connection made for this route only
}

// target is an address with its peer.
type target struct {
	addr ma.Multiaddr // without /p2p/<peer>
	peer peer.ID
}

func parseTarget(s string) (target, error) {
	full, err := ma.NewMultiaddr(s)
	if err != nil {
		return target{}, fmt.Errorf("address %q: %w", s, err)
	}
	addr, id := peer.SplitAddr(full)
	if id == "" {
		return target{}, fmt.Errorf("address %q: does not end in /p2p/ and a peer ID", s)
	}
	if len(addr) == 0 {
		return target{}, fmt.Errorf("address %q: has nothing but a peer ID", s)
	}
	if has(addr, ma.P_CIRCUIT) && relayOf(addr) == "" {
		return target{}, fmt.Errorf("address %q: the relay has no peer ID", s)
	}
	return target{addr, id}, nil
}

// router finds or makes routes.
type router struct {
	host  host.Host
	extra atomic.Uint64 // connections made outside of the host's network
}

// to is a route to t that goes the wished way. A connection that stands is
// taken, otherwise t.addr is dialled, and fresh tells so.
func (r *router) to(ctx context.Context, t target, wish wire.Path) (way route, fresh bool, err error) {
	relayed := has(t.addr, ma.P_CIRCUIT)
	if wish == wire.Relayed && !relayed || wish == wire.Direct && relayed {
		return route{}, false, fmt.Errorf("reach %s %s through %s: %w", t.peer, wish, t.addr, errWrongPath)
	}
	fits := func(c network.Conn) bool {
		return wish == wire.AnyPath || pathOf(c) == wish && relayOf(c.RemoteMultiaddr()) == relayOf(t.addr)
	}
	if c := r.standing(t.peer, fits); c != nil {
		return routeOver(c), false, nil
	}
	if wish == wire.Relayed && len(r.host.Network().ConnsToPeer(t.peer)) > 0 {
		// The network holds a connection of the other kind, and would not
		// dial another.
		way, err := r.beside(ctx, t)
		return way, true, err
	}
	if err := r.connect(ctx, t, wish); err != nil {
		return route{}, true, fmt.Errorf("reach %s: %w", t.peer, err)
	}
	if c := r.standing(t.peer, fits); c != nil {
		return routeOver(c), true, nil
	}
	if wish == wire.Relayed { // a direct one came first
		way, err := r.beside(ctx, t)
		return way, true, err
	}
	return route{}, true, fmt.Errorf("reach %s: connected, but not %s", t.peer, wish)
}

func (r *router) standing(p peer.ID, fits func(network.Conn) bool) network.Conn {
	for _, c := range r.host.Network().ConnsToPeer(p) {
		if !c.IsClosed() && fits(c) {
			return c
		}
	}
	return nil
}

// connect dials through the host's network. Addresses that it knows of the
// peer are forgotten first, unless any path will do.
func (r *router) connect(ctx context.Context, t target, wish wire.Path) error {
	book := r.host.Peerstore()
	if wish != wire.AnyPath {
		book.ClearAddrs(t.peer)
	}
	book.AddAddr(t.peer, t.addr, peerstore.TempAddrTTL)
	r.retry(t)
	if wish == wire.Direct {
		ctx = network.WithForceDirectDial(ctx, "a direct path is wished for")
	}
	_, err := r.host.Network().DialPeer(network.WithAllowLimitedConn(ctx, "dispatch"), t.peer)
	return err
}

// retry lifts the swarm's backoff from the peer and its relay: somebody asks
// for this very dial, and "dial backoff" would be an answer without a dial.
func (r *router) retry(t target) {
	n, ok := r.host.Network().(interface{ Backoff() *swarm.DialBackoff })
	if !ok {
		return
	}
	n.Backoff().Clear(t.peer)
	if relay, err := peer.Decode(relayOf(t.addr)); err == nil {
		n.Backoff().Clear(relay)
	}
}

// beside dials exactly t.addr, for one use, leaving the host's network alone.
func (r *router) beside(ctx context.Context, t target) (route, error) {
	n, ok := r.host.Network().(interface {
		TransportForDialing(ma.Multiaddr) transport.Transport
	})
	if !ok {
		return route{}, fmt.Errorf("reach %s: %T gives no transports", t.peer, r.host.Network())
	}
	tpt := n.TransportForDialing(t.addr)
	if tpt == nil {
		return route{}, fmt.Errorf("reach %s: no transport for %s", t.peer, t.addr)
	}
	r.retry(t)
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := tpt.Dial(dialCtx, t.addr, t.peer)
	if err != nil {
		return route{}, fmt.Errorf("reach %s: dial %s: %w", t.peer, t.addr, err)
	}
	go refuseStreams(c)
	return route{
		peer: t.peer, conn: fmt.Sprintf("x%d", r.extra.Add(1)), path: pathOf(c),
		relay: relayOf(c.RemoteMultiaddr()), remote: c.RemoteMultiaddr(),
		open: c.OpenStream, close: func() { c.Close() },
	}, nil
}

// refuseStreams keeps the far side's streams (identify, say) from piling up on
// a connection that nobody listens to.
func refuseStreams(c transport.CapableConn) {
	for {
		s, err := c.AcceptStream()
		if err != nil {
			return
		}
		s.Reset()
	}
}

func routeOver(c network.Conn) route {
	return route{
		peer: c.RemotePeer(), conn: connID(c), path: pathOf(c), relay: relayOf(c.RemoteMultiaddr()), remote: c.RemoteMultiaddr(),
		open: func(ctx context.Context) (network.MuxedStream, error) {
			return c.NewStream(network.WithAllowLimitedConn(ctx, "the way was chosen"))
		},
		close: func() {},
	}
}

// stream opens a stream of one protocol on the route. The protocol's name
// travels with the first write, so that a request and its answer take one round
// trip; a peer that does not speak it is found out at the first read.
func (w route) stream(ctx context.Context, id protocol.ID) (*lazyStream, error) {
	s, err := w.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("open a stream to %s on %s: %w", w.peer, w.conn, err)
	}
	if deadline, ok := ctx.Deadline(); ok {
		s.SetDeadline(deadline)
	}
	return &lazyStream{s, multistream.NewMSSelect(s, id)}, nil
}

type lazyStream struct {
	network.MuxedStream
	lazy multistream.LazyConn
}

func (s *lazyStream) Read(b []byte) (int, error)  { return s.lazy.Read(b) }
func (s *lazyStream) Write(b []byte) (int, error) { return s.lazy.Write(b) }
