package discovery

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
)

// quickPace is usualPace for tests: the same, some hundred times as fast.
var quickPace = pace{
	find: 5 * time.Second, seek: 200 * time.Millisecond, enter: 10 * time.Second,
	retry: 100 * time.Millisecond, settle: 50 * time.Millisecond, hangUp: 300 * time.Millisecond,
	announce: 3 * time.Second, changed: 50 * time.Millisecond, joined: 200 * time.Millisecond, heartbeat: 100 * time.Millisecond,
	save: 10 * time.Millisecond,
}

// newHost is a libp2p host on loopback.
func newHost(t testing.TB, opts ...libp2p.Option) host.Host {
	t.Helper()
	h, err := libp2p.New(append([]libp2p.Option{
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableMetrics(), libp2p.ResourceManager(&network.NullResourceManager{}),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// node is a host with a Discovery.
type node struct {
	Host host.Host
	*Discovery
	t testing.TB

	mu      sync.Mutex
	found   []finding
	serving bool
}

type finding struct {
	peer.AddrInfo
	source Source
}

// newNode starts a Discovery on a new host, with private addresses allowed.
func newNode(t testing.TB, change ...func(*node, *Config)) *node {
	t.Helper()
	n := &node{Host: newHost(t), t: t}
	n.startUp(usually(change))
	return n
}

// newRelay is a node that relays.
func newRelay(t testing.TB, change ...func(*node, *Config)) *node {
	t.Helper()
	h := newHost(t)
	if r, err := relay.New(h); err != nil {
		t.Fatal(err)
	} else {
		t.Cleanup(func() { _ = r.Close() })
	}
	n := &node{Host: h, t: t, serving: true}
	n.startUp(usually(change))
	return n
}

func usually(change []func(*node, *Config)) func(*node, *Config) {
	return func(n *node, cfg *Config) {
		for _, c := range change {
			c(n, cfg)
		}
	}
}

func (n *node) ID() peer.ID { return n.Host.ID() }

func (n *node) startUp(change func(*node, *Config)) {
	n.t.Helper()
	cfg := Config{Host: n.Host, PrivateAddrs: true, Found: n.take, Serving: n.relaying}
	if testing.Verbose() {
		cfg.Log = slog.New(slog.NewTextHandler(n.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("self", short(n.ID()))
	}
	change(n, &cfg)
	d, err := start(context.Background(), cfg, quickPace)
	if err != nil {
		n.t.Fatal(err)
	}
	n.Discovery = d
	n.t.Cleanup(func() {
		if err := d.Close(); err != nil {
			n.t.Errorf("close: %v", err)
		}
	})
}

func (n *node) take(info peer.AddrInfo, source string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.found = append(n.found, finding{info, Source(source)})
}

func (n *node) relaying() ([]ma.Multiaddr, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.Host.Addrs(), n.serving
}

func (n *node) serve(yes bool) {
	n.mu.Lock()
	n.serving = yes
	n.mu.Unlock()
	n.Changed()
}

// findings are those of a peer, from one source.
func (n *node) findings(id peer.ID, source Source) []finding {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(n.found), func(f finding) bool { return f.ID != id || f.source != source })
}

func (n *node) finds(id peer.ID, source Source) func() bool {
	return func() bool { return len(n.findings(id, source)) > 0 }
}

// hears tells of the gossip that a relay is in, whoever told of it first.
func (n *node) hears(id peer.ID) func() bool {
	return func() bool {
		k, _ := n.table.get(id)
		return k.source == Gossip && k.record != nil
	}
}

// has tells of a relay that is known, from whatever source.
func (n *node) has(id peer.ID) func() bool {
	return func() bool {
		_, ok := n.table.get(id)
		return ok
	}
}

// connect dials, and waits until both ends know what the other speaks.
func connect(t testing.TB, from, to host.Host) network.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := from.Connect(ctx, peer.AddrInfo{ID: to.ID(), Addrs: to.Addrs()}); err != nil {
		t.Fatal(err)
	}
	return from.Network().ConnsToPeer(to.ID())[0]
}

// eventually waits for a condition, and fails naming it.
func eventually(t testing.TB, what string, within time.Duration, ready func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !ready() {
		if time.Now().After(deadline) {
			t.Fatalf("within %s there was no %s", within, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// stranger is a fresh identity.
func stranger(t testing.TB) (crypto.PrivKey, peer.ID) {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(nil)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, id
}

func short(id peer.ID) string { s := id.String(); return s[len(s)-6:] }

func addr(s string) ma.Multiaddr { return ma.StringCast(s) }
