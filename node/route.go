package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multistream"

	"github.com/worldcompute/wce2e/node/traversal"
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
	limit  *circuit // nil when nothing limits it
	// speaks tells whether the peer speaks a protocol; true while it has not said.
	speaks func(context.Context, protocol.ID) bool
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

// upgradeWait bounds the wait for a direct connection in place of a circuit: the
// dial that precedes hole punches and three of those, 5 s each, and what it takes
// to agree on them.
const upgradeWait = 30 * time.Second

// router finds or makes routes.
type router struct {
	host     host.Host
	circuits *circuits
	extra    atomic.Uint64 // connections made outside of the host's network

	mu    sync.Mutex           // guards the field below
	heard map[string]time.Time // when answers came lately, by connection
}

// to is a route for a job that goes the wished way and that the job fits, and
// the version to send it by. A connection that stands is taken, otherwise one is
// made, and fresh tells so.
func (r *router) to(ctx context.Context, job *parcel, wish wire.Path) (way route, v wire.Version, fresh bool, err error) {
	way, fresh, err = r.reach(ctx, job.to, wish)
	if err != nil {
		return route{}, 0, fresh, err
	}
	v, lacks := way.fit(ctx, job)
	if lacks != nil && !fresh && wish != wire.Direct && r.roomier(way, job) {
		if way, err = r.beside(ctx, job.to); err != nil {
			return route{}, 0, true, err
		}
		fresh = true
		v, lacks = way.fit(ctx, job)
	}
	switch {
	case wish == wire.Direct && way.path != wire.Direct:
		lacks = fmt.Errorf("a direct path is wished for, and %s leads through a relay", job.to.addr)
	case lacks == nil:
		return way, v, fresh, nil
	}
	way.close()
	if wish == wire.Relayed || way.path == wire.Direct {
		return route{}, 0, fresh, fmt.Errorf("reach %s: %w", job.to.peer, lacks)
	}
	if !fresh {
		if err := r.anew(ctx, job.to); err != nil {
			return route{}, 0, true, fmt.Errorf("reach %s: %w; and anew: %w", job.to.peer, lacks, err)
		}
	}
	if way, err = r.upgrade(ctx, job.to); err != nil {
		return route{}, 0, true, fmt.Errorf("reach %s: %w; %w", job.to.peer, lacks, err)
	}
	if v, err = way.fit(ctx, job); err != nil {
		return route{}, 0, true, fmt.Errorf("reach %s: %w", job.to.peer, err)
	}
	return way, v, true, nil
}

// roomier tells whether a new circuit over the job's address would have room
// for it, when the way that stands has none.
func (r *router) roomier(way route, job *parcel) bool {
	relay := relayOf(job.to.addr)
	if relay == "" {
		return false
	}
	return relay != way.relay || way.limit.lacksAnew(job.least(), job.until) == nil
}

// reach is a route to t that goes the wished way, whatever fits it. Where a
// direct one is wished for and t leads through a relay, the circuit will do: it
// is where a direct one begins.
func (r *router) reach(ctx context.Context, t target, wish wire.Path) (way route, fresh bool, err error) {
	relayed := has(t.addr, ma.P_CIRCUIT)
	if wish == wire.Relayed && !relayed {
		return route{}, false, fmt.Errorf("reach %s %s through %s: %w", t.peer, wish, t.addr, errWrongPath)
	}
	if wish == wire.Direct && relayed {
		wish = wire.AnyPath
	}
	fits := func(c network.Conn) bool {
		return wish == wire.AnyPath || pathOf(c) == wish && relayOf(c.RemoteMultiaddr()) == relayOf(t.addr)
	}
	if c := r.living(ctx, t.peer, fits); c != nil {
		return r.over(c), false, nil
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
		return r.over(c), true, nil
	}
	if wish == wire.Relayed { // a direct one came first
		way, err := r.beside(ctx, t)
		return way, true, err
	}
	return route{}, true, fmt.Errorf("reach %s: connected, but not %s", t.peer, wish)
}

// standingPatience is how long a connection that stands may take to answer: over a
// satellite (600 ms), with a packet lost and sent again, it takes half of that.
const standingPatience = 3 * time.Second

// heardFor is how long a connection is taken to live after an answer: one job after
// another need not wait for a round trip each.
const heardFor = 10 * time.Second

// answered tells that an answer came over a connection.
func (r *router) answered(conn string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.heard == nil {
		r.heard = map[string]time.Time{}
	}
	maps.DeleteFunc(r.heard, func(_ string, at time.Time) bool { return time.Since(at) > heardFor })
	r.heard[conn] = time.Now()
}

// unanswered tells that none came, for which the connection may be to blame.
func (r *router) unanswered(conn string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.heard, conn)
}

func (r *router) hasAnswered(conn string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.heard[conn]
	return ok && time.Since(at) < heardFor
}

// living is the best of the standing connections that answer; the others are
// closed. After a router has forgotten its flows, a dead one stands for as long as
// it takes to notice, 44 s over QUIC. One that has just answered a job is taken as
// it is, and so is one with a job under way: on a slow line the sign of life may wait
// behind that job, which would end with the connection.
func (r *router) living(ctx context.Context, p peer.ID, fits func(network.Conn) bool) network.Conn {
	for {
		c := r.standing(p, fits)
		if c == nil || working(c) || r.hasAnswered(connID(c)) || !traversal.Dead(ctx, c, standingPatience) {
			return c
		}
		_ = c.Close() // of a peer that is not there
	}
}

// working tells whether a job is under way on c. Of ours, route.stream does not tell
// the library the protocol, unlike all others of their streams.
func working(c network.Conn) bool {
	return slices.ContainsFunc(c.GetStreams(), func(s network.Stream) bool {
		if s.Stat().Direction == network.DirOutbound {
			return s.Protocol() == ""
		}
		return slices.ContainsFunc(wire.Versions, func(v wire.Version) bool { return protocol.ID(v.Protocol()) == s.Protocol() })
	})
}

// standing is the best of the connections that fit: a direct one before a
// circuit, and a circuit without limits before one with.
func (r *router) standing(p peer.ID, fits func(network.Conn) bool) network.Conn {
	var best network.Conn
	for _, c := range r.host.Network().ConnsToPeer(p) {
		if !c.IsClosed() && fits(c) && (best == nil || narrowness(c) < narrowness(best)) {
			best = c
		}
	}
	return best
}

func narrowness(c network.Conn) int {
	switch {
	case pathOf(c) == wire.Direct:
		return 0
	case !c.Stat().Limited:
		return 1
	}
	return 2
}

// anew gives a peer another circuit for the one that stands, unless that is in use.
// A peer punches for a direct connection when a circuit begins and never again: when
// this one did, neither end may have known yet where the world sees it.
func (r *router) anew(ctx context.Context, t target) error {
	for _, c := range r.host.Network().ConnsToPeer(t.peer) {
		if pathOf(c) == wire.Direct || working(c) {
			return nil
		}
		_ = c.Close() // the next one stands in its place
	}
	return r.connect(ctx, t, wire.AnyPath)
}

// upgrade waits for a direct connection to a peer that a circuit leads to. The
// peer punches for one by itself as soon as there is a circuit (DCUtR); from
// here, the addresses that it told are dialled.
func (r *router) upgrade(ctx context.Context, t target) (route, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, upgradeWait)
	defer cancel()
	direct := func(c network.Conn) bool { return pathOf(c) == wire.Direct }
	came := make(chan struct{}, 1)
	watch := &network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) {
		if c.RemotePeer() == t.peer && direct(c) {
			select {
			case came <- struct{}{}:
			default:
			}
		}
	}}
	r.host.Network().Notify(watch)
	defer r.host.Network().StopNotify(watch)
	dialled := make(chan error, 1)
	go func() { dialled <- r.dialDirect(ctx, t) }()
	var tried error
	for {
		if c := r.standing(t.peer, direct); c != nil {
			return r.over(c), nil
		}
		select {
		case <-came:
		case tried = <-dialled:
		case <-ctx.Done():
			err := fmt.Errorf("no direct connection came within %s", time.Since(began).Round(time.Second))
			if tried != nil {
				err = fmt.Errorf("%w; dialled directly: %w", err, tried)
			}
			return route{}, err
		}
	}
}

// dialDirect dials what the peer has told of its own addresses.
func (r *router) dialDirect(ctx context.Context, t target) error {
	for _, c := range r.host.Network().ConnsToPeer(t.peer) {
		r.identified(ctx, c)
	}
	if !has(t.addr, ma.P_CIRCUIT) {
		r.host.Peerstore().AddAddr(t.peer, t.addr, peerstore.TempAddrTTL)
	}
	r.retry(t)
	_, err := r.host.Network().DialPeer(network.WithForceDirectDial(ctx, "a job does not fit the circuit"), t.peer)
	return err
}

// identified waits until the peer has said, on that connection, what it speaks
// and where it is.
func (r *router) identified(ctx context.Context, c network.Conn) {
	h, ok := r.host.(interface{ IDService() identify.IDService })
	if !ok {
		return
	}
	select {
	case <-h.IDService().IdentifyWait(c):
	case <-ctx.Done():
	}
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
		relay: relayOf(c.RemoteMultiaddr()), remote: c.RemoteMultiaddr(), limit: limitsBeside(c),
		speaks: saysNothing, open: c.OpenStream, close: func() { c.Close() },
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

// limitsBeside are those of a circuit outside of the host's network.
func limitsBeside(c transport.CapableConn) *circuit {
	s, ok := c.(network.ConnStat)
	if !ok {
		return nil
	}
	return limitsOf(c.RemoteMultiaddr(), s.Stat())
}

// over is the route over a connection of the host's network, its limits kept
// account of.
func (r *router) over(c network.Conn) route {
	way := routeOver(c)
	way.limit = r.circuits.of(c)
	way.speaks = func(ctx context.Context, id protocol.ID) bool {
		r.identified(ctx, c)
		known, err := r.host.Peerstore().GetProtocols(c.RemotePeer())
		return err != nil || len(known) == 0 || slices.Contains(known, id)
	}
	return way
}

func routeOver(c network.Conn) route {
	return route{
		peer: c.RemotePeer(), conn: connID(c), path: pathOf(c), relay: relayOf(c.RemoteMultiaddr()), remote: c.RemoteMultiaddr(),
		speaks: saysNothing,
		open: func(ctx context.Context) (network.MuxedStream, error) {
			return c.NewStream(network.WithAllowLimitedConn(ctx, "the way was chosen"))
		},
		close: func() {},
	}
}

// saysNothing is what a peer speaks that has not said so: it is tried.
func saysNothing(context.Context, protocol.ID) bool { return true }

// fit chooses the version to send a job by on this way, and tells why none
// does: the job's size, its time, or what the peer speaks.
func (w route) fit(ctx context.Context, job *parcel) (wire.Version, error) {
	var why error // of the version with the fewest bytes
	for _, v := range wire.Versions {
		n, ok := job.sizes[v]
		if !ok {
			continue
		}
		err := w.limit.lacks(n, job.until)
		if err == nil && v != wire.V10 && !w.speaks(ctx, protocol.ID(v.Protocol())) {
			err = fmt.Errorf("%d bytes take %s, which the peer does not speak", n, v.Protocol())
			if why != nil {
				err = fmt.Errorf("%w; %w", why, err)
			}
		}
		if err == nil {
			return v, nil
		}
		why = err
	}
	return 0, fmt.Errorf("the request: %w", why)
}

// stream opens a stream of one protocol on the route. The protocol's name
// travels with the first write, so that a request and its answer take one round
// trip; a peer that does not speak it is found out at the first read.
func (w route) stream(ctx context.Context, id protocol.ID) (*lazyStream, error) {
	s, err := w.muxed(ctx)
	if err != nil {
		return nil, err
	}
	return &lazyStream{s, multistream.NewMSSelect(s, id)}, nil
}

// eagerStream is stream for much to be sent: that the peer speaks the protocol
// is known before, at the price of a round trip.
func (w route) eagerStream(ctx context.Context, id protocol.ID) (network.MuxedStream, error) {
	s, err := w.muxed(ctx)
	if err != nil {
		return nil, err
	}
	if err := multistream.SelectProtoOrFail(id, s); err != nil {
		s.Reset()
		return nil, fmt.Errorf("agree with %s on %s: %w", w.peer, id, err)
	}
	return s, nil
}

func (w route) muxed(ctx context.Context) (network.MuxedStream, error) {
	s, err := w.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("open a stream to %s on %s: %w", w.peer, w.conn, err)
	}
	if deadline, ok := ctx.Deadline(); ok {
		s.SetDeadline(deadline)
	}
	return s, nil
}

type lazyStream struct {
	network.MuxedStream
	lazy multistream.LazyConn
}

func (s *lazyStream) Read(b []byte) (int, error)  { return s.lazy.Read(b) }
func (s *lazyStream) Write(b []byte) (int, error) { return s.lazy.Write(b) }
