package probe

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/worldcompute/wce2e/node/netcheck"
)

// How loss is measured: two STUN servers are asked so often each. Of that, one packet in
// fifty lost each way leaves fewer than two unanswered in 9 of 100 looks; and at this
// pace they queue up nowhere. Relays are not asked: a busy one leaves datagrams of
// versions that it does not know unanswered, as many as these in a hundred.
const (
	lossTries = 50
	lossPace  = 80 * time.Millisecond
	lossAfter = 1500 * time.Millisecond // how long the last answer is waited for
)

// loseAll counts losses where UDP gets out, and on a TCP connection.
func (p *prober) loseAll(ctx context.Context, ways []way) {
	var all sync.WaitGroup
	servers := p.differentServers()
	for _, s := range servers[:min(len(servers), 2)] {
		all.Go(func() { p.lose(ctx, s) })
	}
	if at := slices.IndexFunc(ways, isPlainTCP); at >= 0 {
		all.Go(func() { p.delay(ctx, ways[at]) })
	}
	all.Wait()
}

// lose counts how many datagrams come back from a server that is known to answer. Loss
// is no failure of the operation: it is what it measures.
func (p *prober) lose(ctx context.Context, server netip.AddrPort) {
	t := p.transaction(netcheck.Record{Target: -1, Proto: "stun", Addr: server.String()})
	_ = t.step(ctx, netcheck.Loss, lossTries*lossPace+2*lossAfter, func(ctx context.Context, r *netcheck.Record) error {
		conn, err := new(net.Dialer).DialContext(ctx, "udp", r.Addr)
		if err != nil {
			return err
		}
		defer conn.Close()
		c := &counted{Conn: conn}
		t.traffic = c.traffic
		questions := make([]*binding, lossTries)
		for i := range questions {
			if questions[i], err = newBinding(); err != nil {
				return err
			}
		}
		if err := conn.SetReadDeadline(time.Now().Add(lossTries*lossPace + lossAfter)); err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
		sent := make(chan int)
		go func() { sent <- sendPaced(ctx, c, questions) }()
		r.Facts.Stood = countAnswers(c, questions)
		r.Facts.Tried = <-sent
		return ctx.Err()
	}) // the record has the error
}

// sendPaced asks one question after another, and returns how many it could.
func sendPaced(ctx context.Context, c net.Conn, questions []*binding) (sent int) {
	for _, q := range questions {
		if _, err := c.Write(q.Raw); err == nil {
			sent++
		}
		if pause(ctx, lossPace); ctx.Err() != nil {
			return sent
		}
	}
	return sent
}

// countAnswers reads until all questions are answered or the deadline has come.
func countAnswers(c net.Conn, questions []*binding) (answered int) {
	in, seen := make([]byte, 2048), make([]bool, len(questions))
	for answered < len(questions) {
		n, err := c.Read(in)
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			return answered
		}
		if err != nil {
			continue // an ICMP error about one of them, say
		}
		for i, q := range questions {
			if _, other := q.seen(in[:n]); other == nil && !seen[i] {
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
	t := s.transactionBy("ping")
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
