package discovery

import (
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// heardOf is a relay in a network of its own, heard of n seconds after epoch.
func heardOf(n int, teller peer.ID) known {
	return known{
		AddrInfo: peer.AddrInfo{ID: peer.ID(fmt.Sprint("relay ", n)), Addrs: []ma.Multiaddr{addr(fmt.Sprintf("/ip4/45.%d.%d.1/tcp/1", n/256, n%256))}},
		source:   DHT, teller: teller, heard: epoch.Add(time.Duration(n) * time.Second),
	}
}

func TestTheTableKeepsTheLatestAndWhoGaveReservations(t *testing.T) {
	tab := newTable()
	ours := heardOf(0, "")
	ours.granted = ours.heard
	tab.granted(ours)
	for i := 1; i <= 2*maxKnown; i++ {
		tab.learn(heardOf(i, peer.ID(fmt.Sprint("teller ", i))))
	}
	if tab.size() != maxKnown {
		t.Errorf("%d relays, want %d", tab.size(), maxKnown)
	}
	best := tab.best()
	if best[0].ID != ours.ID || best[1].ID != heardOf(2*maxKnown, "").ID {
		t.Errorf("best are %q and %q", best[0].ID, best[1].ID)
	}
	if _, there := tab.get(heardOf(2, "").ID); there {
		t.Error("the oldest hearsay is still there")
	}
}

func TestOneTellerFillsNoMoreThanItsShare(t *testing.T) {
	tab := newTable()
	tab.learn(heardOf(0, "somebody else"))
	for i := 1; i <= 3*maxPerTeller; i++ {
		tab.learn(heardOf(i, "teller"))
	}
	if tab.size() != maxPerTeller+1 {
		t.Errorf("%d relays, want %d of one teller and one of another", tab.size(), maxPerTeller)
	}
	if _, there := tab.get(heardOf(0, "").ID); !there {
		t.Error("the teller drove out what somebody else had told")
	}
}

func TestOneNetworkHoldsNoMoreThanItsShare(t *testing.T) {
	for _, format := range []string{"/ip4/45.1.1.%d/tcp/1", "/ip6/2a00:1:1:%x::1/tcp/1"} {
		tab := newTable()
		for i := 1; i <= 3*maxPerNet; i++ {
			k := heardOf(i, peer.ID(fmt.Sprint("teller ", i)))
			k.Addrs = []ma.Multiaddr{addr(fmt.Sprintf(format, i)), addr(fmt.Sprintf("/ip4/46.1.%d.1/tcp/1", i))}
			tab.learn(k)
		}
		if tab.size() != maxPerNet {
			t.Errorf("%s: %d relays, want %d", format, tab.size(), maxPerNet)
		}
	}
}

func TestHearsayDoesNotReplaceARelaysOwnWord(t *testing.T) {
	tab := newTable()
	own := heardOf(1, "a")
	own.record, own.seq = []byte("signed"), 7
	tab.learn(own)

	lie := heardOf(2, "b")
	lie.ID = own.ID
	older := lie
	older.record, older.seq = []byte("signed before"), 6
	for _, k := range []known{lie, older} {
		if tab.learn(k) {
			t.Errorf("%+v is news", k)
		}
	}
	if got, _ := tab.get(own.ID); !sameAddrs(got.Addrs, own.Addrs) || !got.heard.Equal(lie.heard) {
		t.Errorf("kept is %+v", got)
	}
	newer := lie
	newer.record, newer.seq = []byte("signed after"), 8
	if !tab.learn(newer) {
		t.Error("that a relay has moved is no news")
	}
	if got, _ := tab.get(own.ID); !sameAddrs(got.Addrs, newer.Addrs) || got.seq != 8 {
		t.Errorf("kept is %+v", got)
	}
}

func TestHearsayDoesNotMoveARelayThatGaveAReservation(t *testing.T) {
	tab := newTable()
	ours := heardOf(1, "")
	ours.granted, ours.way = ours.heard, addr("/ip4/192.168.1.1/tcp/443/tls/ws")
	ours.Addrs = []ma.Multiaddr{ours.way}
	tab.granted(ours)
	lie := heardOf(2, "b")
	lie.ID = ours.ID
	if tab.learn(lie) {
		t.Error("hearsay of it is news")
	}
	own := lie
	own.record, own.seq = []byte("signed"), 1
	if !tab.learn(own) {
		t.Error("its own word is no news")
	}
	got, _ := tab.get(ours.ID)
	if want := []ma.Multiaddr{ours.way, own.Addrs[0]}; !sameAddrs(got.Addrs, want) || !got.granted.Equal(ours.granted) {
		t.Errorf("kept at %s, want %s", got.Addrs, want)
	}
}

func TestOldRelaysAreForgotten(t *testing.T) {
	tab := newTable()
	ours := heardOf(0, "")
	ours.granted = ours.heard
	tab.granted(ours)
	tab.learn(heardOf(1, ""))
	later := heardOf(2, "")
	later.heard = epoch.Add(forgetHearsay + time.Hour)
	tab.learn(later)
	if _, there := tab.get(heardOf(1, "").ID); there || tab.size() != 2 {
		t.Errorf("after a day there are %d relays", tab.size())
	}
	later = heardOf(3, "")
	later.heard = epoch.Add(forgetGranted + time.Hour)
	tab.learn(later)
	if _, there := tab.get(ours.ID); there {
		t.Error("after 30 days a relay that once gave a reservation is still there")
	}
}

func TestARelayGivenUpCountsAsHearsay(t *testing.T) {
	tab := newTable()
	ours := heardOf(0, "")
	ours.granted = ours.heard
	tab.granted(ours)
	tab.disappointed(ours.ID)
	for i := 1; i <= maxKnown; i++ {
		tab.learn(heardOf(i, ""))
	}
	if _, there := tab.get(ours.ID); there {
		t.Error("it was kept like one that gives reservations")
	}
}

func TestAddressesOfStrangers(t *testing.T) {
	for _, c := range []struct {
		addr            string
		public, private bool // admitted in a mesh of that kind
	}{
		{"/ip4/9.9.9.9/tcp/4001", true, true},
		{"/ip4/9.9.9.9/udp/4001/quic-v1", true, true},
		{"/ip4/9.9.9.9/tcp/443/tls/sni/relay.example.org/ws", true, true},
		{"/ip6/2a00::1/tcp/443/tls/ws", true, true},
		{"/ip4/10.1.2.3/tcp/4001", false, true},
		{"/ip4/127.0.0.1/tcp/4001", false, true},
		{"/ip4/169.254.169.254/tcp/80", false, true},
		{"/ip4/100.64.0.1/tcp/80", false, true},
		{"/ip6/::1/tcp/80", false, true},
		{"/ip6/fe80::1/tcp/80", false, true},
		{"/ip6/64:ff9b::a00:1/tcp/80", false, true}, // 10.0.0.1 by NAT64
		{"/ip6/::ffff:10.0.0.1/tcp/80", false, true},
		{"/ip4/0.0.0.0/tcp/80", false, false},
		{"/ip4/224.0.0.1/udp/80/quic-v1", false, false},
		{"/ip6zone/eth0/ip6/fe80::1/tcp/80", false, false},
		{"/dns4/relay.example.org/tcp/443/tls/ws", false, false},
		{"/dnsaddr/relay.example.org", false, false},
		{"/ip4/9.9.9.9/udp/53", false, false},
		{"/unix/run/docker.sock", false, false},
	} {
		a := addr(c.addr)
		if got := (policy{}).admits(a); got != c.public {
			t.Errorf("%s in the public mesh: %v", a, got)
		}
		if got := (policy{private: true}).admits(a); got != c.private {
			t.Errorf("%s in a private mesh: %v", a, got)
		}
	}
}

func TestAddressesAreTakenOnceAndOfTheRightPeer(t *testing.T) {
	_, id := stranger(t)
	_, other := stranger(t)
	info := peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{
		addr("/ip4/9.9.9.9/tcp/1"), addr("/ip4/9.9.9.9/tcp/1/p2p/" + id.String()), addr("/ip4/9.9.9.9/tcp/2/p2p/" + other.String()),
	}}
	if got := (policy{}).of(info).Addrs; len(got) != 1 || !got[0].Equal(addr("/ip4/9.9.9.9/tcp/1")) {
		t.Errorf("taken are %s", got)
	}
}

func TestAQuotaIsOfEachPeerAndOfAll(t *testing.T) {
	q := newQuota(time.Second, 2, 2)
	allowed := func(id peer.ID, at time.Duration) (n int) {
		for q.allow(id, epoch.Add(at)) {
			n++
		}
		return n
	}
	if a, b, c := allowed("a", 0), allowed("b", 0), allowed("c", 0); a != 2 || b != 2 || c != 0 {
		t.Errorf("at once: %d, %d, %d; want 2 each, and 4 of all", a, b, c)
	}
	if a := allowed("a", time.Second); a != 1 {
		t.Errorf("a second later %d, want 1", a)
	}
	q.mute("a", epoch.Add(time.Minute))
	if a := allowed("a", 2*time.Minute); a != 0 {
		t.Errorf("%d while muted", a)
	}
	if a := allowed("a", time.Minute+muteFor); a != 2 {
		t.Errorf("%d after that, want 2", a)
	}
}

func TestAQuotaCountsABoundedNumberOfPeers(t *testing.T) {
	q := newQuota(time.Second, 1, 10*maxCounted)
	for i := range 3 * maxCounted {
		q.allow(peer.ID(fmt.Sprint(i)), epoch)
	}
	if len(q.peers) != maxCounted {
		t.Errorf("%d peers are counted", len(q.peers))
	}
	if !q.allow("late", epoch.Add(time.Minute)) {
		t.Error("who comes when the others are forgotten is refused")
	}
}

func TestWhatIsHandedOnIsNotRepeatedAtOnce(t *testing.T) {
	r := newReport(nil)
	k := heardOf(1, "")
	r.add(k, true)
	r.add(k, false)
	if _, ok := r.next(); !ok {
		t.Fatal("nothing is handed on")
	}
	r.add(k, false)
	if _, ok := r.next(); ok {
		t.Error("a relay is handed on twice")
	}
	r.add(k, true)
	if _, ok := r.next(); !ok {
		t.Error("a relay that has moved is not handed on again")
	}
	for i := range 2 * maxKnown {
		r.add(heardOf(i, ""), true)
	}
	if len(r.waiting) > maxKnown {
		t.Errorf("%d relays wait", len(r.waiting))
	}
}

func TestAServerOfTheDHTKeepsTheRelaysOfItsMeshAndNothingElse(t *testing.T) {
	relaying := true
	p := providers{key: []byte("relays"), self: "we", known: newTable(), us: func() (peer.AddrInfo, bool) {
		return peer.AddrInfo{ID: "we", Addrs: []ma.Multiaddr{addr("/ip4/9.9.9.9/tcp/1")}}, relaying
	}}
	add := func(key string, info peer.AddrInfo) {
		if err := p.AddProvider(t.Context(), []byte(key), info); err != nil {
			t.Fatal(err)
		}
	}
	named := func(key string) int {
		got, err := p.GetProviders(t.Context(), []byte(key))
		if err != nil {
			t.Fatal(err)
		}
		return len(got)
	}
	add("films", heardOf(1, "").AddrInfo)
	add("relays", peer.AddrInfo{ID: "nowhere"})
	add("relays", peer.AddrInfo{ID: "inside", Addrs: []ma.Multiaddr{addr("/ip4/10.0.0.1/tcp/1")}})
	if a, b := named("films"), named("relays"); a != 0 || b != 1 {
		t.Errorf("%d films and %d relays are named, want none, and us", a, b)
	}
	relaying = false
	add("relays", heardOf(2, "").AddrInfo)
	p.known.learn(heardOf(3, "long ago"))
	if n := named("relays"); n != 1 {
		t.Errorf("%d relays are named, want the one that is not out of date", n)
	}
	for i := range 3 * maxKnown {
		add("relays", heardOf(i, "").AddrInfo)
	}
	if n := named("relays"); n != provideSample || p.known.size() > maxKnown {
		t.Errorf("%d of %d relays are named, want %d of at most %d", n, p.known.size(), provideSample, maxKnown)
	}
}
