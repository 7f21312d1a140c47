package discovery

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// maxKnown bounds the relays that are kept in mind. A donor needs two.
	maxKnown = 256
	// maxPerTeller is how many of them one peer may have told us of: with all its
	// lies it fills an eighth of the table. Neighbours in gossip tell most of the
	// truth as well, and this many relays are more than a donor will try.
	maxPerTeller = 32
	// maxPerNet is how many may claim to be in one /24 or /48. Many identities cost
	// nothing, addresses in many networks do, once somebody answers there.
	maxPerNet = 8
	// forgetHearsay and forgetGranted are how long a relay is kept that is not
	// heard of any more, without and with a reservation it once gave.
	forgetHearsay = 24 * time.Hour
	forgetGranted = 30 * 24 * time.Hour
)

// Source is how a relay was found.
type Source string

// The sources, as they stand in relay.found events.
const (
	DHT      Source = "dht"
	Gossip   Source = "gossip"
	Exchange Source = "exchange"
	Cache    Source = "cache"
)

// known is a relay that we have heard of. It is not changed once it is in a
// table, but replaced.
type known struct {
	peer.AddrInfo
	record  []byte // its own word for it, if we have that
	seq     uint64 // of record
	source  Source
	teller  peer.ID      // who told us; empty when it is not known, or we ourselves
	heard   time.Time    // when we last did
	granted time.Time    // when it last gave us a reservation; zero: never
	way     ma.Multiaddr // where that was
}

func fromRecord(s signed, p policy) known {
	return known{AddrInfo: p.of(s.AddrInfo), record: s.envelope, seq: s.seq}
}

// table keeps the relays that we know, within bounds. Whatever is learned may
// drive out older hearsay, and never a relay that gave us a reservation.
type table struct {
	mu     sync.Mutex // guards the fields below
	relays map[peer.ID]known
}

func newTable() *table { return &table{relays: map[peer.ID]known{}} }

// learn takes in what was heard of a relay, and tells whether that was news: the
// relay is new, or is elsewhere than we knew.
func (t *table) learn(k known) (news bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old, there := t.relays[k.ID]
	if !there {
		if len(k.Addrs) == 0 || !t.makeRoom(k) {
			return false
		}
		t.relays[k.ID] = k
		return true
	}
	k.granted, k.way = later(old, k)
	if len(k.Addrs) > 0 && k.way != nil && !ma.Contains(k.Addrs, k.way) {
		k.Addrs = slices.Insert(slices.Clone(k.Addrs), 0, k.way) // the relay may not know of it
	}
	switch {
	case len(k.Addrs) == 0, !k.outdoes(old):
		// Nothing is learned of where it is, only that it was heard of.
		old.granted, old.way = k.granted, k.way
		old.heard = latest(old.heard, k.heard)
		t.relays[k.ID] = old
		return false
	case !sameAddrs(old.Addrs, k.Addrs):
		delete(t.relays, k.ID) // it counts where it goes to, not where it was
		if !t.makeRoom(k) {
			t.relays[k.ID] = old
			return false
		}
		t.relays[k.ID] = k
		return true
	}
	t.relays[k.ID] = k
	return false
}

// outdoes tells whether what k says replaces old. Hearsay does not replace the
// relay's own word nor our experience, nor an old record a newer one.
func (k known) outdoes(old known) bool {
	if k.record == nil {
		return old.record == nil && old.granted.IsZero()
	}
	return k.seq >= old.seq
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// later is the later reservation of two.
func later(a, b known) (time.Time, ma.Multiaddr) {
	if a.granted.After(b.granted) {
		return a.granted, a.way
	}
	return b.granted, b.way
}

// makeRoom sees to it that k keeps within the bounds, by giving up the oldest
// hearsay of a group that is full: of the same teller, in the same network, of
// the whole table. It is false when there is none to give up.
func (t *table) makeRoom(k known) bool {
	t.dropOld(k.heard)
	if k.granted.IsZero() {
		if k.teller != "" && !t.within(maxPerTeller, func(o known) bool { return o.teller == k.teller }) {
			return false
		}
		for _, n := range networks(k.Addrs) {
			if !t.within(maxPerNet, func(o known) bool { return slices.Contains(networks(o.Addrs), n) }) {
				return false
			}
		}
	}
	return t.within(maxKnown, func(known) bool { return true })
}

// within gives up the oldest hearsay of a group until it is under its limit.
func (t *table) within(limit int, of func(known) bool) bool {
	var hearsay []known
	n := 0
	for _, o := range t.relays {
		if !of(o) {
			continue
		}
		n++
		if o.granted.IsZero() {
			hearsay = append(hearsay, o)
		}
	}
	excess := n - limit + 1
	if excess <= 0 {
		return true
	}
	if excess > len(hearsay) {
		return false
	}
	slices.SortFunc(hearsay, func(a, b known) int { return a.heard.Compare(b.heard) })
	for _, o := range hearsay[:excess] {
		delete(t.relays, o.ID)
	}
	return true
}

// dropOld forgets who has not been heard of for long.
func (t *table) dropOld(now time.Time) {
	for id, k := range t.relays {
		if now.Sub(k.heard) > forgetHearsay && now.Sub(k.granted) > forgetGranted {
			delete(t.relays, id)
		}
	}
}

// networks are the /24 and /48 that addresses are in, each once.
func networks(addrs []ma.Multiaddr) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range addrs {
		ip, ok := ipOf(a)
		if !ok || ip.IsLoopback() { // hosts of one test
			continue
		}
		bits := 48
		if ip.Is4() {
			bits = 24
		}
		if n, err := ip.Prefix(bits); err == nil && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

func sameAddrs(a, b []ma.Multiaddr) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(x ma.Multiaddr) bool { return !ma.Contains(b, x) })
}

// granted notes that a relay gave us a reservation.
func (t *table) granted(k known) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old, there := t.relays[k.ID]; there {
		if k.record == nil {
			k.record, k.seq = old.record, old.seq
		}
		delete(t.relays, k.ID)
	}
	if !t.makeRoom(k) { // all have given us reservations
		delete(t.relays, t.longestAgo())
	}
	t.relays[k.ID] = k
}

// longestAgo is the relay whose reservation is the oldest.
func (t *table) longestAgo() (id peer.ID) {
	var at time.Time
	for i, k := range t.relays {
		if id == "" || k.granted.Before(at) {
			id, at = i, k.granted
		}
	}
	return id
}

// disappointed notes that a relay is not what it was: it counts as hearsay.
func (t *table) disappointed(id peer.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k, there := t.relays[id]; there {
		k.granted, k.way = time.Time{}, nil
		t.relays[id] = k
	}
}

func (t *table) get(id peer.ID) (known, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k, ok := t.relays[id]
	return k, ok
}

// best are all relays: those first that gave us a reservation, lately; then those
// whose own word we have; then the lately heard of.
func (t *table) best() []known {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]known, 0, len(t.relays))
	for _, k := range t.relays {
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b known) int {
		return cmp.Or(
			b.granted.Compare(a.granted),
			cmp.Compare(min(len(b.record), 1), min(len(a.record), 1)),
			b.heard.Compare(a.heard),
			cmp.Compare(a.ID, b.ID))
	})
	return all
}

func (t *table) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.relays)
}
