package discovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	ma "github.com/multiformats/go-multiaddr"
)

// Config is what a Discovery needs. Only Host is required.
type Config struct {
	Host host.Host
	// Mesh is the name of a private mesh; empty means the public one. Nodes of
	// different meshes neither find nor announce each other.
	Mesh string
	// PrivateAddrs has addresses of private networks and of loopback believed and
	// announced, too: for a mesh inside of one network, and for tests.
	PrivateAddrs bool
	// Dir is where the cache is kept, in CacheFile; empty means nowhere.
	Dir string
	// Found takes every relay that is found, with the Source; nil means nobody
	// does. The addresses are without /p2p. It is called from one goroutine, at
	// most 16 times in a burst and every two seconds after that, and again for a
	// relay that has moved or is heard of after ten minutes. It must not call Close.
	Found func(info peer.AddrInfo, source string)
	// Serving tells whether this node is a relay now, and where; nil means never.
	// Addresses that others would not take are not announced: names, circuits,
	// and private ones but with PrivateAddrs. It is called often, from several
	// goroutines; see Changed.
	Serving func() (addrs []ma.Multiaddr, ok bool)
	Log     *slog.Logger // nil means discard
}

// pace is how often things are done. A donor at rest costs little by doing
// little: a lookup of a few messages every half hour.
type pace struct {
	find   time.Duration // between lookups of relays in the DHT
	seek   time.Duration // between lookups while a reservation is lacking
	enter  time.Duration // between entries of ours in the DHT; they are kept for provideFor
	retry  time.Duration // after the first failure in the DHT
	settle time.Duration // what the library needs to try out a new peer of the DHT
	hangUp time.Duration // after which the connections of a lookup are closed

	announce  time.Duration // between announcements by gossip, see announcement.due
	changed   time.Duration // at least, before the next where our addresses changed
	joined    time.Duration // at least, before the next where somebody joined
	heartbeat time.Duration // of gossip; the library's 1 s is for blocks and votes

	save time.Duration // after a change, before the cache is written
}

var usualPace = pace{
	find: 30 * time.Minute, seek: time.Minute, enter: time.Hour,
	retry: 10 * time.Second, settle: time.Second, hangUp: 30 * time.Second,
	announce: 10 * time.Minute, changed: 10 * time.Second, joined: 2 * time.Minute, heartbeat: 5 * time.Second,
	save: 5 * time.Second,
}

// Discovery finds relays and announces this node, from Start to Close.
type Discovery struct {
	cfg   Config
	log   *slog.Logger
	mesh  mesh
	rules policy
	pace  pace

	table    *table
	report   *report
	gossip   *gossip
	lookup   *lookup
	exchange *exchange
	dirty    chan struct{} // capacity 1: the cache is to be written

	cancel  context.CancelFunc
	events  event.Subscription
	running sync.WaitGroup
	closing sync.Once
	closed  error
}

// Start begins to look for relays. It is best called before the first peer is
// dialled, so that gossip tries no peer that does not speak it. Of what it finds
// it dials nobody; a lookup dials servers of the DHT, and hangs up again. It runs
// until Close, or until ctx ends; then, too, Close has to be called.
func Start(ctx context.Context, cfg Config) (*Discovery, error) {
	return start(ctx, cfg, usualPace)
}

func start(ctx context.Context, cfg Config, p pace) (*Discovery, error) {
	if cfg.Host == nil {
		return nil, errors.New("discover relays: no host given")
	}
	m, err := meshOf(cfg.Mesh)
	if err != nil {
		return nil, fmt.Errorf("discover relays: %w", err)
	}
	if cfg.Found == nil {
		cfg.Found = func(peer.AddrInfo, string) {}
	}
	d := &Discovery{
		cfg: cfg, mesh: m, rules: policy{private: cfg.PrivateAddrs}, pace: p,
		log:   cmp.Or(cfg.Log, slog.New(slog.DiscardHandler)),
		table: newTable(), report: newReport(cfg.Found), dirty: make(chan struct{}, 1),
	}
	ctx, d.cancel = context.WithCancel(ctx)
	if err := d.start(ctx); err != nil {
		d.cancel()
		return nil, fmt.Errorf("discover relays: %w", err)
	}
	return d, nil
}

func (d *Discovery) start(ctx context.Context) (err error) {
	d.events, err = d.cfg.Host.EventBus().Subscribe([]any{
		new(event.EvtPeerIdentificationCompleted),
		new(event.EvtPeerProtocolsUpdated),
		new(event.EvtHostReachableAddrsChanged),
		new(event.EvtLocalAddressesUpdated),
	}, eventbus.BufSize(64), eventbus.Name("wce2e/discovery"))
	if err != nil {
		return err
	}
	if d.gossip, err = startGossip(ctx, d); err != nil {
		return errors.Join(err, d.events.Close())
	}
	d.lookup = newLookup(d)
	d.exchange = newExchange(d)
	d.recall()
	d.cfg.Host.SetStreamHandler(d.mesh.exchange, func(s network.Stream) { d.answer(ctx, s) })
	for _, run := range []func(context.Context){
		d.report.run, d.watch, d.keepCache,
		d.gossip.listen, d.gossip.watchPeers, d.gossip.announce, d.lookup.run,
	} {
		d.running.Go(func() { run(ctx) })
	}
	return nil
}

// Close ends everything, and writes the cache a last time. That it cannot be
// written is a warning, as it is while running.
func (d *Discovery) Close() error {
	d.closing.Do(func() {
		d.cfg.Host.RemoveStreamHandler(d.mesh.exchange)
		d.closed = errors.Join(d.gossip.close(), d.events.Close())
		d.cancel()
		d.running.Wait()
		d.save()
	})
	return d.closed
}

// Changed tells that the answer of Serving may be another one now.
func (d *Discovery) Changed() {
	nudge(d.gossip.changed)
	nudge(d.lookup.wake)
}

// Seek tells that a reservation is lacking: all that is known is handed to Found
// again, and the DHT is asked now rather than in half an hour, at most once a
// minute. The end of the need is not told; one answer ends the hurry.
func (d *Discovery) Seek() {
	for _, k := range d.table.best() {
		d.report.add(k, false)
	}
	d.lookup.seek()
}

// Exchange asks the peer of a connection, one that has refused us or has nothing
// to give, for other relays; they go to Found. It takes 10 s at most.
func (d *Discovery) Exchange(ctx context.Context, conn network.Conn) error {
	from := conn.RemotePeer()
	relays, err := d.exchange.ask(ctx, from)
	if err != nil {
		return fmt.Errorf("ask %s for relays: %w", from, err)
	}
	for _, s := range relays {
		k := fromRecord(s, d.rules)
		k.source, k.teller, k.heard = Exchange, from, time.Now()
		d.learn(k)
	}
	return nil
}

// Remember notes that a relay has given us a reservation, and where: it is kept,
// in the cache for 30 days, and tried first after a restart.
func (d *Discovery) Remember(info peer.AddrInfo, way ma.Multiaddr) {
	now := time.Now()
	k := known{AddrInfo: info, heard: now, granted: now, way: way}
	if way != nil {
		bare, _ := peer.SplitAddr(way)
		k.way = bare
		k.Addrs = slices.Insert(slices.Clone(k.Addrs), 0, bare)
	}
	k.Addrs = dialable(k.AddrInfo)
	if s, ok := d.exchange.recordOf(info.ID); ok {
		k.record, k.seq = s.envelope, s.seq
	}
	d.table.granted(k)
	nudge(d.dirty)
}

// dialable are the addresses of a peer that we dialled ourselves: they need not
// be public, nor IP addresses.
func dialable(info peer.AddrInfo) []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, a := range info.Addrs {
		if bare, _ := peer.SplitAddr(a); bare != nil && !ma.Contains(out, bare) && len(out) < MaxAddrs {
			out = append(out, bare)
		}
	}
	return out
}

// Forget notes that a relay that gave reservations gives none any more: from now
// on it is one of those that we have only heard of.
func (d *Discovery) Forget(id peer.ID) {
	d.table.disappointed(id)
	nudge(d.dirty)
}

// learn takes in what was heard of a relay, and hands it on.
func (d *Discovery) learn(k known) {
	if k.ID == d.cfg.Host.ID() {
		return
	}
	news := d.table.learn(k)
	if now, there := d.table.get(k.ID); there {
		now.source = k.source
		d.report.add(now, news)
	}
}

// serving is what Config.Serving says, as far as others would believe it.
func (d *Discovery) serving() ([]ma.Multiaddr, bool) {
	if d.cfg.Serving == nil {
		return nil, false
	}
	addrs, ok := d.cfg.Serving()
	if !ok {
		return nil, false
	}
	addrs = d.rules.of(peer.AddrInfo{ID: d.cfg.Host.ID(), Addrs: addrs}).Addrs
	return addrs, len(addrs) > 0
}

// hidden tells that we relay where nobody would look for us.
func (d *Discovery) hidden() bool {
	if d.cfg.Serving == nil {
		return false
	}
	_, relaying := d.cfg.Serving()
	_, seen := d.serving()
	return relaying && !seen
}

func (d *Discovery) announced() []ma.Multiaddr {
	addrs, _ := d.serving()
	return addrs
}

func (d *Discovery) answer(ctx context.Context, s network.Stream) {
	if err := d.exchange.serve(ctx, s); err != nil {
		d.log.Debug("relays not told", "err", err)
		_ = s.Reset()
		return
	}
	_ = s.Close()
}

// watch passes on what the host notices.
func (d *Discovery) watch(ctx context.Context) {
	for {
		var e any
		var ok bool
		select {
		case <-ctx.Done():
			return
		case e, ok = <-d.events.Out():
			if !ok {
				return
			}
		}
		switch e := e.(type) {
		case event.EvtPeerIdentificationCompleted:
			d.exchange.met(e)
			if slices.Contains(e.Protocols, d.mesh.kad()) {
				d.lookup.met()
			}
		case event.EvtPeerProtocolsUpdated:
			if slices.Contains(e.Added, d.mesh.kad()) {
				d.lookup.met()
			}
		case event.EvtHostReachableAddrsChanged:
			d.lookup.setReachable(len(d.rules.filter(e.Reachable)) > 0)
		case event.EvtLocalAddressesUpdated:
			d.Changed()
		}
	}
}

// recall takes the relays of earlier runs out of the cache. A cache that cannot
// be read is a loss, and no reason not to start.
func (d *Discovery) recall() {
	if d.cfg.Dir == "" {
		return
	}
	relays, err := loadCache(d.cfg.Dir, d.rules, time.Now())
	if err != nil {
		d.log.Warn("remembered relays lost", "err", err)
	}
	for _, k := range relays {
		d.learn(k)
	}
}

// keepCache writes the cache a while after a reservation came or went, and now
// and then for what was heard.
func (d *Discovery) keepCache(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(d.pace.find):
		case <-d.dirty:
			select {
			case <-ctx.Done():
				return
			case <-time.After(d.pace.save):
			}
		}
		d.save()
	}
}

// save writes the cache, if it is kept.
func (d *Discovery) save() {
	if d.cfg.Dir == "" {
		return
	}
	if err := saveCache(d.cfg.Dir, d.table.best()); err != nil {
		d.log.Warn("relays not remembered", "err", err)
	}
}
