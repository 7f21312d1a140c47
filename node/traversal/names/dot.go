package names

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/miekg/dns"
)

// dot asks one server over TLS (RFC 7858).
type dot struct {
	addr   string
	dial   dialFunc
	config *tls.Config
	// slots has an element for each connection that there may be: one that waits
	// for the next question, or nil. A connection in use is in nobody else's hands.
	slots chan *dotConn
}

type dotConn struct {
	dns.Conn
	used time.Time // last
}

func newDoT(s Server, dial dialFunc, config *tls.Config) *dot {
	d := &dot{addr: s.Addr.String(), dial: dial, config: config, slots: make(chan *dotConn, maxConns)}
	for range maxConns {
		d.slots <- nil
	}
	return d
}

func (d *dot) exchange(ctx context.Context, queries []*dns.Msg) ([]*dns.Msg, error) {
	var conn *dotConn
	select {
	case conn = <-d.slots:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { d.put(conn) }()

	if conn != nil {
		replies, err := conn.talk(ctx, queries)
		if err == nil {
			return replies, nil
		}
		conn = nil // the server hung up meanwhile, as servers do
		if ctx.Err() != nil {
			return nil, err
		}
	}
	fresh, err := d.open(ctx)
	if err != nil {
		return nil, err
	}
	replies, err := fresh.talk(ctx, queries)
	if err == nil {
		conn = fresh
	}
	return replies, err
}

func (d *dot) open(ctx context.Context) (*dotConn, error) {
	raw, err := d.dial(ctx, d.addr)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, d.config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("TLS: %w", err), ignoreClosed(raw.Close()))
	}
	return &dotConn{Conn: dns.Conn{Conn: conn}}, nil
}

// put makes a connection, or room for one, available to the next question.
func (d *dot) put(conn *dotConn) {
	if conn != nil {
		conn.used = time.Now()
		time.AfterFunc(idleTimeout, func() { d.closeUnused(idleTimeout) })
	}
	d.slots <- conn
}

func (d *dot) closeIdle() { d.closeUnused(0) }

// closeUnused closes the connections that were not used for so long.
func (d *dot) closeUnused(unused time.Duration) {
	for range maxConns {
		select {
		case conn := <-d.slots:
			if conn != nil && time.Since(conn.used) >= unused {
				_ = conn.Close() // it has done its work
				conn = nil
			}
			d.slots <- conn
		default:
			return
		}
	}
}

// talk sends queries and reads a reply to each, in whatever order. A connection
// on which that fails is closed: what comes next on it could be anything.
func (c *dotConn) talk(ctx context.Context, queries []*dns.Msg) (replies []*dns.Msg, err error) {
	hurry := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !hurry() && err == nil {
			err = ctx.Err() // the deadline stays on the connection
		}
		if err != nil {
			err = errors.Join(err, ignoreClosed(c.Close()))
		}
	}()
	for _, q := range queries {
		if err := c.WriteMsg(q); err != nil {
			return nil, fmt.Errorf("send query: %w", orCause(ctx, err))
		}
	}
	replies = make([]*dns.Msg, len(queries))
	for range queries {
		m, err := c.ReadMsg()
		if err != nil {
			return nil, fmt.Errorf("read reply: %w", orCause(ctx, err))
		}
		i := int(m.Id) - 1
		if i < 0 || i >= len(queries) || replies[i] != nil || !answers(m, queries[i]) {
			return nil, errors.New("read reply: it is to something else")
		}
		replies[i] = m
	}
	return replies, nil
}

// orCause prefers why we gave up to what that did to the connection.
func orCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
