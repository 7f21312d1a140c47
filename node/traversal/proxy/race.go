package proxy

import (
	"context"
	"net"
	"time"
)

// stagger is how far one way is ahead of the next, as RFC 8305 has it for
// addresses: most proxies answer within it, and a person does not notice it.
const stagger = 250 * time.Millisecond

// lastAfter is how long the others have in which to stand or fail before what
// comes last is tried beside them. Where every packet but the proxy's is dropped,
// the direct way takes connectTimeout to fail, which is all that a dial of web
// traffic has; what is left is enough for TLS and the upgrade.
const lastAfter = 2 * time.Second

// attempt is one way to try.
type attempt struct {
	route string // the proxy's URL; empty: none
	late  bool   // the route is not known yet
	last  bool   // when every other way has failed, or had lastAfter
	dial  func(context.Context) (net.Conn, string, error)
}

type result struct {
	conn  net.Conn
	route string
	err   error
}

// race tries the ways, each a moment after the one before it or as soon as one
// has failed. The first connection wins; others are given up, and closed. It
// returns a connection, or how each way failed.
func race(ctx context.Context, attempts []attempt) (net.Conn, string, []error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results, over := make(chan result), make(chan struct{})
	defer close(over)
	begin := func(a attempt) {
		conn, route, err := a.dial(ctx)
		select {
		case results <- result{conn, route, err}:
		case <-over:
			if err == nil {
				_ = conn.Close()
			}
		}
	}
	next, running, began := 0, 0, time.Now()
	var errs []error
	timer := time.NewTimer(0)
	defer timer.Stop()
	for running > 0 || next < len(attempts) && ctx.Err() == nil {
		select {
		case <-timer.C:
			if next == len(attempts) || ctx.Err() != nil {
				continue // the result of another one wakes us
			}
			if left := lastAfter - time.Since(began); attempts[next].last && running > 0 && left > 0 {
				timer.Reset(left)
				continue
			}
			running++
			go begin(attempts[next])
			next++
			timer.Reset(stagger)
		case r := <-results:
			if r.err == nil {
				return r.conn, r.route, nil
			}
			running--
			errs = append(errs, r.err)
			timer.Reset(0)
		}
	}
	if len(errs) == 0 && ctx.Err() != nil {
		errs = append(errs, ctx.Err())
	}
	return nil, "", errs
}
