package probe

import (
	"context"
	"crypto/rand"
	"net"
	"slices"
	"time"

	"github.com/worldcompute/wce2e/node/netcheck"
)

// How loss is measured: of so many datagrams, one in fifty lost each way leaves fewer
// than two unanswered in 9 of 100 looks; and at this pace (240 kbit/s) they queue up
// on no line that is worth having.
const (
	lossTries = 100
	lossPace  = 40 * time.Millisecond
	lossAfter = 1500 * time.Millisecond // how long the last answer is waited for
)

// lose counts how many datagrams come back from where QUIC stands. Loss is no
// failure of the operation: it is what it measures.
func (p *prober) lose(ctx context.Context, w way) {
	t := p.transactionOf(w)
	t.shared.Proto = "quic-version"
	_ = t.step(ctx, netcheck.Loss, lossTries*lossPace+2*lossAfter, func(ctx context.Context, r *netcheck.Record) error {
		conn, err := new(net.Dialer).DialContext(ctx, "udp", r.Addr)
		if err != nil {
			return err
		}
		defer conn.Close()
		c := &counted{Conn: conn}
		t.traffic = c.traffic
		ids := make([][]byte, lossTries)
		for i := range ids {
			ids[i] = make([]byte, 8)
			rand.Read(ids[i]) // never fails
		}
		if err := conn.SetReadDeadline(time.Now().Add(lossTries*lossPace + lossAfter)); err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
		sent := make(chan int)
		go func() { sent <- sendPaced(ctx, c, ids) }()
		r.Facts.Stood = countAnswers(c, ids)
		r.Facts.Tried = <-sent
		return ctx.Err()
	}) // the record has the error
}

// sendPaced sends a datagram for each id, and returns how many it could.
func sendPaced(ctx context.Context, c net.Conn, ids [][]byte) (sent int) {
	for _, id := range ids {
		if _, err := c.Write(versionProbe(id, leastInitial)); err == nil {
			sent++
		}
		if pause(ctx, lossPace); ctx.Err() != nil {
			return sent
		}
	}
	return sent
}

// countAnswers reads until all datagrams are answered or the deadline has come.
func countAnswers(c net.Conn, ids [][]byte) (answered int) {
	in, seen := make([]byte, 2048), make([]bool, len(ids))
	for answered < len(ids) {
		n, err := c.Read(in)
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			return answered
		}
		if err != nil {
			continue // an ICMP error about one of them, say
		}
		for i, id := range ids {
			if !seen[i] && isNegotiation(in[:n], id) {
				seen[i] = true
				answered++
			}
		}
	}
	return answered
}

// How loss is seen on TCP, which hides it: what is lost is sent again after 200 ms at
// the earliest (Linux's least retransmission timeout), so an answer is that late.
const (
	delayTries = 40
	delayFor   = 3 * time.Second
	delayLate  = 180 * time.Millisecond
)

// delay counts how many small messages are answered at once, one after another, on one
// TCP connection.
func (p *prober) delay(ctx context.Context, w way) {
	s := p.again(ctx, w)
	if s == nil {
		return
	}
	defer s.close()
	t := p.transactionOf(w)
	t.shared.Proto, t.traffic = "ping", s.traffic
	_ = t.step(ctx, netcheck.Loss, delayFor+p.layer, func(ctx context.Context, r *netcheck.Record) error {
		took, err := s.pings(ctx, delayTries, delayFor)
		if len(took) > 0 {
			usual := slices.Sorted(slices.Values(took))[len(took)/2]
			late := slices.DeleteFunc(slices.Clone(took), func(d time.Duration) bool { return d < usual+delayLate })
			r.Facts.Tried, r.Facts.Stood = len(took), len(took)-len(late)
		}
		return err
	}) // the record has the error
}
