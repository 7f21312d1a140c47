package probe

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/netcheck"
	"github.com/worldcompute/wce2e/node/traversal"
	"github.com/worldcompute/wce2e/node/traversal/names"
)

const (
	// maxDepth bounds how often a /dnsaddr may lead to another one, maxLeads what one
	// hostile or mistaken name can make us dial.
	maxDepth = 4
	maxLeads = 32
	// knownName is asked for even where no target has a name, so that there is one to
	// compare with what others are told.
	knownName = "dns.google"
)

// asker is one way to ask a resolver.
type asker struct {
	proto string // as in records
	addr  string // IP:port; of the system's: what it was told, or nothing
	ask   func(ctx context.Context, name string, kind names.Type) ([]string, error)
	close func()
}

// publicPlain is asked in the clear: networks that let no DNS out but to their own
// server, or that answer in its place, show by it.
var publicPlain = netip.MustParseAddrPort("8.8.8.8:53")

// findAskers are the system's resolver, and each server by itself.
func (p *prober) findAskers(told []string) []asker {
	servers := p.Servers
	if servers == nil {
		servers = plainServers(told)
		want := map[names.Protocol]int{names.DoH: 2, names.DoT: 1}
		for _, s := range names.Builtin() {
			if want[s.Protocol]--; want[s.Protocol] >= 0 {
				servers = append(servers, s)
			}
		}
	}
	out := []asker{{"system", strings.Join(told, " "), p.resolver.AskSystem, func() {}}}
	for _, s := range servers {
		c := names.NewClient(s, p.resolver)
		out = append(out, asker{string(s.Protocol), s.Addr.String(), c.Ask, c.Close})
	}
	return out
}

// plainServers are the network's own, two at most, and a public one.
func plainServers(told []string) []names.Server {
	const dnsPort = 53
	var at []netip.AddrPort
	for _, text := range told[:min(len(told), 2)] {
		if a, err := netip.ParseAddr(text); err == nil {
			at = append(at, netip.AddrPortFrom(a, dnsPort))
		}
	}
	if !slices.Contains(at, publicPlain) {
		at = append(at, publicPlain)
	}
	var out []names.Server
	for _, a := range at {
		out = append(out, names.Server{Protocol: names.UDP, Addr: a}, names.Server{Protocol: names.TCP, Addr: a})
	}
	return out
}

// dialAnyhow connects as the daemon does to a DNS server: directly or by a proxy.
func (p *prober) dialAnyhow(ctx context.Context, hostport string) (net.Conn, error) {
	c, _, err := p.Proxies.Dial(ctx, hostport)
	return c, err
}

// question is what is asked about a name.
type question struct {
	kind names.Type
	name string
}

func (q question) String() string { return string(q.kind) + " " + q.name }

// inquiry is a question that is put to all askers, once, on behalf of whoever wants
// the answers.
type inquiry struct {
	mu     sync.Mutex // guards the fields below
	values []string
	wanted []func(string)
}

// inquire hands every different answer to want, as soon as anybody gives it. The
// records are those of the target that asked first.
func (p *prober) inquire(ctx context.Context, target int, q question, want func(string)) {
	p.mu.Lock()
	in, asked := p.inquiries[q]
	if !asked {
		in = new(inquiry)
		p.inquiries[q] = in
	}
	p.mu.Unlock()
	for _, v := range in.subscribe(want) {
		want(v)
	}
	if asked {
		return
	}
	for _, a := range p.askers {
		p.work.Go(func() {
			for _, v := range p.ask(ctx, target, a, q) {
				in.publish(v)
			}
		})
	}
}

func (in *inquiry) subscribe(want func(string)) []string {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.wanted = append(in.wanted, want)
	return slices.Clone(in.values)
}

func (in *inquiry) publish(v string) {
	in.mu.Lock()
	if slices.Contains(in.values, v) {
		in.mu.Unlock()
		return
	}
	in.values = append(in.values, v)
	wanted := slices.Clone(in.wanted)
	in.mu.Unlock()
	for _, want := range wanted {
		want(v)
	}
}

// ask puts one question to one resolver.
func (p *prober) ask(ctx context.Context, target int, a asker, q question) []string {
	t := p.transaction(netcheck.Record{Target: target, Proto: a.proto, Addr: a.addr, Facts: netcheck.Facts{Question: q.String()}})
	var values []string
	_ = t.step(ctx, netcheck.Resolve, p.question, func(ctx context.Context, r *netcheck.Record) (err error) {
		values, err = a.ask(ctx, q.name, q.kind)
		if err == nil && len(values) == 0 {
			err = netcheck.ErrNoAnswer
		}
		slices.Sort(values)
		for _, v := range values[:min(len(values), maxLeads)] {
			r.Facts.Answers = append(r.Facts.Answers, scrub(v))
		}
		return err
	}) // the record has the error
	return values
}

// lead is an address that can be dialled. There is a name in it only where proxies
// are to look it up.
type lead struct {
	addr ma.Multiaddr // without /p2p
	peer peer.ID      // empty: whoever answers
}

func (l lead) String() string {
	if l.peer == "" {
		return l.addr.String()
	}
	return l.addr.String() + "/p2p/" + l.peer.String()
}

func isName(a ma.Multiaddr) bool { return nameIn(a) >= 0 }

// nameIn is the place of the component of a that is about a name; -1: none is.
func nameIn(a ma.Multiaddr) int {
	return slices.IndexFunc(a, func(c ma.Component) bool {
		switch c.Code() {
		case ma.P_DNSADDR, ma.P_DNS, ma.P_DNS4, ma.P_DNS6:
			return true
		}
		return false
	})
}

// target begins with an address of the list.
func (p *prober) target(ctx context.Context, index int, a ma.Multiaddr) {
	_, id := peer.SplitAddr(a)
	p.mu.Lock()
	p.targets = append(p.targets, netcheck.Target{Addr: a.String(), Peer: id.String(), Leads: []string{}})
	p.mu.Unlock()
	p.follow(ctx, index, a, id, maxDepth)
}

// follow goes from an address to what can be dialled. who: only that peer's
// addresses are wanted, unless it is empty.
func (p *prober) follow(ctx context.Context, target int, a ma.Multiaddr, who peer.ID, depth int) {
	addr, id := peer.SplitAddr(a)
	i := nameIn(addr)
	switch {
	case who != "" && id != "" && who != id, depth < 0:
		return
	case i < 0:
		p.found(ctx, target, lead{addr, id})
	case !p.news(fmt.Sprint("follow ", target, addr)):
		return // names may lead to each other in circles
	case addr[i].Code() == ma.P_DNSADDR:
		p.inquire(ctx, target, question{names.TXT, "_dnsaddr." + addr[i].Value()}, func(text string) {
			rest, is := strings.CutPrefix(text, "dnsaddr=")
			if next, err := ma.NewMultiaddr(rest); is && err == nil {
				p.follow(ctx, target, next, who, depth-1)
			}
		})
	default:
		if isWeb(addr) {
			p.found(ctx, target, lead{addr, id}) // for proxies
		}
		p.inquire(ctx, target, question{names.IP, addr[i].Value()}, func(ip string) {
			if with, ok := withIP(addr, i, ip); ok {
				p.found(ctx, target, lead{with, id})
			}
		})
	}
}

func isWeb(a ma.Multiaddr) bool {
	t := traversal.TransportName(a)
	return t == "ws" || t == "wss"
}

// withIP puts an IP in the place of the name, which stays the one to ask for in TLS.
func withIP(a ma.Multiaddr, i int, text string) (ma.Multiaddr, bool) {
	ip, err := netip.ParseAddr(text)
	if err != nil || a[i].Code() == ma.P_DNS4 && !ip.Is4() || a[i].Code() == ma.P_DNS6 && ip.Is4() {
		return nil, false
	}
	family := "ip6"
	if ip.Is4() {
		family = "ip4"
	}
	c, err := ma.NewComponent(family, ip.String())
	if err != nil {
		return nil, false
	}
	out := slices.Clone(a)
	name := out[i].Value()
	out[i] = *c
	return withServerName(out, name), true
}

// withServerName writes /wss and /tls/ws as /tls/sni/NAME/ws.
func withServerName(a ma.Multiaddr, name string) ma.Multiaddr {
	has := func(code int) bool {
		return slices.ContainsFunc(a, func(c ma.Component) bool { return c.Code() == code })
	}
	if traversal.TransportName(a) != "wss" || has(ma.P_SNI) {
		return a
	}
	var out ma.Multiaddr
	for _, c := range a {
		switch c.Code() {
		case ma.P_WSS:
			out = append(out, ma.StringCast("/tls/sni/"+name+"/ws")...)
		case ma.P_TLS:
			out = append(out, ma.StringCast("/tls/sni/"+name)...)
		default:
			out = append(out, c)
		}
	}
	return out
}
