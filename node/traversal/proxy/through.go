package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"time"
)

// handshakeTimeout is how long a proxy may take to let us through, once it is
// connected to. Most wait up to a minute for what they connect to themselves;
// what took longer than this would be of no use.
const handshakeTimeout = 20 * time.Second

// through is the way by a proxy.
func (f *Finder) through(s server, target string) attempt {
	f.found(s)
	return attempt{route: s.String(), dial: func(ctx context.Context) (net.Conn, string, error) {
		conn, err := f.tunnel(ctx, s, target)
		return conn, s.String(), err
	}}
}

// tunnel has the proxy connect to the target. Credentials that are in its URL
// are sent at once, others when it asks for some.
func (f *Finder) tunnel(ctx context.Context, s server, target string) (net.Conn, error) {
	with := s.login
	if with.empty() && f.asks(s) {
		with = f.credentials(s)
	}
	conn, err := f.open(ctx, s, target, with)
	var refused *Refused
	if !errors.As(err, &refused) || refused.Status != http.StatusProxyAuthRequired || !with.empty() || !refused.takesBasic() {
		return conn, err
	}
	if with = f.credentials(s); with.empty() {
		return nil, err
	}
	f.remembersAsking(s)
	return f.open(ctx, s, target, with)
}

// open makes one try, with these credentials or, when they are empty, without.
func (f *Finder) open(ctx context.Context, s server, target string, with login) (net.Conn, error) {
	conn, err := f.tcp(ctx, s.address)
	if err != nil {
		return nil, &Unreachable{Proxy: s.String(), Err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	inner, err := f.handshake(ctx, conn, s, target, with)
	if err == nil {
		return inner, nil
	}
	_ = conn.Close()
	if ctx.Err() != nil {
		err = ctx.Err() // and not that of the socket, which we ended
	}
	if refused := new(Refused); errors.As(err, &refused) {
		return nil, err
	}
	return nil, &Unreachable{Proxy: s.String(), Err: err}
}

func (f *Finder) handshake(ctx context.Context, conn net.Conn, s server, target string, with login) (net.Conn, error) {
	switch s.scheme {
	case "socks5":
		return socks(ctx, conn, s, target, with)
	case "https":
		secure := tls.Client(conn, &tls.Config{ServerName: s.host(), RootCAs: f.Roots, NextProtos: []string{"http/1.1"}})
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		conn = secure
	}
	return httpTunnel(ctx, conn, s, target, with)
}

// asks tells whether the proxy asked for credentials before.
func (f *Finder) asks(s server) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	// SOCKS has no second try: both sides say at once what they can.
	return f.basic[s.String()] || s.scheme == "socks5"
}

func (f *Finder) remembersAsking(s server) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.basic == nil {
		f.basic = map[string]bool{}
	}
	f.basic[s.String()] = true
}
