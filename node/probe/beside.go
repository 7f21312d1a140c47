package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/netcheck"
	"github.com/worldcompute/wce2e/node/traversal"
	"github.com/worldcompute/wce2e/node/traversal/web"
)

// smallSegment is a TCP segment, in bytes, that fits a path of 1280 with headers and
// a tunnel's to spare: what the daemon falls back to.
const smallSegment = 1200

// watched is a step of a way. Where it fails, or is silent for a while, it is looked
// beside it what that may mean; unless the way is such a look itself.
func (p *prober) watched(ctx context.Context, t *transaction, w way, op netcheck.Operation, within time.Duration, do func(context.Context, *netcheck.Record) error) error {
	if t.mute {
		return t.step(ctx, op, within, do)
	}
	var stood atomic.Bool // after all
	explain := func() {
		defer p.work.Done()
		p.explain(ctx, w, op, &stood)
	}
	p.work.Add(1)
	timer := time.AfterFunc(p.suspect, explain)
	err := t.step(ctx, op, within, do)
	stood.Store(err == nil)
	switch {
	case !timer.Stop(): // it explains already
	case err != nil && ctx.Err() == nil:
		go explain()
	default:
		p.work.Done()
	}
	return err
}

// explain looks, once for each IP, port and layer, at what a failure may mean.
func (p *prober) explain(ctx context.Context, w way, op netcheck.Operation, stood *atomic.Bool) {
	what := fmt.Sprint(op, w.route(), hostport(w.lead.addr))
	if op == netcheck.Security {
		what += string(w.security)
	}
	if ctx.Err() != nil || !p.news(what) || !w.routed() {
		return
	}
	var looks []func()
	add := func(look func()) { looks = append(looks, look) }
	switch op {
	case netcheck.TLS:
		add(func() { p.narrow(ctx, w, op, stood) })
		add(func() { p.otherName(ctx, w, harmlessName) })
	case netcheck.Upgrade:
		add(func() { p.tunnel(ctx, w) })
	case netcheck.Multistream:
		add(func() { p.harmless(ctx, w) })
	case netcheck.Security, netcheck.Muxer, netcheck.Identify:
		if w.transport != "quic-v1" && w.transport != "webtransport" {
			add(func() { p.narrow(ctx, w, op, stood) })
		}
	case netcheck.QUIC:
		add(func() { p.negotiate(ctx, w, hostport(w.lead.addr), usualInitial) })
		add(func() { p.negotiate(ctx, w, hostport(w.lead.addr), fullDatagram) })
	}
	var all sync.WaitGroup
	for _, look := range looks {
		all.Go(look)
	}
	all.Wait()
}

// news tells whether something is said for the first time.
func (p *prober) news(what string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.said[what]
	p.said[what] = true
	return !known
}

// narrow goes the same way in small segments, as the daemon does: to a reservation,
// unless op stood in large ones after all.
func (p *prober) narrow(ctx context.Context, w way, op netcheck.Operation, stood *atomic.Bool) {
	if w.by != nil {
		return // how large the proxy's segments are is not ours to say
	}
	w.segment = smallSegment
	t := p.transactionOf(w)
	quiet := p.transactionOf(w)
	quiet.mute = true
	t.shared.Proto = string(op)
	_ = t.step(ctx, netcheck.Size, p.connect+p.layer, func(ctx context.Context, r *netcheck.Record) error {
		r.Facts.Segment = smallSegment
		s, _, err := p.reach(ctx, quiet, w)
		if s != nil {
			defer s.close()
			if err = s.reserveNarrow(ctx, r, op, stood); err == nil && r.Facts.Expires != nil {
				p.stands(ctx, w)
			}
		}
		r.Sent, r.Received = quiet.soFar()
		r.Facts.Bytes = int(r.Sent)
		return err
	}) // the record has the error
}

// reserveNarrow asks for a reservation. That none is granted is no failure of what
// was tried.
func (s *session) reserveNarrow(ctx context.Context, r *netcheck.Record, op netcheck.Operation, stood *atomic.Bool) error {
	speaks, err := s.identify(ctx, new(netcheck.Record))
	if err != nil {
		if op != netcheck.Identify {
			err = nil
		}
		return err
	}
	if stood.Load() {
		return nil
	}
	if err := s.reserve(ctx, r, speaks); err != nil {
		s.prober.log.Debug("reserve in small segments", "addr", s.way.lead, "err", err)
	}
	return nil
}

// harmless is what a web browser would send, to an address at which libp2p failed.
// Whoever listens there does not want it, and says so or hangs up. Where nothing comes
// back, all that is spoken there may be stopped; or libp2p after all, since a peer's first
// words are libp2p's, whatever it is sent.
func (p *prober) harmless(ctx context.Context, w way) {
	if w.transport != "tcp" || w.by != nil {
		return
	}
	t := p.transactionOf(w)
	t.shared.Proto = "http"
	_ = t.step(ctx, netcheck.Harmless, p.layer, func(ctx context.Context, r *netcheck.Record) error {
		raw, err := dialTCP(ctx, hostport(w.lead.addr), 0)
		if err != nil {
			return err
		}
		defer raw.Close()
		c := &counted{Conn: raw}
		t.traffic = c.traffic
		err = within(ctx, c, func() error { return browse(c, r.Addr) })
		r.Facts.FirstByte = c.came()
		return err
	}) // the record has the error
}

// browse asks for a page and takes anything for an answer, an orderly end as well.
func browse(c net.Conn, host string) error {
	if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nConnection: close\r\n\r\n", host, web.DefaultUserAgent); err != nil {
		return err
	}
	n, err := c.Read(make([]byte, firstBytes))
	if n > 0 || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// Names that stand in a hello to a relay. Networks that let TLS through to some names
// only permit the first, since their machines are kept up to date from there, and
// have never heard of the second.
const (
	harmlessName = "www.microsoft.com"
	unknownName  = "relay.worldcompute.org"
)

// otherName is TLS to the same address, with another name in it than the relay's.
func (p *prober) otherName(ctx context.Context, w way, name string) {
	if w.by != nil {
		return
	}
	t := p.transactionOf(w)
	t.shared.Proto = "tls"
	_ = t.step(ctx, netcheck.Harmless, p.layer, func(ctx context.Context, r *netcheck.Record) error {
		r.Facts.Question = name
		_, err := p.hello(ctx, t, w, helloTo(name, []string{"http/1.1"}, tls.X25519, tls.CurveP256), 0)
		return err
	}) // the record has the error
}

// hello shakes hands by TLS and hangs up.
func (p *prober) hello(ctx context.Context, t *transaction, w way, config *tls.Config, segment int) (sent int64, err error) {
	raw, err := dialTCP(ctx, hostport(w.lead.addr), segment)
	if err != nil {
		return 0, err
	}
	defer raw.Close()
	c := &counted{Conn: raw}
	t.traffic = c.traffic
	err = tls.Client(c, config).HandshakeContext(ctx)
	sent, _ = c.traffic()
	return sent, err
}

// tunnel tries ordinary requests where nothing may become WebSocket.
func (p *prober) tunnel(ctx context.Context, w way) {
	rest, last := ma.SplitLast(w.lead.addr)
	if last == nil || !isWeb(w.lead.addr) {
		return
	}
	if last.Code() == ma.P_WSS {
		rest = slices.Concat(rest, ma.StringCast("/tls"))
	}
	w.lead.addr = slices.Concat(rest, ma.StringCast("/http"))
	w.transport = traversal.TransportName(w.lead.addr)
	p.try(ctx, w)
}
