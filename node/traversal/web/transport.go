package web

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/transport/tcpreuse"
	ma "github.com/multiformats/go-multiaddr"
)

// handshakeTimeout is for TCP, TLS and the upgrade together: four round trips,
// six through a proxy, which on a satellite link (600 ms) with a packet lost take
// 7 s.
const handshakeTimeout = 10 * time.Second

// Config of a Transport. The zero Config works.
type Config struct {
	// Dial connects to host:port, where the host is an IP or a name, and says
	// through which proxy (its URL without credentials) or with "" that it went
	// directly. An error for which it says a proxy is the proxy's. Nil: a
	// net.Dialer.
	Dial func(ctx context.Context, hostport string) (c net.Conn, route string, err error)

	// Roots are the authorities whose certificates verify. Nil: the system's.
	Roots *x509.CertPool

	// Certificate chooses the certificate of a listener. Nil: a self-signed one,
	// made by New. Validations of ACME (tls-alpn-01) come here as well.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)

	// Page answers requests that are none of libp2p's. Nil: 404.
	Page http.Handler

	// HandshakeTimeout bounds TCP, TLS and the upgrade of one dial together, and
	// of one incoming connection TLS and the head of each request. 0: 10 s.
	HandshakeTimeout time.Duration

	// UserAgent is told to the server, since some gateways refuse requests without
	// one. Empty: DefaultUserAgent.
	UserAgent string
}

// DefaultUserAgent says what we are in the form that gateways expect.
const DefaultUserAgent = "Mozilla/5.0 (compatible; wce2e)"

// Transport implements transport.Transport.
type Transport struct {
	cfg      Config
	upgrader transport.Upgrader
	rm       network.ResourceManager
	shared   *tcpreuse.ConnMgr
	buffers  websocket.BufferPool

	mu    sync.Mutex // guards ports
	ports []*port
}

var (
	_ transport.Transport = (*Transport)(nil)
	_ transport.Resolver  = (*Transport)(nil)
)

// New makes a transport. Nil rm: no limits; nil shared: ports of its own.
func New(cfg Config, u transport.Upgrader, rm network.ResourceManager, shared *tcpreuse.ConnMgr) (*Transport, error) {
	if rm == nil {
		rm = &network.NullResourceManager{}
	}
	if cfg.Dial == nil {
		cfg.Dial = dialDirectly
	}
	if cfg.Page == nil {
		cfg.Page = http.NotFoundHandler()
	}
	if cfg.HandshakeTimeout <= 0 {
		cfg.HandshakeTimeout = handshakeTimeout
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = DefaultUserAgent
	}
	if cfg.Certificate == nil {
		own, err := SelfSigned(time.Now())
		if err != nil {
			return nil, err
		}
		cfg.Certificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return own, nil }
	}
	return &Transport{cfg: cfg, upgrader: u, rm: rm, shared: shared, buffers: new(sync.Pool)}, nil
}

func dialDirectly(ctx context.Context, hostport string) (net.Conn, string, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", hostport)
	return c, "", err
}

// CanDial implements transport.Transport.
func (t *Transport) CanDial(a ma.Multiaddr) bool {
	_, err := parse(a)
	return err == nil
}

// Protocols implements transport.Transport.
func (t *Transport) Protocols() []int {
	return []int{ma.P_WS, ma.P_WSS, ma.P_HTTP, ma.P_HTTPS}
}

// Proxy implements transport.Transport: it is about circuits.
func (t *Transport) Proxy() bool { return false }

// Resolve implements transport.Resolver. Before a name becomes an IP, it is kept
// as the one to ask for in TLS.
func (t *Transport) Resolve(_ context.Context, a ma.Multiaddr) ([]ma.Multiaddr, error) {
	to, err := parse(a)
	if err != nil {
		return nil, err
	}
	if to.tls && to.sni == "" && to.named() {
		to.sni = to.host
		return []ma.Multiaddr{to.multiaddr()}, nil
	}
	return []ma.Multiaddr{a}, nil
}
