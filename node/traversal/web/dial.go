package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/gorilla/websocket"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/worldcompute/wce2e/node/traversal/web/tunnel"
)

// Dial implements transport.Transport. It ends with ctx in each of its phases;
// its errors are *DialError, but for addresses that are none of this transport's
// and for the resource manager's refusals.
func (t *Transport) Dial(ctx context.Context, a ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	to, err := parse(a)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	scope, err := t.rm.OpenConnection(network.DirOutbound, true, a)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", a, err)
	}
	c, err := t.dial(ctx, a, to, p, scope)
	if err != nil {
		scope.Done()
		return nil, fmt.Errorf("dial %s: %w", a, err)
	}
	return c, nil
}

func (t *Transport) dial(ctx context.Context, a ma.Multiaddr, to target, p peer.ID, scope network.ConnManagementScope) (*conn, error) {
	if err := scope.SetPeer(p); err != nil {
		return nil, err
	}
	raw, outer, err := t.reach(ctx, to)
	if err != nil {
		return nil, err
	}
	s := &stream{Conn: raw, local: localMultiaddr(raw, to), remote: a}
	c, err := t.upgrader.Upgrade(ctx, t, s, network.DirOutbound, p, scope)
	if err != nil {
		return nil, &DialError{Phase: Security, Route: outer.Route, Err: err}
	}
	return &conn{CapableConn: c, outer: outer, kind: to.kind()}, nil
}

// reach returns a stream of bytes to the peer's libp2p.
func (t *Transport) reach(ctx context.Context, to target) (net.Conn, *Outer, error) {
	late := fmt.Errorf("no answer within %s: %w", t.cfg.HandshakeTimeout, context.DeadlineExceeded)
	ctx, cancel := context.WithTimeoutCause(ctx, t.cfg.HandshakeTimeout, late)
	defer cancel()
	first, outer, err := t.connect(ctx, to)
	if err != nil {
		return nil, nil, err
	}
	upgrade := t.webSocket
	if to.tunnel {
		upgrade = t.tunnel
	}
	c, err := upgrade(ctx, to, first, outer)
	if err != nil {
		_ = rawConn(first).Close() // the cause is known
		return nil, nil, &DialError{Phase: Upgrade, Route: outer.Route, Status: statusOf(err), Err: err}
	}
	return c, outer, nil
}

// connect makes a connection on which HTTP can be spoken.
func (t *Transport) connect(ctx context.Context, to target) (net.Conn, *Outer, error) {
	raw, route, err := t.cfg.Dial(ctx, to.hostport())
	if err != nil {
		phase := Connect
		if route != "" {
			phase = Proxy
		}
		return nil, nil, &DialError{Phase: phase, Route: route, Status: statusOf(err), Err: err}
	}
	outer := &Outer{Route: route}
	if !to.tls {
		return raw, outer, nil
	}
	c := tls.Client(raw, t.clientTLS(to, to.protocols(), outer))
	if err := c.HandshakeContext(ctx); err != nil {
		_ = raw.Close() // the cause is known
		return nil, nil, &DialError{Phase: TLS, Route: route, Err: over(ctx, err)}
	}
	return c, outer, nil
}

// protocols are those that a browser would offer: it asks for a WebSocket over
// HTTP/1.1.
func (to target) protocols() []string {
	if to.tunnel {
		return []string{"h2", "http/1.1"}
	}
	return []string{"http/1.1"}
}

// over returns why ctx is over, or err when it is not.
func over(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// webSocket upgrades the connection c.
func (t *Transport) webSocket(ctx context.Context, to target, c net.Conn, _ *Outer) (net.Conn, error) {
	return upgrade(ctx, to.url("ws", "wss"), c, t.cfg.UserAgent, t.buffers)
}

// WebSocket makes a stream of bytes of the connection c, TLS included, to the server
// of an Endpoint's URL. An unwanted answer is websocket.ErrBadHandshake, and its
// status is returned.
func WebSocket(ctx context.Context, url string, c net.Conn) (stream net.Conn, status int, err error) {
	stream, err = upgrade(ctx, url, c, DefaultUserAgent, nil)
	if err != nil {
		return nil, statusOf(err), err
	}
	return stream, http.StatusSwitchingProtocols, nil
}

func upgrade(ctx context.Context, url string, c net.Conn, userAgent string, buffers websocket.BufferPool) (net.Conn, error) {
	// The library would look at the context's deadline, and not at its end.
	stop := context.AfterFunc(ctx, func() { _ = rawConn(c).Close() })
	connected := func(context.Context, string, string) (net.Conn, error) { return c, nil }
	d := websocket.Dialer{
		NetDialContext:    connected,
		NetDialTLSContext: connected,
		ReadBufferSize:    wsReadBuffer,
		WriteBufferSize:   wsWriteBuffer,
		WriteBufferPool:   buffers,
	}
	ws, answer, err := d.DialContext(context.WithoutCancel(ctx), url+"/", http.Header{"User-Agent": {userAgent}})
	if !stop() { // c is closed, or about to be
		return nil, context.Cause(ctx)
	}
	switch {
	case err == nil:
		return &wsConn{ws: ws}, nil
	case errors.Is(err, websocket.ErrBadHandshake) && answer != nil:
		return nil, &statusError{error: err, status: answer.StatusCode}
	}
	return nil, err
}

// tunnel opens a tunnel, whose first connection is c.
func (t *Transport) tunnel(ctx context.Context, to target, c net.Conn, outer *Outer) (net.Conn, error) {
	var begun atomic.Bool
	way := tunnel.Over(func(ctx context.Context) (net.Conn, error) {
		if !begun.Swap(true) {
			return c, nil
		}
		return t.another(ctx, to, *outer)
	})
	client := tunnel.Client{HTTP: way, URL: to.url("http", "https"), UserAgent: t.cfg.UserAgent}
	s, err := client.Dial(ctx)
	if err != nil {
		return nil, over(ctx, err)
	}
	return tunnelConn{Conn: s, local: c.LocalAddr()}, nil
}

// errOther is somebody else answering for the server than at first.
var errOther = fmt.Errorf("another certificate than on the tunnel's first connection: %w", tunnel.ErrGiveUp)

// another is a further connection of a tunnel: to the same server, seen in the
// same way, so that what the node was told of the first is true of all.
func (t *Transport) another(ctx context.Context, to target, first Outer) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, t.cfg.HandshakeTimeout)
	defer cancel()
	c, outer, err := t.connect(ctx, to)
	if err != nil {
		return nil, err
	}
	if !outer.sameAs(first) {
		_ = rawConn(c).Close() // the cause is known
		return nil, &DialError{Phase: TLS, Route: outer.Route, Err: errOther}
	}
	return c, nil
}

// tunnelConn has the address of the first of its connections.
type tunnelConn struct {
	*tunnel.Conn
	local net.Addr
}

func (c tunnelConn) LocalAddr() net.Addr { return c.local }

// rawConn is what is below TLS. Closing it is prompt; TLS would first wait for
// room to say goodbye, five seconds long.
func rawConn(c net.Conn) net.Conn {
	if t, ok := c.(*tls.Conn); ok {
		return t.NetConn()
	}
	return c
}

// anywhere is the local address of a connection that has none, behind a proxy's
// own kind of connection.
var anywhere = ma.StringCast("/ip4/0.0.0.0/tcp/0")

func localMultiaddr(c net.Conn, to target) ma.Multiaddr {
	a, err := manet.FromNetAddr(c.LocalAddr())
	if err != nil {
		a = anywhere
	}
	return a.Encapsulate(target{tls: to.tls, tunnel: to.tunnel}.way())
}
