package traversal

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	madns "github.com/multiformats/go-multiaddr-dns"

	"github.com/worldcompute/wce2e/node/wire"
)

// Keeper keeps reservations on relays, for ever. Its fields are set before Run;
// only Host is required.
//
// Every peer of the bootstrap list is dialled at once and kept connected, since
// peers that are no relays are still needed: they tell us our address as others
// see it. Of those that relay, the first to answer give the reservations; the
// others stand by, connected, and take over within a round trip. Relays that
// were found elsewhere (see Found) are dialled while reservations are lacking.
type Keeper struct {
	Host host.Host
	// Bootstrap are multiaddrs of relays and ordinary peers: raw addresses with
	// /p2p/ID, /dns*, /dnsaddr. Empty: nobody is dialled.
	Bootstrap []string
	// Want is how many reservations are held at once; 0 means 1, and a negative
	// number none (a relay keeps its peers, and needs no relay).
	Want int
	// Record takes every event of this package: resolve.ended, reservation.made,
	// reservation.failed, reservation.lost and relay.ping. nil means nobody does.
	// It is called from several goroutines and must not block.
	Record func(wire.Event)
	// ConnID names a connection as the conn.opened events do; nil means the
	// library's own ID.
	ConnID func(network.Conn) string
	// Changed is called when the answer of CircuitAddrs has changed; nil means
	// nobody wants to know. It is called without locks held, and may call
	// CircuitAddrs and Relays. When the keeper ends it is not called.
	Changed func()
	// Resolver answers questions about names; nil means the system's.
	Resolver madns.BasicResolver
	// SecondOpinion is asked about a name when what Resolver said of it led to no
	// reservation: a resolver that lies answers quickly. nil means nobody is.
	SecondOpinion madns.BasicResolver
	// Memory keeps the way that won; nil means that every start is the first.
	Memory Memory
	// Outer tells what was seen around libp2p's own handshake on a connection, false
	// where there was nothing. nil: there never is.
	Outer func(interface{ As(any) bool }) (Outer, bool)
	// RefuseInspected leaves relays to which the way leads through a TLS
	// interceptor, though the host trusts it.
	RefuseInspected bool
	// Narrow is told whether full-size packets vanish in this network: connections
	// dialled from then on have to use smaller ones. nil: nobody can.
	Narrow func(bool)
	// Reserved is told of every reservation, and by which address it was had;
	// Refused of every relay that said no itself: it may know others. nil: nobody.
	Reserved func(relay peer.ID, way ma.Multiaddr)
	Refused  func(context.Context, network.Conn)
	Log      *slog.Logger // nil means discard

	begin                    sync.Once     // reset
	starts                   gate          // of dials
	renewEvery, improveEvery time.Duration // 0 means the constants of these names; shorter in tests

	mu         sync.Mutex // guards the fields below
	candidates map[peer.ID]*candidate
	held       map[peer.ID]*holding
	asking     map[peer.ID]time.Time // who is being asked for a reservation, since when
	lost       time.Time             // when a reservation was last lost or became doubtful
	// Since when there are fewer sound ones than wanted, fewer without limits than
	// wanted, and none at all; zero when that is not so.
	lackingSince, limitedSince, noneSince time.Time

	stirred     time.Time     // when the network last changed
	stir        chan struct{} // closed and replaced when it does
	stirPending bool          // it will
	kept        bool          // a way has been remembered since then
	narrow      bool          // what Narrow was last told
	narrowSince time.Time     // when that was
	closing     map[network.Conn]chan struct{}
	changed     chan struct{} // closed and replaced when any of the above changes
	tending     sync.WaitGroup
}

// Run works until ctx ends, and returns nil then. It returns an error at once
// when Bootstrap is malformed; CheckBootstrap tells beforehand.
func (k *Keeper) Run(ctx context.Context) error {
	list, err := parseBootstrap(k.Bootstrap)
	if err != nil {
		return fmt.Errorf("keep a reservation: %w", err)
	}
	k.begin.Do(k.reset)
	defer k.ended()
	stop, err := k.watch(ctx)
	if err != nil {
		return fmt.Errorf("keep a reservation: %w", err)
	}
	defer stop()
	k.beginRemembered(ctx)
	for _, id := range list.order {
		k.add(ctx, id, list.peers[id]...)
	}
	for _, name := range list.names {
		k.tending.Go(func() { k.followName(ctx, name) })
	}
	<-ctx.Done()
	return nil
}

// ended lets nobody begin any more, and waits for all who have.
func (k *Keeper) ended() {
	k.mu.Lock()
	k.candidates = nil
	k.mu.Unlock()
	k.tending.Done()
	k.tending.Wait()
}

func (k *Keeper) reset() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.starts = newGate()
	k.candidates = map[peer.ID]*candidate{}
	k.held = map[peer.ID]*holding{}
	k.asking = map[peer.ID]time.Time{}
	k.closing = map[network.Conn]chan struct{}{}
	k.changed, k.stir = make(chan struct{}), make(chan struct{})
	k.tending.Add(1) // for Run; see ended
	k.tellLocked()
}

// configured is the list of the raw addresses of Bootstrap. Every name in it is
// a list of its own.
const configured = ""

// maxCandidates bounds how many peers names can make us keep: those that are
// configured by address are not refused.
const maxCandidates = 256

// add makes a candidate of a peer that is configured, or adds addresses to the
// one it is.
func (k *Keeper) add(ctx context.Context, id peer.ID, addrs ...ma.Multiaddr) {
	k.enlist(ctx, configured, id, addrs...)
}

// enlist is add for any list. It tells whether there was room.
func (k *Keeper) enlist(ctx context.Context, list string, id peer.ID, addrs ...ma.Multiaddr) bool {
	if id == k.Host.ID() {
		return true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.candidates == nil {
		return true // it has ended
	}
	c, known := k.candidates[id]
	if !known {
		if list != configured && len(k.candidates) >= maxCandidates {
			return false
		}
		c = k.candidateLocked(id)
	}
	c.lists[list] = true
	for _, a := range addrs {
		c.addLocked(a, list == configured)
	}
	k.tellLocked()
	if !known && ctx.Err() == nil {
		k.tending.Go(func() { c.tend(ctx) })
	}
	return true
}

// unlist takes those out of a list that it has ceased to name.
func (k *Keeper) unlist(list string, named map[peer.ID]bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, c := range k.candidates {
		if !named[id] {
			delete(c.lists, list)
		}
	}
}

// followName keeps a name's peers in the list: asked at once, again after a
// failure, and now and then, since relays move.
func (k *Keeper) followName(ctx context.Context, name ma.Multiaddr) {
	for failures := 0; ctx.Err() == nil; {
		began := time.Now()
		err := k.askName(ctx, name, k.resolver())
		if second := k.SecondOpinion; second != nil && k.ledNowhere(ctx) {
			err = k.askName(ctx, name, second)
		}
		if err != nil {
			failures++
		} else {
			failures = 0
		}
		k.restName(ctx, began, failures)
	}
}

// answerPatience is how long the addresses of a name may take to lead to a
// reservation before another resolver is asked about it: longer than any
// handshake on a path that lives, satellites excepted.
const answerPatience = 1500 * time.Millisecond

// ledNowhere waits a moment for a reservation, and tells whether there is none
// at all.
func (k *Keeper) ledNowhere(ctx context.Context) bool {
	for began := time.Now(); ctx.Err() == nil; {
		change := k.change()
		k.mu.Lock()
		sound := k.soundLocked()
		k.mu.Unlock()
		left := answerPatience - time.Since(began)
		if sound > 0 || k.want() == 0 || left <= 0 {
			return sound == 0 && k.want() > 0
		}
		await(ctx, change, left)
	}
	return false
}

// askName brings a name's peers up to date. A name that does not answer takes
// nobody out of the list.
func (k *Keeper) askName(ctx context.Context, name ma.Multiaddr, resolver madns.BasicResolver) error {
	var mu sync.Mutex // guards the two below
	named, refused := map[peer.ID]bool{}, 0
	err := k.expand(ctx, name, resolver, func(id peer.ID, a ma.Multiaddr) {
		room := k.enlist(ctx, name.String(), id, a)
		mu.Lock()
		defer mu.Unlock()
		named[id] = true
		if !room {
			refused++
		}
	})
	if err != nil {
		return err
	}
	k.unlist(name.String(), named)
	if refused > 0 {
		k.log().Warn("too many bootstrap peers", "addr", name.String(), "left_out", refused, "most", maxCandidates)
	}
	return nil
}

// restName waits before a name is asked again.
func (k *Keeper) restName(ctx context.Context, began time.Time, failures int) {
	luck := jitter()
	for ctx.Err() == nil {
		change := k.change()
		left := k.nameAgain(failures, luck) - time.Since(began)
		if left <= 0 || k.stirredSince(began) {
			return
		}
		await(ctx, change, left)
	}
}

// nameAgain is how long after the last answer, or after so many failures, a
// name is asked again, as things stand now.
func (k *Keeper) nameAgain(failures int, luck float64) time.Duration {
	lacking, _ := k.need()
	switch {
	case failures > 0 && lacking:
		return backoff(failures-1, maxBackoff, luck)
	case failures > 0:
		return time.Duration(float64(idleBackoff) * luck)
	case lacking:
		return maxBackoff
	}
	return resolveAgain
}

// CircuitAddrs are the addresses under which the standing reservations make us
// reachable: /ip4/.../p2p/RELAY/p2p-circuit, without /p2p/SELF. Reservations
// without limits come first, then the oldest, and of its addresses the one that
// we use ourselves.
func (k *Keeper) CircuitAddrs() []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, h := range k.holdings() {
		out = append(out, h.addrs...)
	}
	return out
}

// Relays tells about the relays that hold a reservation of ours, in the order of
// CircuitAddrs.
func (k *Keeper) Relays() []wire.RelayStatus {
	out := []wire.RelayStatus{}
	for _, h := range k.holdings() {
		out = append(out, h.status())
	}
	return out
}

// holdings are copies of what is held: those whose circuits have no limits, and
// of these the oldest, first.
func (k *Keeper) holdings() []holding {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make([]holding, 0, len(k.held))
	for _, h := range k.held {
		out = append(out, *h)
	}
	slices.SortFunc(out, func(a, b holding) int {
		return cmp.Or(compareBool(a.reservation.limited(), b.reservation.limited()), a.made.Compare(b.made),
			cmp.Compare(a.conn.RemotePeer(), b.conn.RemotePeer()))
	})
	return out
}

// compareBool orders false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// tellLocked wakes everybody who waits for a change of state. k.mu is held.
func (k *Keeper) tellLocked() {
	stamp(&k.lackingSince, k.soundLocked() < k.want())
	stamp(&k.limitedSince, k.unlimitedLocked() < k.want())
	stamp(&k.noneSince, k.soundLocked() == 0 && k.want() > 0)
	close(k.changed)
	k.changed = make(chan struct{})
}

// change is closed at the next change of state; it is taken before looking.
func (k *Keeper) change() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.changed
}

func (k *Keeper) want() int {
	if k.Want == 0 {
		return 1
	}
	return max(k.Want, 0)
}

// need tells whether fewer sound reservations are held than wanted, and when
// one was last lost.
func (k *Keeper) need() (lacking bool, lost time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.soundLocked() < k.want(), k.lost
}

// stamp notes since when something is so; the zero time when it is not.
func stamp(at *time.Time, so bool) {
	switch {
	case !so:
		*at = time.Time{}
	case at.IsZero():
		*at = time.Now()
	}
}

// since is how long ago a stamp was made; 0 for none.
func since(at time.Time) time.Duration {
	if at.IsZero() {
		return 0
	}
	return max(time.Since(at), 1)
}

// lostLocked notes that a reservation was lost when it is missed: others are then
// asked sooner. k.mu is held.
func (k *Keeper) lostLocked() {
	if k.soundLocked() < k.want() {
		k.lost = time.Now()
	}
}

// doubtEvery is how often a mere doubt does so: on a line that comes and goes,
// others are not asked all the time.
const doubtEvery = 10 * time.Second

// Lacking tells for how long there has been no reservation without limits; 0
// when there is one, or none is wanted. Stranded tells for how long there has
// been none at all.
func (k *Keeper) Lacking() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.unlimitedLocked() > 0 {
		return 0
	}
	return since(k.limitedSince)
}

// Stranded tells for how long there has been no reservation at all; 0 when there
// is one, or none is wanted.
func (k *Keeper) Stranded() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	return since(k.noneSince)
}

// lackingFor tells for how long fewer sound reservations have been held than
// wanted; 0 when they are not.
func (k *Keeper) lackingFor() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	return since(k.lackingSince)
}

// soundLocked counts the reservations whose relay answers. k.mu is held.
func (k *Keeper) soundLocked() int {
	return k.countLocked((*holding).sound)
}

// unlimitedLocked counts those of them that carry anything. k.mu is held.
func (k *Keeper) unlimitedLocked() int {
	return k.countLocked(func(h *holding) bool { return h.sound() && !h.reservation.limited() })
}

func (k *Keeper) countLocked(counts func(*holding) bool) int {
	n := 0
	for _, h := range k.held {
		if counts(h) {
			n++
		}
	}
	return n
}

func (k *Keeper) record(e wire.Event) {
	if k.Record != nil {
		k.Record(e)
	}
}

func (k *Keeper) connID(c network.Conn) string {
	if k.ConnID != nil {
		return k.ConnID(c)
	}
	return c.ID()
}

func (k *Keeper) log() *slog.Logger {
	if k.Log != nil {
		return k.Log
	}
	return slog.New(slog.DiscardHandler)
}

func (k *Keeper) resolver() madns.BasicResolver {
	if k.Resolver != nil {
		return k.Resolver
	}
	return net.DefaultResolver
}
