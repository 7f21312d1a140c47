package node

import (
	"context"
	"net"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/tcpreuse"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/traversal/proxy"
)

// tcpTransport dials raw TCP as the library does, from the port on which it
// listens, which hole punches need; and by a dialer of ours where the network
// takes that: through proxies, and in smaller packets. The library's dialer is
// chosen once for all dials, so there are two transports.
type tcpTransport struct {
	*tcp.TcpTransport
	detour *tcp.TcpTransport // only dials
	needed func() bool
	port   atomic.Int32 // on which we listen; 0: on none yet
}

var _ transport.DialUpdater = (*tcpTransport)(nil)

func newTCPTransport(u transport.Upgrader, rm network.ResourceManager, shared *tcpreuse.ConnMgr, ways *proxy.Finder) (transport.Transport, error) {
	plain, err := tcp.NewTCPTransport(u, rm, shared)
	if err != nil || ways == nil {
		return plain, err
	}
	detour, err := tcp.NewTCPTransport(u, rm, shared, tcp.WithDialerForAddr(ways.ContextDialer))
	needed := func() bool { return ways.CarriesTCP() || ways.Narrow != nil && ways.Narrow() }
	return &tcpTransport{TcpTransport: plain, detour: detour, needed: needed}, err
}

func (t *tcpTransport) Listen(a ma.Multiaddr) (transport.Listener, error) {
	l, err := t.TcpTransport.Listen(a)
	if err != nil {
		return nil, err
	}
	if at, ok := l.Addr().(*net.TCPAddr); ok {
		t.port.Store(int32(at.Port))
	}
	return l, nil
}

func (t *tcpTransport) Dial(ctx context.Context, a ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	return t.DialWithUpdates(ctx, a, p, nil)
}

func (t *tcpTransport) DialWithUpdates(ctx context.Context, a ma.Multiaddr, p peer.ID, updates chan<- transport.DialUpdate) (transport.CapableConn, error) {
	if !t.needed() {
		return t.TcpTransport.DialWithUpdates(ctx, a, p, updates)
	}
	var route string
	c, err := t.detour.DialWithUpdates(proxy.FromPort(proxy.NoteRoute(ctx, &route), int(t.port.Load())), a, p, updates)
	if err != nil || route == "" {
		return c, err
	}
	return &proxied{c, route}, nil
}

// proxied is a connection that knows by which proxy it goes.
type proxied struct {
	transport.CapableConn
	route string
}

// viaProxy is the URL of a connection's proxy, without credentials.
type viaProxy string

// As gives a *viaProxy what it asks for.
func (c *proxied) As(target any) bool {
	if via, ok := target.(*viaProxy); ok {
		*via = viaProxy(c.route)
		return true
	}
	return c.CapableConn.As(target)
}
