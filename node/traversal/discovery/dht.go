package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	kad "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// bucketSize is Kademlia's k: on how many servers an entry lies, and how many
	// peers a bucket holds. The public DHT's 20 is for millions of peers that come
	// and go, alpha its number of questions at once, beta how many of the closest
	// must have answered.
	bucketSize, alpha, beta = 8, 3, 2
	// queryTimeout bounds one lookup or announcement: a handful of rounds, some of
	// which wait for the dial of a dead peer.
	queryTimeout = 45 * time.Second
	// lookupWants is how many relays end a lookup.
	lookupWants = 16
)

// lookup finds relays in the mesh's DHT, and enters this node where it is one.
//
// Only nodes that the public can reach are servers of the DHT: an entry on a
// server behind a NAT is an entry that nobody reads. The library decides that by
// its AutoNAT v1 (ModeAuto), which a node that asks AutoNAT v2 need not have, and
// which knows nothing of a relay that was told to be one. We decide: a server is
// who relays, or who has an address that AutoNAT v2 has confirmed.
type lookup struct {
	d    *Discovery
	log  *slog.Logger
	host *kadHost
	wake chan struct{} // capacity 1: think again

	mu        sync.Mutex // guards the fields below
	reachable bool       // as AutoNAT v2 says
	sought    bool       // a reservation is lacking
	notBefore time.Time  // of the next question, after a failure

	// used by run only
	dht      *kad.IpfsDHT
	server   bool
	found    time.Time // when a lookup last succeeded
	entered  time.Time // when we last entered ourselves
	as       []ma.Multiaddr
	failures int // in a row
	luck     float64
}

func newLookup(d *Discovery) *lookup {
	return &lookup{
		d: d, log: d.log, wake: make(chan struct{}, 1), luck: luck(),
		host: &kadHost{looseHost: looseHost{d.cfg.Host}, addrs: d.announced, dialled: map[peer.ID]bool{}},
	}
}

// luck is a fifth more or less than 1, so that nodes which started together do
// not go on in step.
func luck() float64 { return 0.8 + 0.4*rand.Float64() }

// seek has relays looked for soon.
func (l *lookup) seek() {
	l.mu.Lock()
	l.sought = true
	l.mu.Unlock()
	nudge(l.wake)
}

func (l *lookup) setReachable(yes bool) {
	l.mu.Lock()
	l.reachable = yes
	l.mu.Unlock()
	nudge(l.wake)
}

// met is told of every peer of the DHT that has identified itself. If we had
// nobody to ask, we have now.
func (l *lookup) met() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.notBefore.IsZero() {
		l.notBefore = time.Time{}
		nudge(l.wake)
	}
}

// run works until ctx ends; then the DHT is closed.
func (l *lookup) run(ctx context.Context) {
	defer func() {
		if err := l.stop(); err != nil {
			l.log.Warn("DHT not closed", "err", err)
		}
	}()
	for ctx.Err() == nil {
		wait, err := l.round(ctx)
		if err != nil && ctx.Err() == nil {
			l.log.Debug("nothing done in the DHT", "err", err)
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-l.wake:
		case <-t.C:
		}
		t.Stop()
	}
}

// round does what is due, and tells when to come again.
func (l *lookup) round(ctx context.Context) (time.Duration, error) {
	addrs, relaying := l.d.serving()
	if err := l.be(ctx, l.isServer(relaying)); err != nil {
		return l.retry(), err
	}
	find, enter := l.due(addrs, relaying)
	if !find && !enter {
		left := l.host.hangUp(l.server, l.d.pace.hangUp, l.d.mesh)
		return max(min(left, l.rest(addrs, relaying)), l.d.pace.settle), nil
	}
	if !l.anybody(ctx) { // identify wakes us when somebody is
		return l.retry(), errors.New("no connected peer is a server of the DHT")
	}
	var errs []error
	if enter {
		errs = append(errs, l.enter(ctx, addrs))
	}
	if find {
		errs = append(errs, l.find(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return l.retry(), err
	}
	l.failures, l.luck = 0, luck()
	return l.d.pace.settle, nil
}

func (l *lookup) isServer(relaying bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return relaying || l.reachable
}

// be makes the DHT a server or a client. The library changes over by an event of
// AutoNAT v1 alone, so a new DHT is made; it begins with the peers that we are
// connected to. That happens once in the life of most nodes.
func (l *lookup) be(ctx context.Context, server bool) error {
	if l.dht != nil && l.server == server {
		return nil
	}
	if err := l.stop(); err != nil {
		return err
	}
	mode := kad.ModeClient
	if server {
		mode = kad.ModeServer
	}
	d, err := kad.New(ctx, l.host, append(l.options(), kad.Mode(mode))...)
	if err != nil {
		return fmt.Errorf("start the DHT %s: %w", l.d.mesh.prefix, err)
	}
	l.dht, l.server = d, server
	return nil
}

func (l *lookup) options() []kad.Option {
	rules := l.d.rules
	return []kad.Option{
		kad.ProtocolPrefix(l.d.mesh.prefix),
		kad.BucketSize(bucketSize), kad.Concurrency(alpha), kad.Resiliency(beta),
		kad.LookupCheckConcurrency(8),
		kad.DisableValues(),
		kad.ProviderStore(&providers{
			key: l.d.mesh.relays.Hash(), self: l.host.ID(), rules: rules, known: newTable(),
			us: func() (peer.AddrInfo, bool) {
				addrs, ok := l.d.serving()
				return peer.AddrInfo{ID: l.host.ID(), Addrs: addrs}, ok
			},
		}),
		// The table fills by what we ask anyway. Refreshing it by itself, the
		// library asks around every two minutes while it knows few peers.
		kad.DisableAutoRefresh(),
		kad.RoutingTableRefreshPeriod(l.d.pace.enter),
		kad.AddressFilter(rules.filter),
		kad.QueryFilter(func(_ any, ai peer.AddrInfo) bool { return len(rules.filter(ai.Addrs)) > 0 }),
		kad.RoutingTableFilter(func(_ any, id peer.ID) bool {
			return direct(l.host, id) && len(rules.filter(l.host.Peerstore().Addrs(id))) > 0
		}),
	}
}

func (l *lookup) stop() error {
	if l.dht == nil {
		return nil
	}
	err := l.dht.Close()
	l.dht = nil
	l.host.RemoveStreamHandler(l.d.mesh.kad())
	resetStreams(l.host, l.d.mesh.kad())
	if err != nil {
		return fmt.Errorf("close the DHT: %w", err)
	}
	return nil
}

// due tells whether it is time to look for relays, and to enter ourselves.
func (l *lookup) due(addrs []ma.Multiaddr, relaying bool) (find, enter bool) {
	now := time.Now()
	findAt, enterAt := l.dates(addrs)
	return !now.Before(findAt), relaying && !now.Before(enterAt)
}

// rest is how long nothing is due.
func (l *lookup) rest(addrs []ma.Multiaddr, relaying bool) time.Duration {
	next, enterAt := l.dates(addrs)
	if relaying && enterAt.Before(next) {
		next = enterAt
	}
	return time.Until(next)
}

// dates are when to look for relays, and when a relay enters itself, at addrs.
func (l *lookup) dates(addrs []ma.Multiaddr) (find, enter time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	find = l.found.Add(l.often(l.d.pace.find))
	if l.sought {
		find = l.found.Add(l.d.pace.seek)
	}
	enter = l.entered.Add(l.often(l.d.pace.enter))
	if !sameAddrs(addrs, l.as) {
		enter = l.entered.Add(l.d.pace.seek)
	}
	return latest(find, l.notBefore), latest(enter, l.notBefore)
}

func (l *lookup) often(d time.Duration) time.Duration { return time.Duration(float64(d) * l.luck) }

// retry is how long to wait after a failure: twice as long each time.
func (l *lookup) retry() time.Duration {
	d := l.often(min(l.d.pace.retry<<min(l.failures, 16), l.d.pace.find))
	l.failures++
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notBefore = time.Now().Add(d)
	return d
}

// anybody tells whether the DHT has somebody to ask. A server that we are
// connected to counts when the library has tried it out, which it does at once.
func (l *lookup) anybody(ctx context.Context) bool {
	if l.dht.RoutingTable().Size() > 0 {
		return true
	}
	if !slices.ContainsFunc(l.host.Network().Peers(), l.serves) {
		return false
	}
	select {
	case <-ctx.Done():
	case <-time.After(l.d.pace.settle):
	}
	return l.dht.RoutingTable().Size() > 0
}

func (l *lookup) serves(id peer.ID) bool {
	kad, err := l.host.Peerstore().SupportsProtocols(id, l.d.mesh.kad())
	return err == nil && len(kad) > 0
}

// enter makes us a provider of the mesh's relays.
func (l *lookup) enter(ctx context.Context, addrs []ma.Multiaddr) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	if err := l.dht.Provide(ctx, l.d.mesh.relays, true); err != nil {
		return fmt.Errorf("enter ourselves in the DHT: %w", err)
	}
	l.entered, l.as = time.Now(), addrs
	l.dht.RefreshRoutingTable() // in its own time: looks for us, so that those near us know us
	l.log.Debug("entered in the DHT as a relay", "addrs", addrs)
	return nil
}

// find asks for relays.
func (l *lookup) find(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	n := 0
	for info := range l.dht.FindProvidersAsync(ctx, l.d.mesh.relays, lookupWants) {
		n++
		l.d.learn(known{AddrInfo: l.d.rules.of(info), source: DHT, heard: time.Now()})
	}
	l.log.Debug("asked the DHT for relays", "found", n)
	if n == 0 {
		return errors.New("the DHT names no relay")
	}
	l.mu.Lock()
	l.sought = false
	l.mu.Unlock()
	l.found = time.Now()
	return nil
}

// looseHost is the host as the libraries see it: they would protect connections
// from the connection manager, of a small mesh all, and on a relay those of some
// donors from those of the others.
type looseHost struct{ host.Host }

// ConnManager is one that keeps nothing.
func (looseHost) ConnManager() connmgr.ConnManager { return connmgr.NullConnMgr{} }

// kadHost is the host as the DHT sees it.
type kadHost struct {
	looseHost
	addrs func() []ma.Multiaddr // nil: the host's

	mu      sync.Mutex       // guards the fields below
	dialled map[peer.ID]bool // by the DHT
	since   time.Time        // when the last of them was
}

// Addrs are what we announce as a relay: that is what the DHT enters.
func (h *kadHost) Addrs() []ma.Multiaddr {
	if addrs := h.addrs(); len(addrs) > 0 {
		return addrs
	}
	return h.Host.Addrs()
}

// Connect dials for the DHT, and remembers whom.
func (h *kadHost) Connect(ctx context.Context, info peer.AddrInfo) error {
	if h.Network().Connectedness(info.ID) == network.Connected {
		return nil
	}
	err := h.Host.Connect(ctx, info)
	if err == nil {
		h.mu.Lock()
		h.dialled[info.ID], h.since = true, time.Now()
		h.mu.Unlock()
	}
	return err
}

// NewStream leaves dialling to Connect.
func (h *kadHost) NewStream(ctx context.Context, id peer.ID, ids ...protocol.ID) (network.Stream, error) {
	return h.Host.NewStream(network.WithNoDial(ctx, "dht"), id, ids...)
}

// hangUp closes the connections that the DHT has made and nobody else has taken
// to, when the last has stood for so long; it tells how long that is still. A
// server keeps them: they are how gossip gets from relay to relay.
func (h *kadHost) hangUp(server bool, after time.Duration, m mesh) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.dialled) == 0 {
		return math.MaxInt64
	}
	if left := after - time.Since(h.since); left > 0 {
		return left
	}
	for id := range h.dialled {
		if !server && !h.Host.ConnManager().IsProtected(id, "") && !h.inUse(id, m) {
			_ = h.Network().ClosePeer(id)
		}
	}
	clear(h.dialled)
	return math.MaxInt64
}

// inUse tells whether anything but discovery is spoken with a peer.
func (h *kadHost) inUse(id peer.ID, m mesh) bool {
	for _, c := range h.Network().ConnsToPeer(id) {
		for _, s := range c.GetStreams() {
			if p := s.Protocol(); p != m.kad() && p != m.gossip {
				return true
			}
		}
	}
	return false
}
