package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/transport/tcpreuse"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/worldcompute/wce2e/node/traversal/web/tunnel"
)

const (
	// maxWeb is how many connections of a port may be in use for something else
	// than WebSockets: visitors of the page, and tunnels, which have up to six
	// each over HTTP/1.1.
	maxWeb = 8192
	// maxWebFrom is how many of them may be one address's (IPv6: one /56's): four
	// each for a thousand donors behind one NAT, which over HTTP/2 have one each.
	maxWebFrom = maxWeb / 2
	// webIdleFor is how long a connection between two requests is kept.
	webIdleFor = 30 * time.Second
	// queueSize is how many new tunnels may wait for libp2p to look at them.
	queueSize = 64
	// farewellFor is how long a port that is closed lets answers under way end.
	farewellFor = 250 * time.Millisecond
)

// Listen implements transport.Transport. Addresses that differ only in their last
// part, /ws and /http, share the port; so do those with port 0.
func (t *Transport) Listen(a ma.Multiaddr) (transport.Listener, error) {
	to, err := parse(a)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p, err := t.port(to)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", a, err)
	}
	q := p.attach(to)
	var gated transport.GatedMaListener = q
	if to.tunnel {
		gated = t.upgrader.GateMaListener(ungated{q})
	}
	return &listener{Listener: t.upgrader.UpgradeGatedMaListener(t, gated), kind: to.kind()}, nil
}

// listener hands out connections that know what they are.
type listener struct {
	transport.Listener
	kind string
}

func (l *listener) Accept() (transport.CapableConn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{CapableConn: c, kind: l.kind}, nil
}

// port returns the port to listen on for to: one that lacks this way in, or a new
// one. t.mu is held.
func (t *Transport) port(to target) (*port, error) {
	for _, p := range t.ports {
		if p.serves(to) {
			if p.way(to.tunnel) == nil {
				return p, nil
			}
			if to.port != "0" {
				return nil, errors.New("somebody listens there already")
			}
		}
	}
	inner, err := t.listenTCP(to)
	if err != nil {
		return nil, err
	}
	p := &port{t: t, asked: to, inner: inner}
	p.tunnels = &tunnel.Server{Accept: p.acceptTunnel}
	p.server = &http.Server{
		Handler:           p,
		TLSConfig:         t.tlsConfig(),
		ReadHeaderTimeout: t.cfg.HandshakeTimeout, // and for the handshake of TLS
		IdleTimeout:       webIdleFor,
		ConnContext:       withAccepted,
		ErrorLog:          log.New(io.Discard, "", 0), // strangers' mistakes
	}
	t.ports = append(t.ports, p)
	go p.serve()
	return p, nil
}

func (t *Transport) listenTCP(to target) (transport.GatedMaListener, error) {
	if t.shared == nil {
		l, err := manet.Listen(to.tcp)
		if err != nil {
			return nil, err
		}
		return t.upgrader.GateMaListener(l), nil
	}
	if to.tls {
		return t.shared.DemultiplexedListen(to.tcp, tcpreuse.DemultiplexedConnType_TLS)
	}
	return t.shared.DemultiplexedListen(to.tcp, tcpreuse.DemultiplexedConnType_HTTP)
}

// port is a TCP port with a web server on it.
type port struct {
	t       *Transport
	asked   target // by the first to listen
	inner   transport.GatedMaListener
	server  *http.Server
	tunnels *tunnel.Server
	web     visitors

	mu         sync.Mutex // guards the fields below
	ws, tunnel *queue     // nil: nobody listens
}

// serves reports whether to is at this port.
func (p *port) serves(to target) bool {
	return p.asked.tls == to.tls && (p.asked.tcp.Equal(to.tcp) || p.inner.Multiaddr().Equal(to.tcp))
}

func (p *port) way(tunnelled bool) *queue {
	p.mu.Lock()
	defer p.mu.Unlock()
	if tunnelled {
		return p.tunnel
	}
	return p.ws
}

// attach lets to in.
func (p *port) attach(to target) *queue {
	size := 0 // who pushes waits
	if to.tunnel {
		size = queueSize
	}
	q := &queue{
		addr:     p.announced(to),
		tcp:      p.inner.Addr(),
		arrivals: make(chan arrival, size),
		closed:   make(chan struct{}),
	}
	q.detach = func() { p.detach(to.tunnel) }
	p.mu.Lock()
	defer p.mu.Unlock()
	if to.tunnel {
		p.tunnel = q
	} else {
		p.ws = q
	}
	return q
}

// announced is to with the port that it got. A name stays, so that peers can
// check it against the certificate.
func (p *port) announced(to target) ma.Multiaddr {
	tcp := p.inner.Multiaddr()
	if to.named() {
		tcp = ma.Multiaddr{to.tcp[0]}.Encapsulate(tcp[1:])
	}
	return tcp.Encapsulate(to.way())
}

// detach closes one of the two ways in, and the port with the last. Tunnels live
// on the port's connections: they end with their way in.
func (p *port) detach(tunnelled bool) {
	p.t.mu.Lock()
	p.mu.Lock()
	if tunnelled {
		p.tunnel = nil
	} else {
		p.ws = nil
	}
	last := p.ws == nil && p.tunnel == nil
	p.mu.Unlock()
	if last {
		p.t.ports = slices.DeleteFunc(p.t.ports, func(other *port) bool { return other == p })
	}
	p.t.mu.Unlock()
	if tunnelled {
		p.tunnels.EndAll()
	}
	if last {
		p.close()
	}
}

func (p *port) close() {
	_ = p.inner.Close() // first: the port is free again at once
	ctx, cancel := context.WithTimeout(context.Background(), farewellFor)
	defer cancel()
	if p.server.Shutdown(ctx) != nil {
		_ = p.server.Close() // those that did not end in time
	}
}

// serve ends when the port is closed.
func (p *port) serve() {
	l := incoming{GatedMaListener: p.inner, port: p}
	if p.asked.tls {
		_ = p.server.ServeTLS(l, "", "")
	} else {
		_ = p.server.Serve(l)
	}
}

// ServeHTTP tells libp2p's requests from all others.
func (p *port) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := acceptedOf(r.Context())
	if q := p.way(false); q != nil && websocket.IsWebSocketUpgrade(r) {
		p.upgrade(w, r, c, q)
		return
	}
	if r.ContentLength != 0 {
		// The server waits for what is left unread of a body, however long. A
		// tunnel that reads its own takes its own time.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(p.t.cfg.HandshakeTimeout))
	}
	if !c.becomeWeb() {
		w.Header().Set("Connection", "close")
		http.Error(w, "too many connections", http.StatusServiceUnavailable)
		return
	}
	if strings.HasPrefix(r.URL.Path, tunnel.Path) && p.way(true) != nil {
		p.tunnels.ServeHTTP(w, r)
		return
	}
	p.t.cfg.Page.ServeHTTP(w, r)
}

// upgrade makes a libp2p connection of the one that the request came on.
func (p *port) upgrade(w http.ResponseWriter, r *http.Request, c *accepted, q *queue) {
	u := websocket.Upgrader{
		HandshakeTimeout: p.t.cfg.HandshakeTimeout,
		ReadBufferSize:   wsReadBuffer,
		WriteBufferSize:  wsWriteBuffer,
		WriteBufferPool:  p.t.buffers,
		CheckOrigin:      func(*http.Request) bool { return true }, // peers are proven inside
	}
	ws, err := u.Upgrade(w, r, nil)
	if err != nil {
		return // the library has answered
	}
	s := &wsConn{ws: ws}
	scope, err := c.takeScope()
	if err != nil {
		_ = s.Close() // refused
		return
	}
	q.push(arrival{p.stream(s, c, p.asked.tls, false), scope})
}

// acceptTunnel is called by the tunnels' server for each new one.
func (p *port) acceptTunnel(s *tunnel.Conn, r *http.Request) bool {
	q := p.way(true)
	return q != nil && q.offer(arrival{conn: p.stream(s, acceptedOf(r.Context()), p.asked.tls, true)})
}

// stream gives a connection the addresses of the one it came on.
func (p *port) stream(s net.Conn, c *accepted, tls, tunnelled bool) manet.Conn {
	way := target{tls: tls, tunnel: tunnelled}.way()
	return &stream{Conn: s, local: c.LocalMultiaddr().Encapsulate(way), remote: c.RemoteMultiaddr().Encapsulate(way)}
}

// incoming is the port as the web server sees it.
type incoming struct {
	transport.GatedMaListener
	port *port
}

func (l incoming) Accept() (net.Conn, error) {
	c, scope, err := l.GatedMaListener.Accept()
	if err != nil {
		return nil, err
	}
	return &accepted{Conn: c, port: l.port, scope: scope}, nil
}

// accepted is a TCP connection. In the books of the resource manager it is a
// libp2p connection on its way, until it is known for the web's.
type accepted struct {
	manet.Conn
	port *port

	mu     sync.Mutex // guards the fields below
	scope  network.ConnManagementScope
	web    bool
	closed bool
}

type acceptedKey struct{}

func withAccepted(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return context.WithValue(ctx, acceptedKey{}, c)
}

// acceptedOf is the connection that a request came on.
func acceptedOf(ctx context.Context) *accepted { return ctx.Value(acceptedKey{}).(*accepted) }

// becomeWeb takes the connection out of libp2p's books and into ours. It returns
// false when there are too many.
func (c *accepted) becomeWeb() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.web || c.closed {
		return true
	}
	if !c.port.web.enter(c.RemoteAddr()) {
		return false
	}
	c.web = true
	c.done()
	return true
}

// takeScope leaves the books to the caller. A connection that was the web's
// before, as a browser's may be, is entered anew.
func (c *accepted) takeScope() (network.ConnManagementScope, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	scope := c.scope
	c.scope = nil
	if scope == nil {
		return c.port.t.rm.OpenConnection(network.DirInbound, true, c.RemoteMultiaddr())
	}
	return scope, nil
}

func (c *accepted) done() {
	if c.scope != nil {
		c.scope.Done()
		c.scope = nil
	}
}

func (c *accepted) Close() error {
	err := c.Conn.Close() // first: what leaves the books before it ends is the web's
	c.mu.Lock()
	c.done()
	c.closed = true
	if c.web {
		c.web = false
		c.port.web.leave(c.RemoteAddr())
	}
	c.mu.Unlock()
	return err
}

// arrival is a new stream of bytes for libp2p to look at.
type arrival struct {
	conn  manet.Conn
	scope network.ConnManagementScope
}

func (a arrival) refuse() {
	_ = a.conn.Close() // refused
	if a.scope != nil {
		a.scope.Done()
	}
}

// queue is one way in: a transport.GatedMaListener of what arrives there.
type queue struct {
	addr     ma.Multiaddr
	tcp      net.Addr
	arrivals chan arrival
	closing  sync.Once
	closed   chan struct{}
	detach   func()
}

// push waits until it is accepted.
func (q *queue) push(a arrival) {
	select {
	case <-q.closed:
		a.refuse()
	case q.arrivals <- a:
	}
}

// offer waits for nothing, and says whether there was room. Tunnels that are never
// accepted end with the queue.
func (q *queue) offer(a arrival) bool {
	select {
	case q.arrivals <- a:
		return true
	default:
		return false
	}
}

func (q *queue) Accept() (manet.Conn, network.ConnManagementScope, error) {
	select {
	case a := <-q.arrivals:
		return a.conn, a.scope, nil
	case <-q.closed:
		return nil, nil, transport.ErrListenerClosed
	}
}

func (q *queue) Close() error {
	q.closing.Do(func() {
		close(q.closed)
		q.detach()
	})
	return nil
}

func (q *queue) Multiaddr() ma.Multiaddr { return q.addr }
func (q *queue) Addr() net.Addr          { return q.tcp }

// ungated is a queue whose arrivals are not in the books yet: tunnels, which come
// on connections of the web.
type ungated struct{ *queue }

func (u ungated) Accept() (manet.Conn, error) {
	c, _, err := u.queue.Accept()
	return c, err
}
