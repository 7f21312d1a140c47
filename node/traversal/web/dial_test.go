package web

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/worldcompute/wce2e/node/netcheck"
	"github.com/worldcompute/wce2e/node/traversal/web/internal/gateway"
)

// intercepted dials the gateway, whatever was asked for.
func intercepted(g *gateway.Gateway, route string) func(context.Context, string) (net.Conn, string, error) {
	return func(ctx context.Context, _ string) (net.Conn, string, error) {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", g.Listener.Addr().String())
		return c, route, err
	}
}

func TestTheTunnelPassesAGatewayThatTheWebSocketDoesNot(t *testing.T) {
	t.Parallel()
	relay := newNode(t, Config{}, "/ip4/127.0.0.1/tcp/0/tls/ws", "/ip4/127.0.0.1/tcp/0/tls/http")
	to := must(parse(relay.Network().ListenAddresses()[0]))
	g := gateway.New(t, to.hostport())
	roots := x509.NewCertPool()
	roots.AddCert(g.Certificate())
	donor := newNode(t, Config{Dial: intercepted(g, "http://proxy.example:3128"), Roots: roots})
	at := to.tcp.String() + "/tls/sni/example.com"

	err := dialError(t, donor, at+"/ws")
	var failed *DialError
	if !errors.As(err, &failed) || failed.Phase != Upgrade || failed.Status != http.StatusNotFound ||
		failed.Route != "http://proxy.example:3128" {
		t.Errorf("the WebSocket: %v", err)
	}
	c := dial(t, donor, relay.ID(), ma.StringCast(at+"/http"))
	echo(t, donor, relay.ID(), 4<<20)

	o, ok := OuterOf(c)
	leaf := sha256.Sum256(g.Certificate().Raw)
	if !ok || !o.TLS || !o.Verified || o.VerifyErr != nil || !slices.Equal(o.Leaf, leaf[:]) ||
		o.Route != "http://proxy.example:3128" || !strings.Contains(o.Issuer, "Acme Co") {
		t.Errorf("the inspector's certificate verifies, and is seen: %+v", o)
	}
}

func TestATunnelIsNotContinuedWithSomebodyElse(t *testing.T) {
	t.Parallel()
	relay := newNode(t, Config{}, "/ip4/127.0.0.1/tcp/0/tls/http")
	to := must(parse(relay.Network().ListenAddresses()[0]))
	g := gateway.New(t, to.hostport())
	var later atomic.Bool
	donor := newNode(t, Config{Dial: func(ctx context.Context, hostport string) (net.Conn, string, error) {
		if !later.Swap(true) {
			hostport = g.Listener.Addr().String() // HTTP/1.1: there will be more connections
		}
		return dialDirectly(ctx, hostport)
	}})
	_, err := donor.web.Dial(t.Context(), to.multiaddr(), relay.ID())
	if err == nil {
		t.Error("dialled through two different servers")
	}
	if !errors.Is(err, errOther) {
		t.Errorf("the reason is another one: %v", err)
	}
}

func TestAnAnswerKeepsItsStatus(t *testing.T) {
	t.Parallel()
	donor := newNode(t, Config{})
	for _, status := range []int{200, 302, 403, 407, 502} {
		s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		for _, way := range []string{"/tls/ws", "/tls/http"} {
			a := must(manet.FromNetAddr(s.Listener.Addr())).String() + way
			err := dialError(t, donor, a)
			var failed *DialError
			if !errors.As(err, &failed) || failed.Phase != Upgrade || failed.Status != status {
				t.Errorf("%s answered %d: %v", way, status, err)
			}
			if !errors.Is(err, websocket.ErrBadHandshake) || netcheck.Classify(err) != netcheck.WebSocketHandshake {
				t.Errorf("%s answered %d is classified as %s", way, status, netcheck.Classify(err))
			}
		}
		s.Close()
	}
}

// refusedByProxy is as the errors of a package for proxies are.
type refusedByProxy struct{}

func (refusedByProxy) Error() string    { return "proxy: authentication required" }
func (refusedByProxy) ProxyStatus() int { return http.StatusProxyAuthRequired }

func TestARefusalOfTheProxyIsTheProxys(t *testing.T) {
	t.Parallel()
	donor := newNode(t, Config{Dial: func(context.Context, string) (net.Conn, string, error) {
		return nil, "http://proxy.example:3128", refusedByProxy{}
	}})
	err := dialError(t, donor, "/ip4/127.0.0.1/tcp/443/tls/ws")
	var failed *DialError
	if !errors.As(err, &failed) || failed.Phase != Proxy || failed.Status != http.StatusProxyAuthRequired {
		t.Errorf("%v", err)
	}
	if f := netcheck.Classify(err); f != netcheck.ProxyAuthRequired {
		t.Errorf("classified as %s", f)
	}
}

func TestFailuresAreNamedByTheClassifier(t *testing.T) {
	t.Parallel()
	donor := newNode(t, Config{HandshakeTimeout: time.Second})
	closed := tcpServer(t, nil)
	_ = closed.Close()
	for name, c := range map[string]struct {
		at    net.Listener
		way   string
		phase Phase
		want  netcheck.Failure
	}{
		"a closed port":          {closed, "/tls/ws", Connect, netcheck.Refused},
		"no TLS on the port":     {tcpServer(t, banner), "/tls/ws", TLS, netcheck.TLSHandshake},
		"silence instead of TLS": {tcpServer(t, silent), "/tls/http", TLS, netcheck.Timeout},
		"a reset within TLS":     {tcpServer(t, reset), "/tls/http", TLS, netcheck.Reset},
		"an end within the head": {tcpServer(t, hangUp), "/ws", Upgrade, netcheck.EOF},
		"an end within a tunnel": {tcpServer(t, hangUp), "/http", Upgrade, netcheck.EOF},
	} {
		a := must(manet.FromNetAddr(c.at.Addr())).String() + c.way
		err := dialError(t, donor, a)
		var failed *DialError
		if !errors.As(err, &failed) || failed.Phase != c.phase || netcheck.Classify(err) != c.want {
			t.Errorf("%s: %s, want %s in phase %s: %v", name, netcheck.Classify(err), c.want, c.phase, err)
		}
	}
}

// tcpServer treats each connection as told; nil: not at all.
func tcpServer(t *testing.T, treat func(*net.TCPConn)) net.Listener {
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
			if treat != nil {
				go treat(c.(*net.TCPConn))
			}
		}
	}()
	return l
}

func silent(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }

func banner(c *net.TCPConn) { _, _ = io.WriteString(c, "220 mail.example ESMTP\r\n"); silent(c) }

func hangUp(c *net.TCPConn) { _, _ = c.Read(make([]byte, 4096)); _ = c.CloseWrite(); silent(c) }

func reset(c *net.TCPConn) {
	_, _ = c.Read(make([]byte, 1))
	_ = c.SetLinger(0)
	_ = c.Close()
}

// TestADialEndsWithItsContextInEachPhase cancels when the far end has seen the dial
// come to the phase. The best of three dials counts, since others may keep the
// machine busy.
func TestADialEndsWithItsContextInEachPhase(t *testing.T) {
	reached, stuck := make(chan struct{}, 16), make(chan struct{})
	stick := func() { reached <- struct{}{}; <-stuck }
	noAnswer := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { stick() }))
	noPeer := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := new(websocket.Upgrader).Upgrade(w, r, nil); err == nil {
			_, _, _ = c.ReadMessage() // the peer's handshake begins
			stick()
			_ = c.Close()
		}
	}))
	nobody := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/open") {
			_, _ = w.Write(append([]byte("LPT1"), make([]byte, 9)...))
			return
		}
		if r.Method == http.MethodPost && r.URL.Query().Get("off") == "0" { // the peer's handshake begins
			reached <- struct{}{}
		}
		<-stuck
	}))
	noTLS := tcpServer(t, func(c *net.TCPConn) { _, _ = c.Read(make([]byte, 1)); stick(); _ = c.Close() })
	for _, s := range []*httptest.Server{noAnswer, noPeer, nobody} {
		t.Cleanup(s.Close)
	}
	t.Cleanup(func() { close(stuck) })
	never := func(ctx context.Context, _ string) (net.Conn, string, error) {
		reached <- struct{}{}
		<-ctx.Done()
		return nil, "", ctx.Err()
	}
	for _, c := range []struct {
		phase Phase
		way   string
		cfg   Config
		at    net.Listener
	}{
		{Connect, "/tls/ws", Config{Dial: never}, noTLS},
		{TLS, "/tls/ws", Config{}, noTLS},
		{TLS, "/tls/http", Config{}, noTLS},
		{Upgrade, "/tls/ws", Config{}, noAnswer.Listener},
		{Upgrade, "/tls/http", Config{}, noAnswer.Listener},
		{Security, "/tls/ws", Config{}, noPeer.Listener},
		{Security, "/tls/http", Config{}, nobody.Listener},
	} {
		t.Run(fmt.Sprint(c.phase, c.way), func(t *testing.T) {
			donor := newNode(t, c.cfg)
			best := time.Hour
			for range 3 {
				ctx, cancel := context.WithCancel(t.Context())
				var cancelled time.Time
				go func() { <-reached; cancelled = time.Now(); cancel() }()
				_, err := donor.web.Dial(ctx, must(manet.FromNetAddr(c.at.Addr())).Encapsulate(ma.StringCast(c.way)), donor.ID())
				<-ctx.Done()
				best = min(best, time.Since(cancelled))
				var failed *DialError
				if !errors.As(err, &failed) || failed.Phase != c.phase {
					t.Errorf("failed in another phase: %v", err)
				}
				if f := netcheck.Classify(err); f != netcheck.Aborted {
					t.Errorf("classified as %s: %v", f, err)
				}
			}
			if best > 100*time.Millisecond {
				t.Errorf("the dial ended %s after its context", best)
			}
		})
	}
}

func TestOurOwnPatienceEndsAndSaysSo(t *testing.T) {
	t.Parallel()
	donor := newNode(t, Config{HandshakeTimeout: 100 * time.Millisecond})
	a := must(manet.FromNetAddr(tcpServer(t, silent).Addr())).String()
	err := dialError(t, donor, a+"/ws")
	if netcheck.Classify(err) != netcheck.Timeout || !strings.Contains(err.Error(), "no answer within 100ms") {
		t.Errorf("%v", err)
	}
}

func TestTheNameStaysWhenItIsResolved(t *testing.T) {
	t.Parallel()
	tr := must(New(Config{}, nil, nil, nil))
	for a, want := range map[string]string{
		"/dns4/relay.example/tcp/443/tls/ws":               "/dns4/relay.example/tcp/443/tls/sni/relay.example/ws",
		"/dns/relay.example/tcp/443/wss":                   "/dns/relay.example/tcp/443/tls/sni/relay.example/ws",
		"/dns6/relay.example/tcp/443/tls/http":             "/dns6/relay.example/tcp/443/tls/sni/relay.example/http",
		"/dns4/relay.example/tcp/443/tls/sni/other/ws":     "/dns4/relay.example/tcp/443/tls/sni/other/ws",
		"/dns4/relay.example/tcp/80/ws":                    "/dns4/relay.example/tcp/80/ws",
		"/ip4/1.2.3.4/tcp/443/tls/ws":                      "/ip4/1.2.3.4/tcp/443/tls/ws",
		"/ip6/2a00::1/tcp/443/tls/sni/relay.example/https": "",
	} {
		got, err := tr.Resolve(t.Context(), ma.StringCast(a))
		if want == "" {
			if err == nil {
				t.Errorf("%s became %s", a, got)
			}
			continue
		}
		if err != nil || len(got) != 1 || got[0].String() != want {
			t.Errorf("%s became %s, %v", a, got, err)
		}
	}
}

func TestItDialsWebTrafficOnly(t *testing.T) {
	t.Parallel()
	tr := must(New(Config{}, nil, nil, nil))
	for _, a := range []string{"/ip4/1.2.3.4/tcp/80/ws", "/ip6/::1/tcp/443/wss", "/dns/x.example/tcp/443/tls/http", "/ip4/1.2.3.4/tcp/443/https"} {
		if !tr.CanDial(ma.StringCast(a)) {
			t.Errorf("%s is refused", a)
		}
	}
	for _, a := range []string{"/ip4/1.2.3.4/tcp/443", "/ip4/1.2.3.4/tcp/443/tls", "/ip4/1.2.3.4/udp/443/quic-v1", "/ip4/1.2.3.4/tcp/1/sni/x/ws",
		"/ip4/1.2.3.4/tcp/443/tls/ws/p2p-circuit", "/ip4/1.2.3.4/tcp/443/tls/ws/http", "/ip4/1.2.3.4/tcp/443/tls/wss"} {
		if tr.CanDial(ma.StringCast(a)) {
			t.Errorf("%s is accepted", a)
		}
	}
}

// TestTheHelloIsSmallAndLooksLikeABrowsers reads a ClientHello off the wire.
func TestTheHelloIsSmallAndLooksLikeABrowsers(t *testing.T) {
	t.Parallel()
	for way, want := range map[string][]string{"/ws": {"http/1.1"}, "/http": {"h2", "http/1.1"}} {
		hellos, sizes := make(chan *tls.ClientHelloInfo, 1), make(chan int, 1)
		l := tcpServer(t, func(c *net.TCPConn) {
			counted := &countingConn{Conn: c}
			_ = tls.Server(counted, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
				sizes <- counted.read
				hellos <- h
				return nil, errors.New("seen enough")
			}}).Handshake()
		})
		donor := newNode(t, Config{})
		_ = dialError(t, donor, must(manet.FromNetAddr(l.Addr())).String()+"/tls/sni/relay.example"+way)
		h := <-hellos
		if h.ServerName != "relay.example" || !slices.Equal(h.SupportedProtos, want) {
			t.Errorf("%s asks for %q with %v", way, h.ServerName, h.SupportedProtos)
		}
		if size := <-sizes; size > 600 {
			t.Errorf("%s: a hello of %d bytes", way, size)
		}
	}
}

type countingConn struct {
	net.Conn
	read int
}

func (c *countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read += n
	return n, err
}
