package probe

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/worldcompute/wce2e/node/netcheck"
	"github.com/worldcompute/wce2e/node/traversal/names"
	"github.com/worldcompute/wce2e/node/traversal/web"
)

// nobody is an address of a range for documentation (RFC 5737), at which nobody is.
// Who seems to connect to it is spoken to by something on the way.
const nobody = "192.0.2.1"

// surroundings begins with what belongs to no target.
func (p *prober) surroundings(ctx context.Context, local netcheck.Local) {
	p.inquire(ctx, -1, question{names.IP, knownName}, func(string) {})
	p.work.Go(func() { p.lookForPortal(ctx) })
	servers := p.STUN
	if servers == nil {
		servers = StunServers
	}
	for _, s := range servers {
		p.work.Go(func() { p.askSTUN(ctx, s) })
	}
	dead := []string{p.Dead}
	if p.Dead == "" {
		dead = []string{nobody + ":443", nobody + ":4001"}
	}
	for _, to := range dead {
		p.work.Go(func() { p.connectTo(ctx, to, "dead") })
	}
	if to, ok := publicIPv6(); ok && slices.Contains(local.Routes, "ip6") {
		p.work.Go(func() { p.connectTo(ctx, to, "ip6") })
	}
}

// publicIPv6 is a server on the IPv6 internet.
func publicIPv6() (string, bool) {
	for _, s := range names.Builtin() {
		if s.Addr.Addr().Is6() {
			return s.Addr.String(), true
		}
	}
	return "", false
}

// connectTo makes a TCP connection for its own sake.
func (p *prober) connectTo(ctx context.Context, to, why string) {
	t := p.transaction(netcheck.Record{Target: -1, Proto: why, Addr: to})
	_ = t.step(ctx, netcheck.Connect, p.connect, func(ctx context.Context, _ *netcheck.Record) error {
		c, err := dialTCP(ctx, to, 0)
		if err == nil {
			_ = c.Close() // it stood
		}
		return err
	}) // the record has the error
}

// lookForPortal asks for a page by plain HTTP. That another one came is no failure
// of the request: its status, where it leads and the page itself say so.
func (p *prober) lookForPortal(ctx context.Context) {
	t := p.transaction(netcheck.Record{Target: -1, Proto: "http"})
	portal := names.Portal{Checks: p.Portal}
	if p.System != nil {
		portal.Lookup = p.System.LookupIPAddr
	}
	var state names.State
	_ = t.step(ctx, netcheck.Portal, p.connect+p.layer, func(ctx context.Context, r *netcheck.Record) (err error) {
		state, err = portal.Look(ctx)
		r.Addr, r.Facts.Status, r.Facts.Location = state.URL, state.Status, state.Location
		if state.Captive {
			r.Facts.FirstByte = hex.EncodeToString([]byte(state.Line[:min(len(state.Line), firstBytes)]))
		}
		return err
	}) // the record has the error
	if !state.Date.IsZero() && state.Open {
		p.tellTime(ctx, "http", state.URL, state.Date)
	}
}

// tellTime records by how much this machine is ahead of a server's clock, of which
// we have the second.
func (p *prober) tellTime(ctx context.Context, proto, from string, date time.Time) {
	t := p.transaction(netcheck.Record{Target: -1, Proto: proto, Addr: from})
	_ = t.step(ctx, netcheck.Clock, p.layer, func(_ context.Context, r *netcheck.Record) error {
		ahead := time.Since(date.Add(500 * time.Millisecond)).Seconds()
		r.Facts.Offset = &ahead
		return nil
	})
}

// whereItStood looks further into the ways on which a peer was reached: what they
// carry, how long they may be silent, how many there may be. The NAT is looked at
// meanwhile: earlier, its flows would be in the way of others where few are let through.
func (p *prober) whereItStood(ctx context.Context, local netcheck.Local) {
	p.mu.Lock()
	var ways []way
	for _, t := range carryOrder {
		if w, ok := p.stood[t]; ok {
			ways = append(ways, w)
		}
	}
	p.mu.Unlock()
	var all sync.WaitGroup
	p.loseAll(ctx, ways) // before loads are carried
	all.Go(func() { p.carryAll(ctx, ways) })
	all.Go(func() { p.lookAtNAT(ctx, local) })
	for _, w := range ways {
		for _, d := range p.Silences {
			all.Go(func() { p.keepSilent(ctx, w, d) })
		}
		if w.transport == "wss" && w.by == nil {
			all.Go(func() { p.largeHello(ctx, w) })
			all.Go(func() { p.webClock(ctx, w) })
			all.Go(func() { p.otherName(ctx, w, unknownName) })
		}
	}
	all.Wait()
	if at := slices.IndexFunc(ways, isPlainTCP); at >= 0 {
		p.manyAtOnce(ctx, ways[at])
	}
}

// isPlainTCP tells of a way that is one TCP connection.
func isPlainTCP(w way) bool { return w.transport == "wss" || w.transport == "tcp" }

// Loads are carried in both directions, in bytes: what fills a few packets at once,
// and more than where firewalls cut flows that they do not know.
const (
	fewPackets = 4 << 10
	longFlow   = 64 << 10
)

// loadFor bounds a load that does not stop coming: 64 KiB each way at 64 kbit/s.
const loadFor = 20 * time.Second

// enoughRate is what a few jobs a minute take, in bytes a second. What carries less
// is looked at again: one lost packet makes a short flow slow.
const (
	enoughRate = 128 << 10
	carryTries = 3
)

// carryOrder has those transports first that are cut off the most.
var carryOrder = []string{"wss", "tcp", "quic-v1", "ws", "https", "http", "webtransport"}

// carryFor is when no further load is begun: on a satellite link one takes seconds.
const carryFor = 6 * time.Second

// carryAll carries loads on one way after another: how much one carries is to be seen.
func (p *prober) carryAll(ctx context.Context, ways []way) {
	end := time.Now().Add(carryFor)
	for _, w := range ways {
		if time.Now().Before(end) {
			p.carry(ctx, w, end)
		}
	}
}

// carry sends more and more over one connection.
func (p *prober) carry(ctx context.Context, w way, end time.Time) {
	s := p.again(ctx, w)
	if s == nil {
		return
	}
	defer s.close()
	_, err := p.load(ctx, s, fewPackets)
	for n := 0; err == nil && n < carryTries && time.Now().Before(end); n++ {
		var took time.Duration
		if took, err = p.load(ctx, s, longFlow); longFlow/took.Seconds() > enoughRate {
			return
		}
	}
}

// load sends size bytes there and back.
func (p *prober) load(ctx context.Context, s *session, size int) (took time.Duration, err error) {
	t := s.transactionBy("echo")
	err = t.step(ctx, netcheck.Size, loadFor, func(ctx context.Context, r *netcheck.Record) error {
		r.Facts.Bytes = size
		began := time.Now()
		defer func() { took = time.Since(began) }()
		return s.echo(ctx, size)
	})
	return took, err
}

// again goes a way that stood, without a word about it; nil: it failed this time.
func (p *prober) again(ctx context.Context, w way) *session {
	quiet := p.transactionOf(w)
	quiet.mute = true
	s, _, err := p.reach(ctx, quiet, w)
	if err != nil {
		p.log.Debug("go the same way again", "addr", w.lead, "err", err)
		return nil
	}
	s.traffic = quiet.traffic
	return s
}

// transactionBy is one on a connection that stands, by a protocol.
func (s *session) transactionBy(proto string) *transaction {
	t := s.transactionOf(s.way)
	t.shared.Proto, t.traffic = proto, s.traffic
	return t
}

// settleFor is how long after a handshake the other end may have something to say
// that belongs to it, on a satellite link: session tickets, identify.
const settleFor = 2 * time.Second

// keepSilent makes a connection, says nothing on it for a while, and looks whether
// it is still there. What comes unasked meanwhile is counted: it is what a flow that
// was forgotten on the way does not let in any more.
func (p *prober) keepSilent(ctx context.Context, w way, silence time.Duration) {
	if (w.transport == "quic-v1" || w.transport == "webtransport") && silence >= quicIdle {
		return // QUIC itself would end it
	}
	s := p.again(ctx, w)
	if s == nil {
		return
	}
	defer s.close()
	t := s.transactionBy("ping")
	_ = t.step(ctx, netcheck.Keepalive, silence+p.layer, func(ctx context.Context, r *netcheck.Record) error {
		settled := min(settleFor, silence/2)
		pause(ctx, settled)
		_, before := t.soFar()
		pause(ctx, silence-settled)
		_, after := t.soFar()
		r.Facts.Silence, r.Facts.Arrived = silence.Seconds(), after-before
		return s.echo(ctx, 1)
	}) // the record has the error
}

// largeHello shakes hands with a ClientHello that takes two packets, and then with
// the same one in small segments.
func (p *prober) largeHello(ctx context.Context, w way) {
	e, err := web.ParseEndpoint(w.lead.addr)
	if err != nil {
		return
	}
	for _, segment := range []int{0, smallSegment} {
		t := p.transactionOf(w)
		t.shared.Proto = "tls"
		err := t.step(ctx, netcheck.Size, p.layer, func(ctx context.Context, r *netcheck.Record) error {
			sent, err := p.hello(ctx, t, w, helloTo(e.ServerName, []string{"http/1.1"}, tls.X25519MLKEM768, tls.X25519), segment)
			r.Facts.Segment, r.Facts.Bytes = segment, int(sent)
			return err
		})
		if err == nil {
			return // and so will small ones
		}
	}
}

// webClock asks the web server at a relay's address what the time is.
func (p *prober) webClock(ctx context.Context, w way) {
	e, err := web.ParseEndpoint(w.lead.addr)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, p.layer)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: helloTo(e.ServerName, nil, tls.X25519, tls.CurveP256),
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dialTCP(ctx, e.HostPort, 0) }}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, "https://"+e.HostPort+"/", nil)
	if err != nil {
		return
	}
	req.Header.Set("User-Agent", web.DefaultUserAgent)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return // the ladder has shown what there is to show
	}
	_ = resp.Body.Close()
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		p.tellTime(ctx, "https", e.HostPort, date)
	}
}

// manyFlows is more than routers that count them let through, and few enough not to
// be taken for a scan.
const manyFlows = 16

// manyAtOnce opens connections to one address and keeps all of them until the last
// one has been tried.
func (p *prober) manyAtOnce(ctx context.Context, w way) {
	t := p.transactionOf(w)
	t.shared.Proto = "tcp"
	_ = t.step(ctx, netcheck.Flows, p.connect, func(ctx context.Context, r *netcheck.Record) error {
		conns, errs := make([]net.Conn, manyFlows), make([]error, manyFlows)
		var all sync.WaitGroup
		for i := range conns {
			all.Go(func() {
				if w.by != nil {
					conns[i], errs[i] = p.Proxies.DialThrough(ctx, *w.by, hostport(w.lead.addr))
					return
				}
				conns[i], errs[i] = dialTCP(ctx, hostport(w.lead.addr), 0)
			})
		}
		all.Wait()
		r.Facts.Tried = manyFlows
		for _, c := range conns {
			if c != nil {
				r.Facts.Stood++
				_ = c.Close() // it stood
			}
		}
		for _, err := range errs {
			if err != nil {
				return fmt.Errorf("%d of %d: %w", r.Facts.Stood, manyFlows, err)
			}
		}
		return nil
	}) // the record has the error
}
