package netcheck

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	libp2pws "github.com/libp2p/go-libp2p/p2p/transport/websocket"
	"github.com/miekg/dns"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multistream"
)

// The failures below happen, on loopback, between real sockets: what the library
// makes of them is what we have to name.

func newHost(t *testing.T, opts ...libp2p.Option) host.Host {
	t.Helper()
	h, err := libp2p.New(append([]libp2p.Option{
		libp2p.DisableMetrics(), libp2p.ResourceManager(nil),
		libp2p.Transport(tcp.NewTCPTransport), libp2p.Transport(libp2pquic.NewTransport), libp2p.Transport(libp2pws.New),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// dial dials one address with the transport itself: no swarm hides the reason.
func dial(t *testing.T, h host.Host, a ma.Multiaddr, p peer.ID, within time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	conn, err := transportFor(h, a).Dial(ctx, a, p)
	if err == nil {
		_ = conn.Close()
		t.Fatalf("dialling %s worked", a)
	}
	return err
}

func transportFor(h host.Host, a ma.Multiaddr) transport.Transport {
	return h.Network().(*swarm.Swarm).TransportForDialing(a)
}

func expect(t *testing.T, err error, want Failure) {
	t.Helper()
	if got := Classify(err); got != want {
		t.Errorf("%q, not %q: %v", got, want, err)
	}
}

// serve answers every TCP connection with handle, and returns the port's address.
func serve(t *testing.T, handle func(*net.TCPConn)) ma.Multiaddr {
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
			go handle(c.(*net.TCPConn))
		}
	}()
	return tcpAddr(t, l.Addr().String())
}

func tcpAddr(t *testing.T, hostPort string) ma.Multiaddr {
	t.Helper()
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		t.Fatal(err)
	}
	return ma.StringCast("/ip4/" + host + "/tcp/" + port)
}

func wss(a ma.Multiaddr) ma.Multiaddr { return a.Encapsulate(ma.StringCast("/tls/ws")) }

func TestTCPFailures(t *testing.T) {
	t.Parallel()
	somebody := newHost(t, libp2p.NoListenAddrs).ID()
	read := func(c net.Conn) { _, _ = c.Read(make([]byte, 64)) }
	for name, c := range map[string]struct {
		handle func(*net.TCPConn)
		want   Failure
	}{
		"a port that never says a word":   {func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }, SecurityTimeout},
		"a reset after the first packet":  {func(c *net.TCPConn) { read(c); _ = c.SetLinger(0); _ = c.Close() }, SecurityReset},
		"an end after the first packet":   {func(c *net.TCPConn) { read(c); _ = c.Close() }, SecurityEOF},
		"a web server on the port":        {func(c *net.TCPConn) { read(c); _, _ = io.WriteString(c, page); _ = c.CloseWrite() }, Garbage},
		"an SSH server on the port":       {func(c *net.TCPConn) { read(c); _, _ = io.WriteString(c, banner); _ = c.CloseWrite() }, Garbage},
		"a message longer than any":       {func(c *net.TCPConn) { _, _ = c.Write([]byte{0xff, 0xff, 0xff, 0x7f}); _ = c.CloseWrite() }, Garbage},
		"another protocol than asked for": {func(c *net.TCPConn) { _, _ = io.WriteString(c, otherProtocol); _ = c.CloseWrite() }, Garbage},
		// The library goes on reading after the garbage, and forgets it.
		"garbage, and then silence":         {func(c *net.TCPConn) { _, _ = io.WriteString(c, page); _, _ = io.Copy(io.Discard, c) }, SecurityTimeout},
		"a peer that knows no security":     {func(c *net.TCPConn) { negotiate(c, "/none/1.0.0"); _, _ = io.Copy(io.Discard, c) }, NoProtocol},
		"a peer whose Noise is noise":       {func(c *net.TCPConn) { negotiate(c, noise.ID); badNoise(c) }, NoiseFailed},
		"a peer whose TLS is no TLS":        {func(c *net.TCPConn) { negotiate(c, libp2ptls.ID); _, _ = io.WriteString(c, page) }, TLSHandshake},
		"a censor's reset within the hello": {func(c *net.TCPConn) { negotiate(c, libp2ptls.ID); _ = c.SetLinger(0); _ = c.Close() }, SecurityReset},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, libp2p.NoListenAddrs)
			expect(t, dial(t, h, serve(t, c.handle), somebody, time.Second), c.want)
		})
	}
	t.Run("a closed port", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		h := newHost(t, libp2p.NoListenAddrs)
		a := tcpAddr(t, l.Addr().String())
		expect(t, dial(t, h, a, somebody, time.Second), Refused)
		expect(t, dial(t, h, wss(a), somebody, time.Second), Refused)
		info := peer.AddrInfo{ID: somebody, Addrs: []ma.Multiaddr{a}}
		expect(t, h.Connect(t.Context(), info), Refused)
		expect(t, h.Connect(t.Context(), info), DialBackoff)
	})
	t.Run("a dial that we give up", func(t *testing.T) {
		h := newHost(t, libp2p.NoListenAddrs)
		a := serve(t, func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		_, err := transportFor(h, a).Dial(ctx, a, somebody)
		expect(t, err, Aborted)
	})
}

const (
	page   = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: 11\r\n\r\nBad Request"
	banner = "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3 and what else an administrator may have written there\r\n"
)

// otherProtocol is well-formed multistream with the wrong answer in it.
const otherProtocol = "\x13/multistream/1.0.0\n\x0a/cat/1.0.0\n"

// negotiate speaks multistream as the answering side, with one protocol.
func negotiate(c net.Conn, id protocol.ID) {
	m := multistream.NewMultistreamMuxer[protocol.ID]()
	m.AddHandler(id, nil)
	_, _, _ = m.Negotiate(c)
}

// badNoise answers the first Noise message with one that does not decrypt.
func badNoise(c net.Conn) {
	_, _ = c.Read(make([]byte, 4096))
	answer := make([]byte, 2+200)
	binary.BigEndian.PutUint16(answer, 200)
	for i := range answer[2:] {
		answer[2+i] = byte(i*7 + 1)
	}
	_, _ = c.Write(answer)
	_, _ = io.Copy(io.Discard, c)
}

func TestSomebodyElseAnswers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		listen string
		opt    libp2p.Option
	}{
		"TCP and Noise": {"/ip4/127.0.0.1/tcp/0", libp2p.Security(noise.ID, noise.New)},
		"TCP and TLS":   {"/ip4/127.0.0.1/tcp/0", libp2p.Security(libp2ptls.ID, libp2ptls.New)},
		"WebSocket":     {"/ip4/127.0.0.1/tcp/0/ws", libp2p.Security(noise.ID, noise.New)},
		"QUIC":          {"/ip4/127.0.0.1/udp/0/quic-v1", libp2p.Security(noise.ID, noise.New)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newHost(t, c.opt, libp2p.ListenAddrStrings(c.listen))
			other := newHost(t, libp2p.NoListenAddrs).ID()
			h := newHost(t, c.opt, libp2p.NoListenAddrs)
			expect(t, dial(t, h, server.Addrs()[0], other, 5*time.Second), PeerMismatch)
		})
	}
}

func TestWebSocketFailures(t *testing.T) {
	t.Parallel()
	somebody := newHost(t, libp2p.NoListenAddrs).ID()
	careless := func() libp2p.Option {
		return libp2p.Transport(libp2pws.New, libp2pws.WithTLSClientConfig(&tls.Config{InsecureSkipVerify: true}))
	}
	only := func(t *testing.T, ws libp2p.Option) host.Host {
		h, err := libp2p.New(libp2p.DisableMetrics(), libp2p.NoListenAddrs, ws)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = h.Close() })
		return h
	}
	web := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "not here", http.StatusForbidden)
	}))
	t.Cleanup(web.Close)
	plain := httptest.NewServer(web.Config.Handler)
	t.Cleanup(plain.Close)
	t.Run("a web page where a WebSocket was expected", func(t *testing.T) {
		expect(t, dial(t, only(t, careless()), wss(tcpAddr(t, web.Listener.Addr().String())), somebody, 5*time.Second), WebSocketHandshake)
	})
	t.Run("a certificate of nobody we know", func(t *testing.T) {
		expect(t, dial(t, newHost(t, libp2p.NoListenAddrs), wss(tcpAddr(t, web.Listener.Addr().String())), somebody, 5*time.Second), TLSAuthority)
	})
	t.Run("no TLS on the port", func(t *testing.T) {
		expect(t, dial(t, only(t, careless()), wss(tcpAddr(t, plain.Listener.Addr().String())), somebody, 5*time.Second), TLSHandshake)
	})
	t.Run("a proxy that wants to know who we are", func(t *testing.T) {
		expect(t, proxied(t, httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusProxyAuthRequired)
		}))), ProxyFailed)
	})
	t.Run("a proxy that does not like the address", func(t *testing.T) {
		expect(t, proxied(t, httptest.NewServer(web.Config.Handler)), ProxyFailed)
	})
}

// proxied dials through a proxy, as the WebSocket transport does.
func proxied(t *testing.T, proxy *httptest.Server) error {
	t.Helper()
	t.Cleanup(proxy.Close)
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	d := websocket.Dialer{Proxy: http.ProxyURL(at)}
	conn, _, err := d.DialContext(t.Context(), "wss://127.0.0.1:9/", nil)
	if err == nil {
		_ = conn.Close()
		t.Fatal("the proxy let us through")
	}
	return err
}

func TestQUICThatNobodyAnswers(t *testing.T) {
	t.Parallel()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_, port, err := net.SplitHostPort(c.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	h := newHost(t, libp2p.NoListenAddrs)
	expect(t, dial(t, h, ma.StringCast("/ip4/127.0.0.1/udp/"+port+"/quic-v1"), newHost(t, libp2p.NoListenAddrs).ID(), 15*time.Second), QUICIdleTimeout)
}

func TestCircuitFailures(t *testing.T) {
	t.Parallel()
	target := newHost(t, libp2p.NoListenAddrs).ID()
	through := func(h host.Host) ma.Multiaddr {
		return ma.StringCast(h.Addrs()[0].String() + "/p2p/" + h.ID().String() + "/p2p-circuit")
	}
	relayHost := func(opts ...relay.Option) host.Host {
		h := newHost(t, libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
		r, err := relay.New(h, opts...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		return h
	}
	h := newHost(t, libp2p.NoListenAddrs, libp2p.EnableRelay())
	expect(t, dial(t, h, through(relayHost()), target, 5*time.Second), RelayNoReservation)
	expect(t, dial(t, h, through(relayHost(relay.WithACL(nobody{}))), target, 5*time.Second), RelayDenied)
	gone := newHost(t, libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
	a := through(gone)
	_ = gone.Close()
	expect(t, dial(t, h, a, target, 5*time.Second), RelayUnreachable)
	plain := newHost(t, libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
	expect(t, dial(t, h, through(plain), target, 5*time.Second), RelayUnreachable)
}

// nobody is a relay's access list with nobody on it.
type nobody struct{}

func (nobody) AllowReserve(peer.ID, ma.Multiaddr) bool          { return false }
func (nobody) AllowConnect(peer.ID, ma.Multiaddr, peer.ID) bool { return false }

func TestDNSFailures(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer int // an rcode; negative: none
		want   Failure
	}{
		"a name that does not exist":    {dns.RcodeNameError, NXDomain},
		"a name without such a record":  {dns.RcodeSuccess, NXDomain},
		"a server that fails":           {dns.RcodeServerFailure, DNSMisbehaving},
		"a server that refuses":         {dns.RcodeRefused, DNSMisbehaving},
		"a server that does not answer": {-1, Timeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := resolverWith(t, c.answer).LookupTXT(shortly(t), "relay.example.")
			expect(t, err, c.want)
			_, err = resolverWith(t, c.answer).LookupIPAddr(shortly(t), "relay.example.")
			expect(t, err, c.want)
		})
	}
}

func shortly(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	t.Cleanup(cancel)
	return ctx
}

// resolverWith asks a server on loopback that has one answer to everything.
func resolverWith(t *testing.T, rcode int) *net.Resolver {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: c, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		if rcode >= 0 {
			answer := new(dns.Msg).SetRcode(q, rcode)
			answer.RecursionAvailable = true
			_ = w.WriteMsg(answer)
		}
	})}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = c.Close() })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", c.LocalAddr().String())
	}}
}
