package names

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// dot asks one server over TLS (RFC 7858).
type dot struct {
	addr   string
	dial   dialFunc
	config *tls.Config
	turns  chan struct{} // has an element for each question in progress

	mu   sync.Mutex // guards the field below
	idle []*dotConn // wait for the next question, the one used last at the end
}

// dotConn carries one question at a time.
type dotConn struct {
	dns.Conn
	used time.Time // last
}

func newDoT(s Server, dial dialFunc, config *tls.Config) *dot {
	return &dot{addr: s.Addr.String(), dial: dial, config: config, turns: make(chan struct{}, maxConns)}
}

// exchange goes on when nobody waits for it any more, so that there is a
// connection for the next question; http.Transport does the same. Otherwise a
// server that loses every race would see a handshake for each of them.
func (d *dot) exchange(ctx context.Context, queries []*dns.Msg) ([]*dns.Msg, error) {
	select {
	case d.turns <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	type outcome struct {
		replies []*dns.Msg
		err     error
	}
	done := make(chan outcome, 1)
	go func() {
		defer func() { <-d.turns }()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), serverTimeout)
		defer cancel()
		replies, err := d.ask(ctx, queries)
		done <- outcome{replies, err}
	}()
	select {
	case o := <-done:
		return o.replies, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ask uses a connection that is there, and a new one when there is none or the
// server has hung up meanwhile, as servers do.
func (d *dot) ask(ctx context.Context, queries []*dns.Msg) ([]*dns.Msg, error) {
	if conn := d.take(); conn != nil {
		replies, err := d.askOn(ctx, conn, queries)
		if err == nil || ctx.Err() != nil {
			return replies, err
		}
	}
	conn, err := d.open(ctx)
	if err != nil {
		return nil, err
	}
	return d.askOn(ctx, conn, queries)
}

// askOn keeps a connection on which all went well: what comes next on another
// could be anything.
func (d *dot) askOn(ctx context.Context, conn *dotConn, queries []*dns.Msg) ([]*dns.Msg, error) {
	replies, err := conn.talk(ctx, queries)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	d.keep(conn)
	return replies, nil
}

func (d *dot) open(ctx context.Context) (*dotConn, error) {
	raw, err := d.dial(ctx, d.addr)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, d.config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close() // why it is of no use is known
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return &dotConn{Conn: dns.Conn{Conn: conn}}, nil
}

func (d *dot) take() *dotConn {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.idle) == 0 {
		return nil
	}
	last := len(d.idle) - 1
	conn := d.idle[last]
	d.idle = d.idle[:last]
	return conn
}

func (d *dot) keep(conn *dotConn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	conn.used = time.Now()
	d.idle = append(d.idle, conn)
	time.AfterFunc(idleTimeout, func() { d.closeUnused(idleTimeout) })
}

func (d *dot) closeIdle() { d.closeUnused(0) }

// closeUnused closes the connections that were not used for so long.
func (d *dot) closeUnused(unused time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.idle = slices.DeleteFunc(d.idle, func(conn *dotConn) bool {
		if time.Since(conn.used) < unused {
			return false
		}
		_ = conn.Close() // it has done its work
		return true
	})
}

// talk sends queries and reads a reply to each, in whatever order, until the
// deadline of ctx.
func (c *dotConn) talk(ctx context.Context, queries []*dns.Msg) ([]*dns.Msg, error) {
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return nil, err
	}
	for _, q := range queries {
		if err := c.WriteMsg(q); err != nil {
			return nil, fmt.Errorf("send query: %w", err)
		}
	}
	replies := make([]*dns.Msg, len(queries))
	for range queries {
		m, err := c.ReadMsg()
		if err != nil {
			return nil, fmt.Errorf("read reply: %w", err)
		}
		i := int(m.Id) - 1
		if i < 0 || i >= len(queries) || replies[i] != nil || !answers(m, queries[i]) {
			return nil, errors.New("read reply: it is to something else")
		}
		replies[i] = m
	}
	return replies, nil
}
