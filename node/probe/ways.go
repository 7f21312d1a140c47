package probe

import (
	"cmp"
	"context"
	"math/rand/v2"
	"net"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"

	"github.com/worldcompute/wce2e/node/netcheck"
	"github.com/worldcompute/wce2e/node/traversal"
	"github.com/worldcompute/wce2e/node/traversal/proxy"
)

// way is one way to one lead.
type way struct {
	target    int
	lead      lead
	transport string       // as wire.TransportOf names it
	by        *proxy.Proxy // nil: directly
	security  protocol.ID  // where there is a choice
	segment   int          // largest TCP segment, in bytes; 0: the system's choice
}

// route is the proxy's URL; empty: none.
func (w way) route() string {
	if w.by == nil {
		return ""
	}
	return w.by.URL
}

// found begins all ways to a lead, unless they have been begun for another target.
func (p *prober) found(ctx context.Context, target int, l lead) {
	p.mu.Lock()
	leads := &p.targets[target].Leads
	if len(*leads) >= maxLeads || slices.Contains(*leads, l.String()) {
		p.mu.Unlock()
		return
	}
	if !isName(l.addr) {
		*leads = append(*leads, l.String())
	}
	begun := p.leads[l.String()]
	p.leads[l.String()] = true
	p.mu.Unlock()
	if begun {
		return
	}
	for _, w := range p.directWays(target, l) {
		p.work.Go(func() { p.try(ctx, w) })
		if !byTCP(l) {
			p.pokeUDP(ctx, w)
		}
	}
	if byTCP(l) {
		p.work.Go(func() { p.tryProxies(ctx, target, l) })
	}
}

// directWays are those without a proxy.
func (p *prober) directWays(target int, l lead) []way {
	w := way{target: target, lead: l, transport: traversal.TransportName(l.addr), security: noise.ID}
	switch {
	case isName(l.addr):
		return nil
	case w.transport == "tcp" && w.routed(): // the daemon offers Noise first; a network may look for TLS
		other := w
		other.security = libp2ptls.ID
		return []way{w, other}
	}
	return []way{w}
}

// hasRoute is why the system would not send packets to an address, without sending
// any. QUIC would call it an internal error.
func hasRoute(hostport string) error {
	c, err := net.Dial("udp", hostport)
	if err != nil {
		return err
	}
	return c.Close()
}

// routed tells whether it would. Where not, one try says so.
func (w way) routed() bool { return w.by != nil || hasRoute(hostport(w.lead.addr)) == nil }

func byTCP(l lead) bool {
	switch traversal.TransportName(l.addr) {
	case "tcp", "ws", "wss", "http", "https":
		return true
	}
	return false
}

func (p *prober) tryProxies(ctx context.Context, target int, l lead) {
	asking, cancel := context.WithTimeout(ctx, announceFor)
	defer cancel()
	to := hostport(l.addr)
	for _, by := range p.Proxies.Proxies(asking, to) {
		w := way{target: target, lead: l, transport: traversal.TransportName(l.addr), by: &by, security: noise.ID}
		p.work.Go(func() { p.try(ctx, w) })
	}
}

// announcedProxies are those that the machine was told of, for the web.
func (p *prober) announcedProxies(ctx context.Context) []netcheck.Proxy {
	ctx, cancel := context.WithTimeout(ctx, announceFor)
	defer cancel()
	out := []netcheck.Proxy{}
	for _, by := range p.Proxies.Proxies(ctx, knownName+":443") {
		source := "environment"
		if by.Script {
			source = "pac"
		}
		out = append(out, netcheck.Proxy{URL: by.URL, Source: source, Credentials: by.Credentials})
	}
	return out
}

// againAfter spreads the repetitions of ways that failed together.
const againAfter = 150 * time.Millisecond

// try goes a way when it is its turn, and again when it fails at once: a reset or
// an end may be chance, silence was waited for.
func (p *prober) try(ctx context.Context, w way) {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return
	}
	turn, tries := time.Now(), p.tries
	if !w.routed() {
		tries = 1
	}
	for n := 1; ; n++ {
		failed := p.climb(ctx, w)
		if n == tries || !failed || time.Since(turn) > p.layer || ctx.Err() != nil {
			return
		}
		pause(ctx, againAfter+rand.N(againAfter))
	}
}

// byChance are the layers that may fail once: what a proxy or a web server says, it
// says again, and QUIC has tried for long enough by itself.
var byChance = []netcheck.Operation{netcheck.Connect, netcheck.TLS, netcheck.Multistream, netcheck.Security, netcheck.Muxer}

// climb makes one connection and takes it up as far as it goes, and tells whether
// it failed in a way that chance may be the reason for.
func (p *prober) climb(ctx context.Context, w way) (retry bool) {
	t := p.transactionOf(w)
	s, failed, _ := p.reach(ctx, t, w) // the record has the error
	if s == nil {
		return slices.Contains(byChance, failed)
	}
	defer s.close()
	if retry := s.talk(ctx, t); retry {
		return true
	}
	p.stands(ctx, w)
	return false
}

// transactionOf is a new one of a way.
func (p *prober) transactionOf(w way) *transaction {
	return p.transaction(netcheck.Record{Target: w.target, Lead: w.lead.String(), Transport: w.transport, Addr: hostport(w.lead.addr)})
}

// reach makes a connection to the peer of a way; failed is the layer that did not
// let it.
func (p *prober) reach(ctx context.Context, t *transaction, w way) (s *session, failed netcheck.Operation, err error) {
	switch w.transport {
	case "quic-v1":
		return p.reachQUIC(ctx, t, w)
	case "webtransport":
		return p.reachWebTransport(ctx, t, w)
	}
	return p.reachTCP(ctx, t, w)
}

// stands remembers of each transport one way on which a peer was talked to: the first in
// the list's order, whichever was quickest. So hosts of different networks look further
// into the same one, and can be compared.
func (p *prober) stands(ctx context.Context, w way) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if other, known := p.stood[w.transport]; known && !w.before(other) {
		return
	}
	p.stood[w.transport] = w
	if w.transport == "quic-v1" {
		p.work.Go(func() { p.negotiate(ctx, w, hostport(w.lead.addr), fullDatagram) })
	}
}

// before is the order in which ways are looked into further: those that stand without
// small segments and without a proxy, by the IP version that most hosts have, and then as
// the list has them.
func (w way) before(other way) bool {
	version := func(w way) string { return w.lead.addr[0].Protocol().Name }
	return cmp.Or(cmp.Compare(w.segment, other.segment), cmp.Compare(w.route(), other.route()), cmp.Compare(version(w), version(other)),
		cmp.Compare(w.target, other.target), cmp.Compare(w.lead.String(), other.lead.String()), cmp.Compare(w.security, other.security)) < 0
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
