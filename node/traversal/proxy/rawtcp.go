package proxy

import (
	"context"
	"net"

	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
)

// ContextDialer is for go-libp2p's tcp.WithDialerForAddr: raw TCP goes directly, and
// through a proxy when that fails. Proxies that ALL_PROXY names, and SOCKS ones
// in any variable, are for every kind of traffic and go first.
//
// With a dialer of its own, the library's TCP transport no longer dials from the
// port on which it listens, which hole punching over TCP needs: see FromPort.
func (f *Finder) ContextDialer(ma.Multiaddr) (tcp.ContextDialer, error) { return rawTCP{f}, nil }

// CarriesTCP tells whether the environment names a proxy for every kind of
// traffic.
func (f *Finder) CarriesTCP() bool { return len(f.forTCP()) > 0 }

func (f *Finder) forTCP() []server {
	var out []server
	for _, s := range f.fromVariables(allProxy, httpsProxy, httpProxy) {
		if s.scheme == "socks5" || s.source == "ALL_PROXY" {
			out = append(out, s)
		}
	}
	return out
}

// rawTCP dials libp2p's plain TCP addresses.
type rawTCP struct{ finder *Finder }

func (d rawTCP) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	conn, route, err := d.finder.dial(ctx, address, d.plan)
	if err != nil || route == "" {
		return conn, err
	}
	if noted, ok := ctx.Value(routeKey{}).(*string); ok {
		*noted = route
	}
	to, err := net.ResolveTCPAddr("tcp", address) // an address: libp2p has resolved it
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return tunnelled{conn, to}, nil
}

type (
	routeKey struct{}
	fromKey  struct{} // of the port that a direct dial leaves from
)

// NoteRoute has a dial of raw TCP with this context tell by which proxy it went:
// its URL without credentials. It is set before the dial returns, if by any.
func NoteRoute(ctx context.Context, route *string) context.Context {
	return context.WithValue(ctx, routeKey{}, route)
}

// FromPort has direct dials of raw TCP with this context leave from a port, where
// that is possible: hole punches need the one on which we listen. 0 means any.
func FromPort(ctx context.Context, port int) context.Context {
	return context.WithValue(ctx, fromKey{}, port)
}

// plan puts the proxies for everything first, and the others behind the direct
// way, to wait until it has failed or had a while: most carry nothing but the web.
func (d rawTCP) plan(target string) []attempt {
	f := d.finder
	if f.bypassed(target) {
		return []attempt{f.directly(target)}
	}
	out := append(f.by(f.forTCP(), target), f.directly(target))
	seen := map[string]bool{}
	for _, a := range out {
		seen[a.route] = true
	}
	for _, a := range f.plan(target) {
		if a.late || !seen[a.route] {
			a.last = true
			out = append(out, a)
		}
	}
	return out
}

// tunnelled is a connection through a proxy. libp2p takes the far end of a
// connection for the address of the peer, which the proxy's is not.
type tunnelled struct {
	net.Conn
	remote net.Addr
}

func (c tunnelled) RemoteAddr() net.Addr { return c.remote }
