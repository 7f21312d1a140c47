package traversal

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/wire"
)

// newHost is a libp2p host on loopback that speaks TCP and WebSocket.
func newHost(t *testing.T, listen ...string) host.Host {
	t.Helper()
	opts := []libp2p.Option{
		libp2p.DisableMetrics(),
		libp2p.ResourceManager(nil),
		libp2p.Security(noise.ID, noise.New),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Transport(websocket.New,
			websocket.WithTLSConfig(&tls.Config{Certificates: []tls.Certificate{certificate(t)}}),
			websocket.WithTLSClientConfig(&tls.Config{InsecureSkipVerify: true})),
		libp2p.SwarmOpts(swarm.WithDialRanker(Ranker)),
	}
	if len(listen) == 0 {
		opts = append(opts, libp2p.NoListenAddrs, libp2p.EnableRelay())
	} else {
		opts = append(opts, libp2p.ListenAddrStrings(listen...))
	}
	h, err := libp2p.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

const loopback = "/ip4/127.0.0.1/tcp/0"

func newRelay(t *testing.T, h host.Host, opts ...relay.Option) *relay.Relay {
	t.Helper()
	r, err := relay.New(h, append([]relay.Option{relay.WithInfiniteLimits()}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// full is the first listen address of h, with its peer ID.
func full(h host.Host) string { return h.Addrs()[0].String() + "/p2p/" + h.ID().String() }

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// history collects what a keeper records.
type history struct {
	mu     sync.Mutex
	events []wire.Event
}

func (h *history) record(e wire.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e.Time = time.Now()
	h.events = append(h.events, e)
}

func (h *history) of(kind wire.Kind) []wire.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(h.events), func(e wire.Event) bool { return e.Kind != kind })
}

// keep runs a keeper until the end of the test.
func keep(t *testing.T, k *Keeper) *history {
	t.Helper()
	past := &history{}
	k.Record = past.record
	k.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("the keeper ended with %v", err)
			}
		case <-time.After(5 * time.Second):
			t.Error("the keeper did not end within 5 s")
		}
		if t.Failed() {
			for _, e := range past.events {
				t.Logf("%s %s relay=%s failure=%s err=%s ms=%v", e.Time.Format("05.000"), e.Kind, e.Relay, e.Failure, e.Err, e.MS)
			}
		}
	})
	return past
}

// eventually waits for a condition, and fails naming it.
func eventually(t *testing.T, what string, within time.Duration, ready func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !ready() {
		if time.Now().After(deadline) {
			t.Fatalf("within %s there was no %s", within, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// reservedOn tells whether the keeper's one reservation is on h.
func reservedOn(k *Keeper, h host.Host) func() bool {
	return func() bool {
		rs := k.Relays()
		return len(rs) == 1 && rs[0].PeerID == h.ID().String()
	}
}

// silent is the address of a TCP port that accepts and never says a word.
func silent(t *testing.T) ma.Multiaddr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
		}
	}()
	return tcpAddr(l.Addr())
}

func tcpAddr(a net.Addr) ma.Multiaddr {
	host, port, _ := net.SplitHostPort(a.String())
	return ma.StringCast("/ip4/" + host + "/tcp/" + port)
}

// wire between two ends that can be cut without either noticing.
type cable struct {
	addr ma.Multiaddr
	cut  func()
}

// newCable forwards a port to target until it is cut; then it swallows
// everything, as a firewall does that has forgotten a flow.
func newCable(t *testing.T, target string) cable {
	t.Helper()
	var dead atomic.Bool
	addr, unplug := forward(t, target, func() func(int) bool { return func(int) bool { return !dead.Load() } })
	return cable{addr, func() { dead.Store(true); unplug() }}
}

// forward connects a port to target. Each direction of each connection has a
// function of its own that tells, for the bytes that come at once, whether they
// get through. unplug takes no more connections.
func forward(t *testing.T, target string, newPasses func() func(size int) bool) (addr ma.Multiaddr, unplug func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pipe := func(to, from net.Conn) {
		passes := newPasses()
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			passed := passes(n)
			if n > 0 && passed {
				_, _ = to.Write(buf[:n])
			}
			if err != nil {
				if passed && !errors.Is(err, io.EOF) {
					_ = to.Close()
				}
				return
			}
		}
	}
	go func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", target)
			if err != nil {
				_ = a.Close()
				continue
			}
			t.Cleanup(func() { _, _ = a.Close(), b.Close() })
			go pipe(a, b)
			go pipe(b, a)
		}
	}()
	t.Cleanup(func() { _ = l.Close() })
	return tcpAddr(l.Addr()), func() { _ = l.Close() }
}

// hostPort is the TCP host and port of a host's first address.
func hostPort(h host.Host) string {
	a := h.Addrs()[0]
	ip, _ := a.ValueForProtocol(ma.P_IP4)
	return strings.Join([]string{ip, port(a)}, ":")
}
