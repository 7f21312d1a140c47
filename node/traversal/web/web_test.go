package web

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/transport/tcpreuse"
	libp2pws "github.com/libp2p/go-libp2p/p2p/transport/websocket"
	ma "github.com/multiformats/go-multiaddr"
)

// node is a libp2p host with this transport and no other.
type node struct {
	host.Host
	web *Transport
}

func newNode(t testing.TB, cfg Config, listen ...string) node {
	t.Helper()
	var n node
	with := libp2p.Transport(func(u transport.Upgrader, rm network.ResourceManager, shared *tcpreuse.ConnMgr) (*Transport, error) {
		var err error
		n.web, err = New(cfg, u, rm, shared)
		return n.web, err
	})
	n.Host = newHost(t, with, listen...)
	return n
}

// newLibraryHost is a host with the library's own WebSocket transport.
func newLibraryHost(t testing.TB, listen ...string) host.Host {
	t.Helper()
	cert, err := SelfSigned(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return newHost(t, libp2p.Transport(libp2pws.New,
		libp2pws.WithTLSConfig(&tls.Config{Certificates: []tls.Certificate{*cert}}),
		libp2pws.WithTLSClientConfig(&tls.Config{InsecureSkipVerify: true})), listen...)
}

func newHost(t testing.TB, with libp2p.Option, listen ...string) host.Host {
	t.Helper()
	h, err := libp2p.New(with, libp2p.DisableMetrics(), libp2p.DisableRelay(), libp2p.ListenAddrStrings(listen...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	h.SetStreamHandler("/echo", func(s network.Stream) {
		_, _ = io.Copy(s, s)
		_ = s.Close()
	})
	h.SetStreamHandler("/sink", func(s network.Stream) {
		_, _ = io.Copy(io.Discard, s)
		_ = s.Close()
	})
	h.SetStreamHandler("/source", func(s network.Stream) {
		_, _ = io.CopyN(s, zeros{}, bulk)
		_ = s.Close()
	})
	return h
}

// dial connects from to what listens at a, over that address only.
func dial(t testing.TB, from host.Host, to peer.ID, a ma.Multiaddr) network.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := from.Connect(ctx, peer.AddrInfo{ID: to, Addrs: []ma.Multiaddr{a}}); err != nil {
		t.Fatal(err)
	}
	return from.Network().ConnsToPeer(to)[0]
}

// dialError dials by the transport alone, and returns why it failed.
func dialError(t testing.TB, from node, a string) error {
	t.Helper()
	c, err := from.web.Dial(t.Context(), ma.StringCast(a), from.ID())
	if err == nil {
		_ = c.Close()
		t.Fatalf("dial %s: succeeded", a)
	}
	return err
}

// echo sends size bytes there and back on a new stream.
func echo(t testing.TB, from host.Host, to peer.ID, size int) {
	t.Helper()
	want := make([]byte, size)
	_, _ = rand.Read(want)
	s, err := from.NewStream(t.Context(), to, "/echo")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_ = s.SetDeadline(time.Now().Add(30 * time.Second))
	sent := make(chan error, 1)
	go func() {
		_, err := s.Write(want)
		sent <- errors.Join(err, s.CloseWrite())
	}()
	got, err := io.ReadAll(s)
	if err = errors.Join(err, <-sent); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("other bytes came back than were sent")
	}
}

func TestHostsExchangeAStreamOverEachWay(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"/ws", "/tls/ws", "/tls/sni/relay.example/ws", "/wss", "/http", "/tls/http", "/tls/sni/relay.example/http", "/https"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			relay := newNode(t, Config{}, "/ip4/127.0.0.1/tcp/0"+way)
			donor := newNode(t, Config{})
			a := relay.Network().ListenAddresses()[0]
			c := dial(t, donor, relay.ID(), a)
			echo(t, donor, relay.ID(), 4<<20)

			if !c.RemoteMultiaddr().Equal(a) {
				t.Errorf("dialled %s, connected to %s", a, c.RemoteMultiaddr())
			}
			kind := "websocket"
			if strings.Contains(way, "http") {
				kind = "http"
			}
			back := relay.Network().ConnsToPeer(donor.ID())[0]
			if c.ConnState().Transport != kind || back.ConnState().Transport != kind {
				t.Errorf("the transports are called %q and %q", c.ConnState().Transport, back.ConnState().Transport)
			}
			if here, there := c.LocalMultiaddr(), back.RemoteMultiaddr(); !strings.HasPrefix(there.String(), "/ip4/127.0.0.1/tcp/") ||
				kind == "websocket" && !here.Equal(there) {
				t.Errorf("the relay sees %s, the donor is %s", there, here)
			}
			outerIsTheRelays(t, c, relay, way)
			if _, ok := OuterOf(back); ok {
				t.Error("the relay has seen the outside of what it did not dial")
			}
		})
	}
}

func outerIsTheRelays(t *testing.T, c network.Conn, relay node, way string) {
	t.Helper()
	o, ok := OuterOf(c)
	if secure := way != "/ws" && way != "/http"; !ok || o.TLS != secure || o.Route != "" {
		t.Fatalf("%+v, %v", o, ok)
	}
	if !o.TLS {
		return
	}
	if o.Verified || o.VerifyErr == nil || o.Issuer != "CN=relay" {
		t.Errorf("a certificate that nobody vouches for: %+v", o)
	}
	if leaf := sha256.Sum256(must(relay.web.cfg.Certificate(nil)).Certificate[0]); !bytes.Equal(leaf[:], o.Leaf) {
		t.Errorf("the relay presented %x, the donor saw %x", leaf, o.Leaf)
	}
}

func TestItSpeaksWithTheLibrarysTransport(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"/ws", "/tls/ws", "/tls/sni/relay.example/ws"} {
		t.Run("as a client"+way, func(t *testing.T) {
			t.Parallel()
			relay := newLibraryHost(t, "/ip4/127.0.0.1/tcp/0"+way)
			donor := newNode(t, Config{})
			dial(t, donor, relay.ID(), relay.Network().ListenAddresses()[0])
			echo(t, donor, relay.ID(), 1<<20)
		})
		t.Run("as a server"+way, func(t *testing.T) {
			t.Parallel()
			relay := newNode(t, Config{}, "/ip4/127.0.0.1/tcp/0"+way)
			donor := newLibraryHost(t)
			c := dial(t, donor, relay.ID(), relay.Network().ListenAddresses()[0])
			echo(t, donor, relay.ID(), 1<<20)
			_ = c.Close()
			for len(relay.Network().Conns()) > 0 {
				select {
				case <-t.Context().Done():
					t.Fatal("the relay keeps a connection that was closed")
				case <-time.After(time.Millisecond):
				}
			}
		})
	}
}

func TestOnePortServesBothWaysAndAPage(t *testing.T) {
	t.Parallel()
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "hello over "+r.Proto) })
	relay := newNode(t, Config{Page: page}, "/ip4/127.0.0.1/tcp/0/tls/http", "/ip4/127.0.0.1/tcp/0/tls/ws")
	at := relay.Network().ListenAddresses()
	port := func(a ma.Multiaddr) string { p, _ := a.ValueForProtocol(ma.P_TCP); return p }
	if len(at) != 2 || port(at[0]) != port(at[1]) {
		t.Fatalf("listening at %v", at)
	}
	for _, a := range at {
		donor := newNode(t, Config{})
		dial(t, donor, relay.ID(), a)
		echo(t, donor, relay.ID(), 1000)
	}
	url := "https://127.0.0.1:" + port(at[0]) + "/status"
	for _, h2 := range []bool{false, true} {
		tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: h2}
		resp, err := (&http.Client{Transport: tr}).Get(url)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		want := "hello over HTTP/1.1"
		if h2 {
			want = "hello over HTTP/2.0"
		}
		if string(body) != want {
			t.Errorf("the page says %q", body)
		}
		tr.CloseIdleConnections()
	}
}

func TestAPortSharedWithRawTCPServesTheWeb(t *testing.T) {
	t.Parallel()
	relay, err := libp2p.New(libp2p.DisableMetrics(), libp2p.DisableRelay(), libp2p.ShareTCPListener(),
		libp2p.Transport(func(u transport.Upgrader, rm network.ResourceManager, shared *tcpreuse.ConnMgr) (*Transport, error) {
			return New(Config{}, u, rm, shared)
		}), libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0/ws", "/ip4/127.0.0.1/tcp/0/http", "/ip4/127.0.0.1/tcp/0/tls/ws", "/ip4/127.0.0.1/tcp/0/tls/http"))
	if err != nil {
		t.Fatal(err)
	}
	defer relay.Close()
	at := relay.Network().ListenAddresses()
	if len(at) != 4 {
		t.Fatalf("listening at %v", at)
	}
	for _, a := range at {
		donor := newNode(t, Config{})
		dial(t, donor, relay.ID(), a)
	}
}

func TestAPortIsFreeAfterItsLastListenerIsClosed(t *testing.T) {
	t.Parallel()
	relay := newNode(t, Config{}, "/ip4/127.0.0.1/tcp/0/tls/ws", "/ip4/127.0.0.1/tcp/0/tls/http")
	at := relay.Network().ListenAddresses()
	ws := at[slices.IndexFunc(at, func(a ma.Multiaddr) bool { return !must(parse(a)).tunnel })]
	donor := newNode(t, Config{})
	dial(t, donor, relay.ID(), ws)
	if l, err := relay.web.Listen(ws); err == nil {
		_ = l.Close()
		t.Error("two listeners at one address")
	}
	for _, a := range at {
		relay.Network().(*swarm.Swarm).ListenClose(a)
	}
	if len(at) != 2 || len(relay.web.ports) != 0 {
		t.Errorf("listened at %v, still there: %v", at, relay.web.ports)
	}
	if c, err := net.Dial("tcp", must(parse(ws)).hostport()); err == nil {
		_ = c.Close()
		t.Error("somebody still listens")
	}
	echo(t, donor, relay.ID(), 1000) // on the connection that was there
	if err := relay.Network().Listen(ws); err != nil {
		t.Error(err)
	}
}

func TestATunnelEndsWithItsListenerAndTheOtherWayStays(t *testing.T) {
	t.Parallel()
	relay := newNode(t, Config{}, "/ip4/127.0.0.1/tcp/0/tls/ws", "/ip4/127.0.0.1/tcp/0/tls/http")
	at := relay.Network().ListenAddresses()
	slices.SortFunc(at, func(a, b ma.Multiaddr) int { return strings.Compare(a.String(), b.String()) })
	tunnelled, ws := at[0], at[1]
	donor, other := newNode(t, Config{}), newNode(t, Config{})
	c := dial(t, donor, relay.ID(), tunnelled)
	dial(t, other, relay.ID(), ws)
	relay.Network().(*swarm.Swarm).ListenClose(tunnelled)
	for begin := time.Now(); !c.IsClosed(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > time.Second {
			t.Fatal("the tunnel is still there")
		}
	}
	echo(t, other, relay.ID(), 1000)
	if err := relay.Network().Listen(tunnelled); err != nil {
		t.Fatal(err)
	}
	dial(t, newNode(t, Config{}), relay.ID(), tunnelled)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestVisitorsOfThePageAreNotInTheBooks holds open more connections than libp2p
// lets be on their way at once.
func TestVisitorsOfThePageAreNotInTheBooks(t *testing.T) {
	t.Parallel()
	relay := newNode(t, Config{}, "/ip4/127.0.0.1/tcp/0/ws")
	hostport := must(parse(relay.Network().ListenAddresses()[0])).hostport()
	for range 200 {
		c, err := net.Dial("tcp", hostport)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	err := relay.Network().ResourceManager().ViewTransient(func(s network.ResourceScope) error {
		if n := s.Stat().NumConnsInbound; n != 0 {
			t.Errorf("%d connections are in libp2p's books", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
