package tunnel

import (
	"context"
	"net"
	"sync/atomic"
	"time"
)

// Conn is one end of a tunnel: a net.Conn that is always closed as a whole.
type Conn struct {
	local, remote net.Addr
	in, out       window

	// Which of the ends are closed. Each is set before the other is looked at, so
	// that whoever comes second ends the session.
	closed, peerIsClosed atomic.Bool

	// ctx ends, with the reason as its cause, when nothing of the session works
	// any more.
	ctx    context.Context
	cancel context.CancelCauseFunc
}

// Addr is the address of an end that has none of its own: a URL, or empty.
type Addr string

func (Addr) Network() string  { return "http" }
func (a Addr) String() string { return string(a) }

func newConn(local, remote net.Addr, m *memory) *Conn {
	c := &Conn{local: local, remote: remote, in: window{memory: m}, out: window{memory: m}}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	return c
}

func (c *Conn) Read(p []byte) (int, error)  { return c.in.read(p) }
func (c *Conn) Write(p []byte) (int, error) { return c.out.write(p) }
func (c *Conn) LocalAddr() net.Addr         { return c.local }
func (c *Conn) RemoteAddr() net.Addr        { return c.remote }

func (c *Conn) SetReadDeadline(t time.Time) error  { c.in.setDeadline(t); return nil }
func (c *Conn) SetWriteDeadline(t time.Time) error { c.out.setDeadline(t); return nil }

func (c *Conn) SetDeadline(t time.Time) error {
	c.in.setDeadline(t)
	c.out.setDeadline(t)
	return nil
}

// Close ends both directions here. What was written is still delivered, within
// closeFor; Close does not wait for it.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	c.in.fail(net.ErrClosed)
	c.out.finish()
	if c.peerIsClosed.Load() {
		c.fail(net.ErrClosed)
		return nil
	}
	time.AfterFunc(closeFor, func() { c.fail(net.ErrClosed) })
	return nil
}

// peerClosed notes that the other end is closed: what came from it can still be
// read, and nothing be written.
func (c *Conn) peerClosed() {
	c.peerIsClosed.Store(true)
	c.in.finish()
	c.out.fail(errPeerClosed)
	if c.closed.Load() {
		c.fail(net.ErrClosed)
	}
}

// fail ends the session, at once and as a whole.
func (c *Conn) fail(err error) {
	c.in.fail(err)
	c.out.fail(err)
	c.cancel(err)
}
