//go:build linux

package lab

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// dnsTTL is short, in seconds: a lab's names may change while it runs.
const dnsTTL = 60

// zone is the lab's own DNS: hosts with public addresses, the bystanders as
// _dnsaddr.bootstrap and each as _dnsaddr.<its name>, and the few public services that this internet has. Every
// other name is answered at once, with "no such name".
type zone struct {
	origin string // fully qualified, lower case

	mu      sync.RWMutex // guards the field below
	records map[string][]dns.RR
}

func newZone(p plan) *zone {
	z := &zone{origin: dns.Fqdn(p.Zone), records: map[string][]dns.RR{}}
	z.records[z.origin] = nil
	for _, last := range []byte{170, 171} {
		z.addName(ipv4Only, netip.AddrFrom4([4]byte{192, 0, 0, last}))
	}
	for _, m := range p.Machines {
		if m.Site < 0 {
			z.addA(m.Name, m.Addr.Addr())
			z.addAAAA(m.Name, m.Addr6.Addr())
		}
	}
	return z
}

func (z *zone) addA(host string, addr netip.Addr) {
	z.addName(host+"."+z.origin, addr)
}

// ipv4Only is a name without IPv6 addresses, so that hosts learn what a resolver
// makes of that (RFC 7050).
const ipv4Only = "ipv4only.arpa"

// addName adds a name that need not be below the zone's origin.
func (z *zone) addName(name string, addr netip.Addr) {
	if addr.Is6() {
		z.add(&dns.AAAA{Hdr: header(dns.CanonicalName(name), dns.TypeAAAA), AAAA: addr.AsSlice()})
		return
	}
	z.add(&dns.A{Hdr: header(dns.CanonicalName(name), dns.TypeA), A: addr.AsSlice()})
}

// addAAAA does nothing for an invalid address: without IPv6.
func (z *zone) addAAAA(host string, addr netip.Addr) {
	if addr.IsValid() {
		z.addName(host+"."+z.origin, addr)
	}
}

// addDNSAddr publishes a multiaddr below _dnsaddr.<name>.<zone>, as /dnsaddr
// addresses are resolved.
func (z *zone) addDNSAddr(name, multiaddr string) {
	z.add(&dns.TXT{Hdr: header("_dnsaddr."+name+"."+z.origin, dns.TypeTXT), Txt: []string{"dnsaddr=" + multiaddr}})
}

func (z *zone) add(rr dns.RR) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.records[rr.Header().Name] = append(z.records[rr.Header().Name], rr)
}

func header(name string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: dnsTTL}
}

// lookup is the first address of a name.
func (z *zone) lookup(name string) (netip.Addr, bool) {
	z.mu.RLock()
	defer z.mu.RUnlock()
	for _, rr := range z.records[dns.CanonicalName(name)] {
		if a, ok := rr.(*dns.A); ok {
			return netip.AddrFromSlice(a.A.To4())
		}
	}
	return netip.Addr{}, false
}

func (z *zone) has(name string) bool {
	z.mu.RLock()
	defer z.mu.RUnlock()
	_, ok := z.records[dns.CanonicalName(name)]
	return ok
}

func (z *zone) answer(a *dns.Msg, q dns.Question) {
	name := strings.ToLower(q.Name)
	z.mu.RLock()
	defer z.mu.RUnlock()
	records, exists := z.records[name]
	for _, rr := range records {
		if q.Qtype == rr.Header().Rrtype || q.Qtype == dns.TypeANY {
			a.Answer = append(a.Answer, rr)
		}
	}
	if len(a.Answer) > 0 {
		return
	}
	if !exists && !z.hasBelow(name) {
		a.Rcode = dns.RcodeNameError
	}
	if dns.IsSubDomain(z.origin, name) {
		a.Ns = []dns.RR{z.soa()}
	}
}

// hasBelow tells whether name exists because a longer name ends in it.
func (z *zone) hasBelow(name string) bool {
	for n := range z.records {
		if strings.HasSuffix(n, "."+name) {
			return true
		}
	}
	return false
}

func (z *zone) soa() dns.RR {
	return &dns.SOA{Hdr: header(z.origin, dns.TypeSOA), Ns: "ns." + z.origin, Mbox: "hostmaster." + z.origin,
		Serial: 1, Refresh: dnsTTL, Retry: dnsTTL, Expire: dnsTTL, Minttl: dnsTTL}
}

// answers is how a resolver answers: it adds to a reply what there is to say to
// one question. A zone's own is its method answer; others are put before it.
type answers func(reply *dns.Msg, q dns.Question)

// before answers from z what z has, and leaves the rest to next.
func (z *zone) before(next answers) answers {
	return func(reply *dns.Msg, q dns.Question) {
		if z.has(q.Name) {
			z.answer(reply, q)
			return
		}
		next(reply, q)
	}
}

// reply is the whole message that answers q.
func (f answers) reply(q *dns.Msg) *dns.Msg {
	a := new(dns.Msg)
	a.SetReply(q)
	a.Authoritative, a.RecursionAvailable = true, true
	if len(q.Question) != 1 {
		a.Rcode = dns.RcodeFormatError
	} else {
		f(a, q.Question[0])
	}
	if o := q.IsEdns0(); o != nil {
		a.SetEdns0(o.UDPSize(), false)
	}
	return a
}

// ServeDNS implements dns.Handler.
func (f answers) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	a := f.reply(q)
	if w.RemoteAddr().Network() == "udp" {
		a.Truncate(udpSize(q))
	}
	_ = w.WriteMsg(a) // whoever asked asks again
}

func udpSize(q *dns.Msg) int {
	if o := q.IsEdns0(); o != nil {
		return int(o.UDPSize())
	}
	return dns.MinMsgSize
}

// serve answers on port 53 of addr inside ns, over UDP and TCP, until fail.
func (f answers) serve(ns netNS, addr netip.Addr, fail func(error)) error {
	var udp net.PacketConn
	var tcp net.Listener
	err := ns.do(func() (err error) {
		at := netip.AddrPortFrom(addr, 53).String()
		if udp, err = net.ListenPacket("udp", at); err != nil {
			return err
		}
		tcp, err = net.Listen("tcp", at)
		return err
	})
	if err != nil {
		return fmt.Errorf("serve DNS on %s: %w", addr, err)
	}
	for _, s := range []*dns.Server{{PacketConn: udp, Handler: f}, {Listener: tcp, Handler: f}} {
		go func() { fail(fmt.Errorf("serve DNS on %s: %w", addr, s.ActivateAndServe())) }()
	}
	return nil
}
