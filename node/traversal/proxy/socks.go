package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"

	socksproxy "golang.org/x/net/proxy"
)

// socks asks a SOCKS5 proxy for a connection (RFC 1928, RFC 1929).
func socks(ctx context.Context, conn net.Conn, s server, target string, with login) (net.Conn, error) {
	var auth *socksproxy.Auth
	if !with.empty() {
		auth = &socksproxy.Auth{User: with.user, Password: with.password}
	}
	d, err := socksproxy.SOCKS5("tcp", s.address, auth, connected{conn})
	if err != nil {
		return nil, err
	}
	if _, err := d.(socksproxy.ContextDialer).DialContext(ctx, "tcp", target); err != nil {
		return nil, socksError(err, s, with)
	}
	return conn, nil // the library's own wraps it, and hides that it is TCP
}

// socksError tells a proxy that says no from one that does not answer. The
// library has no types for what a proxy says; it has for all the rest.
func socksError(err error, s server, with login) error {
	var op *net.OpError
	if !errors.As(err, &op) {
		return err
	}
	var number syscall.Errno
	var timeout net.Error
	cause := op.Err
	if errors.Is(cause, io.EOF) || errors.Is(cause, io.ErrUnexpectedEOF) || errors.Is(cause, context.Canceled) ||
		errors.As(cause, &number) || errors.As(cause, &timeout) {
		return cause
	}
	return &Refused{Proxy: s.String(), Text: printable(cause.Error()), Sent: !with.empty()}
}

// connected dials nothing: it has a connection already.
type connected struct{ conn net.Conn }

func (c connected) Dial(string, string) (net.Conn, error) { return c.conn, nil }

func (c connected) DialContext(context.Context, string, string) (net.Conn, error) {
	return c.conn, nil
}
