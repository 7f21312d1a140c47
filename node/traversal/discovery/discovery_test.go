package discovery

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	circuit "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
)

func TestADonorThatKnowsOnePeerFindsARelayByTheDHT(t *testing.T) {
	known := newRelay(t)
	far := newRelay(t)
	connect(t, far.Host, known.Host)
	eventually(t, "entry of the far relay", 5*time.Second, known.has(far.ID()))
	donor := newNode(t)
	connect(t, donor.Host, known.Host)
	eventually(t, "far relay by the DHT", 10*time.Second, donor.finds(far.ID(), DHT))
	got := donor.findings(far.ID(), DHT)[0]
	if !sameAddrs(got.Addrs, far.Host.Addrs()) {
		t.Errorf("found at %s, it is at %s", got.Addrs, far.Host.Addrs())
	}
	if len(donor.findings(donor.ID(), DHT)) > 0 {
		t.Error("the donor found itself")
	}
}

func TestADonorHearsOfARelayByGossipThroughAThirdNode(t *testing.T) {
	middle := newNode(t)
	far, donor := newNode(t), newNode(t)
	connect(t, far.Host, middle.Host)
	connect(t, donor.Host, middle.Host)
	far.serve(true)
	eventually(t, "far relay by gossip", 10*time.Second, donor.finds(far.ID(), Gossip))
	if k, _ := donor.table.get(far.ID()); k.record == nil || k.teller != middle.ID() {
		t.Errorf("kept as %+v, want it signed and told by the middle node", k)
	}
	if len(donor.Host.Network().ConnsToPeer(far.ID())) > 0 {
		t.Error("gossip has dialled what it spoke of")
	}
}

func TestWhoComesLateHearsOfARelaySoon(t *testing.T) {
	far := newRelay(t)
	middle := newNode(t)
	connect(t, far.Host, middle.Host)
	eventually(t, "far relay by gossip", 5*time.Second, middle.hears(far.ID()))
	donor := newNode(t)
	connect(t, donor.Host, far.Host)
	eventually(t, "relay by gossip on the newcomer", 2*time.Second, donor.hears(far.ID()))
}

func TestARelayThatRefusesNamesAnother(t *testing.T) {
	quietly := func(n *node, _ *Config) { n.serving = false } // else gossip and the DHT are first
	full, other := newRelay(t, quietly), newRelay(t, quietly)
	connect(t, full.Host, other.Host)
	donor := newNode(t)
	conn := connect(t, donor.Host, full.Host)
	eventually(t, "answer with the other relay", 5*time.Second, func() bool {
		if err := donor.Exchange(context.Background(), conn); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Fatal(err)
		}
		return donor.finds(other.ID(), Exchange)()
	})
	if len(donor.findings(full.ID(), Exchange)) > 0 {
		t.Error("the relay that was asked names itself")
	}
}

func TestAPeerOfNoMeshIsAskedInVain(t *testing.T) {
	donor, foreign := newNode(t), newHost(t)
	err := donor.Exchange(context.Background(), connect(t, donor.Host, foreign))
	if err == nil || !strings.Contains(err.Error(), foreign.ID().String()) {
		t.Errorf("error %v does not name the peer", err)
	}
}

func TestARestartedDonorFindsItsRelaysInTheCache(t *testing.T) {
	dir := t.TempDir()
	in := func(_ *node, cfg *Config) { cfg.Dir = dir }
	_, gave := stranger(t)
	_, heardOf := stranger(t)
	way := addr("/ip4/9.9.9.9/tcp/443/tls/ws")

	first := newNode(t, in)
	first.Remember(peer.AddrInfo{ID: gave, Addrs: []ma.Multiaddr{addr("/ip4/9.9.9.9/udp/4001/quic-v1")}}, way)
	first.learn(known{AddrInfo: peer.AddrInfo{ID: heardOf, Addrs: []ma.Multiaddr{addr("/ip4/8.8.8.8/tcp/4001")}}, source: DHT, heard: time.Now()})
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, CacheFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("cache: %v, %v, want mode 0600", info, err)
	}

	second := newNode(t, in)
	eventually(t, "relay from the cache", time.Second, func() bool {
		return second.finds(gave, Cache)() && second.finds(heardOf, Cache)()
	})
	if second.found[0].ID != gave || !second.found[0].Addrs[0].Equal(way) {
		t.Errorf("found first is %v, want who gave a reservation, by the way it went", second.found[0])
	}
	second.Forget(gave)
	if k, _ := second.table.get(gave); !k.granted.IsZero() {
		t.Error("a forgotten relay still counts as one that gave a reservation")
	}
}

func TestTheCacheIsWrittenWithoutWaitingForTheEnd(t *testing.T) {
	dir := t.TempDir()
	n := newNode(t, func(_ *node, cfg *Config) { cfg.Dir = dir })
	_, id := stranger(t)
	n.Remember(peer.AddrInfo{ID: id}, addr("/ip4/9.9.9.9/tcp/443/tls/ws"))
	eventually(t, "cache with the relay", 2*time.Second, func() bool {
		data, _ := os.ReadFile(filepath.Join(dir, CacheFile))
		return strings.Contains(string(data), id.String())
	})
}

func TestARelayIsNoneAfterItHasStopped(t *testing.T) {
	n := newNode(t)
	server := func() bool {
		for _, p := range n.Host.Mux().Protocols() {
			if p == n.mesh.kad() {
				return true
			}
		}
		return false
	}
	if server() {
		t.Fatal("a donor serves the DHT")
	}
	n.serve(true)
	eventually(t, "server of the DHT", 2*time.Second, server)
	n.serve(false)
	eventually(t, "end of the server of the DHT", 2*time.Second, func() bool { return !server() })
}

func TestPrivateMeshesDoNotMix(t *testing.T) {
	named := func(_ *node, cfg *Config) { cfg.Mesh = "lab" }
	public, private := newRelay(t), newRelay(t, named)
	donor, mate := newNode(t), newNode(t, named)
	for _, n := range []*node{public, private} {
		connect(t, donor.Host, n.Host)
		connect(t, mate.Host, n.Host)
	}
	eventually(t, "relay of the same mesh, for both", 30*time.Second, func() bool {
		// By gossip or by the DHT: whichever comes second has no news.
		return (donor.finds(public.ID(), DHT)() || donor.finds(public.ID(), Gossip)()) &&
			(mate.finds(private.ID(), DHT)() || mate.finds(private.ID(), Gossip)()) &&
			donor.hears(public.ID())() && mate.hears(private.ID())()
	})
	for _, n := range []*node{public, private, donor, mate} {
		if size := n.table.size(); size > 1 {
			t.Errorf("%d relays are known to a node, where each mesh has one", size)
		}
	}
}

func TestAMeshHasAPlainName(t *testing.T) {
	for _, bad := range []string{"a/b", "", "ä", strings.Repeat("x", 64), "..", "-x"} {
		_, err := meshOf(bad)
		if (err == nil) != (bad == "") {
			t.Errorf("name %q: %v", bad, err)
		}
	}
}

func TestAClientOfTheDHTHangsUp(t *testing.T) {
	known := newRelay(t)
	far := newRelay(t)
	connect(t, far.Host, known.Host)
	eventually(t, "two relays that know each other", 5*time.Second, func() bool {
		return known.has(far.ID())() && far.has(known.ID())()
	})
	donor := newNode(t)
	connect(t, donor.Host, known.Host)
	eventually(t, "far relay by the DHT", 10*time.Second, donor.finds(far.ID(), DHT))
	eventually(t, "end of the connection that only the DHT has made", 5*time.Second, func() bool {
		return len(donor.Host.Network().ConnsToPeer(far.ID())) == 0
	})
	if len(donor.Host.Network().ConnsToPeer(known.ID())) == 0 {
		t.Error("a connection that the DHT has not made is gone, too")
	}
}

func TestAConnectionThatIsUsedIsNotHungUp(t *testing.T) {
	known := newRelay(t)
	far := newRelay(t)
	connect(t, far.Host, known.Host)
	far.Host.SetStreamHandler("/job", func(network.Stream) {})
	eventually(t, "two relays that know each other", 5*time.Second, func() bool {
		return known.has(far.ID())() && far.has(known.ID())()
	})
	donor := newNode(t)
	connect(t, donor.Host, known.Host)
	eventually(t, "connection by the DHT", 10*time.Second, func() bool { return direct(donor.Host, far.ID()) })
	s, err := donor.Host.NewStream(t.Context(), far.ID(), "/job")
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * quickPace.hangUp)
	if _, err := s.Write([]byte("work")); err != nil {
		t.Errorf("the stream of a job broke: %v", err)
	}
}

func TestACircuitCarriesTheExchangeAndNoGossip(t *testing.T) {
	r := newHost(t)
	if service, err := circuit.New(r, circuit.WithInfiniteLimits()); err != nil {
		t.Fatal(err)
	} else {
		t.Cleanup(func() { _ = service.Close() })
	}
	hidden, donor, other := newNode(t), newNode(t), newRelay(t)
	connect(t, hidden.Host, r)
	if _, err := client.Reserve(t.Context(), hidden.Host, peer.AddrInfo{ID: r.ID(), Addrs: r.Addrs()}); err != nil {
		t.Fatal(err)
	}
	connect(t, hidden.Host, other.Host)
	eventually(t, "relay by gossip", 5*time.Second, hidden.hears(other.ID()))
	way := addr(r.Addrs()[0].String() + "/p2p/" + r.ID().String() + "/p2p-circuit")
	if err := donor.Host.Connect(t.Context(), peer.AddrInfo{ID: hidden.ID(), Addrs: []ma.Multiaddr{way}}); err != nil {
		t.Fatal(err)
	}
	conn := donor.Host.Network().ConnsToPeer(hidden.ID())[0]
	if conn.Stat().Limited || direct(donor.Host, hidden.ID()) {
		t.Fatalf("want an unlimited circuit, have %v at %s", conn.Stat(), conn.RemoteMultiaddr())
	}
	hidden.serve(true)
	time.Sleep(5 * quickPace.heartbeat)
	if donor.table.size() > 0 {
		t.Error("gossip came through the circuit")
	}
	if err := donor.Exchange(t.Context(), conn); err != nil || !donor.has(other.ID())() {
		t.Errorf("no relay by exchange through the circuit: %v", err)
	}
}

func TestANameAloneIsNotAnnounced(t *testing.T) {
	d := newQuietly(t, Config{Serving: func() ([]ma.Multiaddr, bool) {
		return []ma.Multiaddr{addr("/dns4/relay.example.org/tcp/443/tls/ws"), addr("/ip4/192.168.1.1/tcp/4001")}, true
	}})
	if _, ok := d.serving(); ok || !d.hidden() {
		t.Error("a relay without a public IP address would be announced")
	}
}

func TestClosingLeavesNothingBehind(t *testing.T) {
	a, b := newHost(t), newHost(t)
	connect(t, a, b)
	time.Sleep(200 * time.Millisecond) // the hosts' own start
	before := runtime.NumGoroutine()
	protocols := len(a.Mux().Protocols())
	for range 3 {
		na, nb := &node{Host: a, t: t, serving: true}, &node{Host: b, t: t}
		na.startUp(usually(nil))
		nb.startUp(usually(nil))
		eventually(t, "relay by gossip", 5*time.Second, nb.hears(a.ID()))
		for _, n := range []*node{na, nb} {
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	defer func() {
		if t.Failed() {
			buf := make([]byte, 1<<20)
			t.Logf("%s", buf[:runtime.Stack(buf, true)])
		}
	}()
	eventually(t, "return to the goroutines of before", 5*time.Second, func() bool { return runtime.NumGoroutine() <= before })
	if n := len(a.Mux().Protocols()); n != protocols {
		t.Errorf("%d protocols on the host, %d before: %s", n, protocols, a.Mux().Protocols())
	}
}
