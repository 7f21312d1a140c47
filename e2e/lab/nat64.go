//go:build linux

package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A network without IPv4, as mobile carriers have it (RFC 6877): its resolver
// makes IPv6 addresses for names that have none (DNS64), and its router takes what
// goes there out as IPv4 (NAT64).
//
//	host ── IPv6 to 64:ff9b::45.10.0.2 ──▶ router ──▶ box, in lab init
//	                                         ◀── IPv4 from 192.0.2.2 to 45.10.0.2 ──┘
//	                                         └── masqueraded as any IPv4 ──▶ wan
//
// The box knows no flows: it writes one header for the other (RFC 7915), with an
// IPv4 address for each host. The router's own NAT does the rest, so every kind of
// it can be had, and TCP, its resets and path MTU discovery are the ends' own.

// nat64Prefix is the well-known one (RFC 6052).
var nat64Prefix = netip.MustParsePrefix("64:ff9b::/96")

// nat64Pool has the hosts' addresses between box and NAT. The box is the first.
var nat64Pool = netip.MustParsePrefix("192.0.2.0/24")

const nat64Link = "nat64" // the router's end of the link to the box

// iifname "nat64" accept
var passNAT64 = rule{name: "pass-nat64", does: "what NAT64 has translated goes out",
	apply: func(f *firewall) { f.add(f.forward, in(nat64Link), accept()) },
	proof: func(t *trial) error { return t.nat64Carries(tcp(4001)) }}

var nat64 = service{name: "nat64", does: "hosts have IPv6 only, and reach IPv4 below 64:ff9b::/96", start: startNAT64, proof: provesNAT64}

// dns64 makes addresses for names that have none for IPv6 (RFC 6147). So does it
// for ipv4only.arpa, by which hosts learn the prefix (RFC 7050).
var dns64 = service{name: "dns64", does: "names with IPv4 addresses only are given IPv6 ones", start: func(r *router) error {
	honest := r.names
	r.names = func(reply *dns.Msg, q dns.Question) {
		honest(reply, q)
		if q.Qtype != dns.TypeAAAA || reply.Rcode != dns.RcodeSuccess || len(reply.Answer) > 0 {
			return
		}
		old := new(dns.Msg)
		q.Qtype = dns.TypeA
		honest(old, q)
		for _, rr := range old.Answer {
			if a, ok := rr.(*dns.A); ok {
				h := a.Hdr
				h.Rrtype = dns.TypeAAAA
				rr = &dns.AAAA{Hdr: h, AAAA: below(nat64Prefix, a.A.To4())}
			}
			reply.Answer, reply.Ns = append(reply.Answer, rr), nil
		}
	}
	return nil
}, proof: provesDNS64}

// below is the IPv6 address that stands for an IPv4 one.
func below(prefix netip.Prefix, ipv4 []byte) []byte {
	a := prefix.Addr().As16()
	copy(a[12:], ipv4)
	return a[:]
}

// startNAT64 lays the link to the box, on which nobody asks for neighbours, and
// leads both address ranges there.
func startNAT64(r *router) error {
	far := fmt.Sprintf("nat64-%d", r.index)
	box := &nat64Box{mac: net.HardwareAddr{2, 0, 0, 0x64, byte(r.index), 1}, ipv4: map[netip.Addr]netip.Addr{}, ipv6: map[netip.Addr]netip.Addr{}}
	box.last = nat64Pool.Addr().Next()
	if err := addVeth(r.ns, nat64Link, box.mac, r.self, far); err != nil {
		return err
	}
	if err := r.self.edit(func(h *netlink.Handle) error { return setUp(h, far) }); err != nil {
		return err
	}
	if err := r.ns.edit(func(h *netlink.Handle) error { return routeNAT64(h, box.last) }); err != nil {
		return fmt.Errorf("route to NAT64: %w", err)
	}
	t, err := openTap(far)
	if err != nil {
		return err
	}
	go func() { r.fail(fmt.Errorf("translate IPv6: %w", box.run(t))) }()
	return nil
}

func routeNAT64(h *netlink.Handle, own netip.Addr) error {
	l, err := h.LinkByName(nat64Link)
	if err != nil {
		return err
	}
	err = errors.Join(h.LinkSetARPOff(l), addAddr(h, nat64Link, netip.PrefixFrom(own, 32)), setUp(h, nat64Link))
	if err != nil {
		return err
	}
	to := func(p netip.Prefix, mtu int) error {
		return h.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(p), Scope: netlink.SCOPE_LINK, MTU: mtu})
	}
	// IPv6's header is longer: what is too long with it is refused before, by the router.
	return errors.Join(to(nat64Pool, 1500-(header6-header4)), to(nat64Prefix, 1500))
}

// nat64Box translates packets, each by itself.
type nat64Box struct {
	mac  net.HardwareAddr // of the router's end
	ipv4 map[netip.Addr]netip.Addr
	ipv6 map[netip.Addr]netip.Addr // the same the other way
	last netip.Addr                // that was given to a host
}

// Where things are in a frame of a tap, and what the headers measure.
const (
	vnetBytes     = 10
	etherBytes    = 14
	ipAt          = vnetBytes + etherBytes
	header4       = 20
	header6       = 40
	etherTypeIPv4 = 0x0800
	etherTypeIPv6 = 0x86dd
)

func (b *nat64Box) run(t *tap) error {
	buf := make([]byte, maxFrame)
	for {
		n, err := t.file.Read(buf)
		if err != nil {
			return err
		}
		if out := b.translate(buf[:n]); out != nil {
			if _, err := t.file.Write(out); errors.Is(err, os.ErrClosed) {
				return err
			}
		}
	}
}

// translate is nil for what has no counterpart: fragments, extension headers,
// addresses of nobody.
func (b *nat64Box) translate(frame []byte) []byte {
	if len(frame) < ipAt+header4 {
		return nil
	}
	var p *packet
	switch binary.BigEndian.Uint16(frame[ipAt-2:]) {
	case etherTypeIPv6:
		p = read6(frame[ipAt:])
	case etherTypeIPv4:
		p = read4(frame[ipAt:])
	}
	if p == nil || p.payload == nil {
		return nil
	}
	p.offload = offloadOf(frame)
	if p.src.Is6() {
		return b.to4(p)
	}
	return b.to6(p)
}

// packet is what both versions of IP have in common.
type packet struct {
	src, dst netip.Addr
	class    byte // traffic class, or type of service
	hops     byte
	proto    byte
	payload  []byte
	offload
}

func read6(ip []byte) *packet {
	if len(ip) < header6 {
		return nil
	}
	p := &packet{class: ip[0]<<4 | ip[1]>>4, proto: ip[6], hops: ip[7],
		src: netip.AddrFrom16([16]byte(ip[8:24])), dst: netip.AddrFrom16([16]byte(ip[24:40]))}
	p.payload = cut(ip[header6:], int(binary.BigEndian.Uint16(ip[4:])))
	return p
}

func read4(ip []byte) *packet {
	head := int(ip[0]&0x0f) * 4
	const moreOrOffset = 0x3fff
	if len(ip) < head || head < header4 || binary.BigEndian.Uint16(ip[6:])&moreOrOffset != 0 {
		return nil
	}
	p := &packet{class: ip[1], hops: ip[8], proto: ip[9],
		src: netip.AddrFrom4([4]byte(ip[12:16])), dst: netip.AddrFrom4([4]byte(ip[16:20]))}
	p.payload = cut(ip[head:], int(binary.BigEndian.Uint16(ip[2:]))-head)
	return p
}

// cut takes off what Ethernet has filled up; nil when bytes are missing.
func cut(b []byte, n int) []byte {
	if n < 0 || n > len(b) {
		return nil
	}
	return b[:n]
}

func (b *nat64Box) to4(p *packet) []byte {
	if !nat64Prefix.Contains(p.dst) {
		return nil
	}
	src := b.lend(p.src)
	dst := p.dst.As16()
	q := &packet{src: src, dst: netip.AddrFrom4([4]byte(dst[12:])), class: p.class, hops: p.hops, proto: p.proto, offload: p.offload.in4()}
	if !src.IsValid() || !q.carry(p) {
		return nil
	}
	f := b.frame(etherTypeIPv4, header4, q)
	ip := f[ipAt:]
	const dontFragment = 0x4000
	ip[0], ip[1] = 4<<4|header4/4, q.class
	binary.BigEndian.PutUint16(ip[2:], uint16(header4+len(q.payload)))
	binary.BigEndian.PutUint16(ip[6:], dontFragment)
	ip[8], ip[9] = q.hops, q.proto
	copy(ip[12:], q.src.AsSlice())
	copy(ip[16:], q.dst.AsSlice())
	binary.BigEndian.PutUint16(ip[10:], ^sum(0, ip[:header4]))
	return f
}

func (b *nat64Box) to6(p *packet) []byte {
	dst, known := b.ipv6[p.dst]
	if !known {
		return nil
	}
	q := &packet{src: in6(p.src), dst: dst, class: p.class, hops: p.hops, proto: p.proto, offload: p.offload.in6()}
	if p.proto == unix.IPPROTO_ICMP && isError(p.payload) {
		if !q.carryError(p, b.ipv6) {
			return nil
		}
	} else if !q.carry(p) {
		return nil
	}
	f := b.frame(etherTypeIPv6, header6, q)
	q.write6(f[ipAt:])
	return f
}

func (p *packet) write6(ip []byte) {
	ip[0], ip[1] = 6<<4|p.class>>4, p.class<<4
	binary.BigEndian.PutUint16(ip[4:], uint16(len(p.payload)))
	ip[6], ip[7] = p.proto, p.hops
	copy(ip[8:], p.src.AsSlice())
	copy(ip[24:], p.dst.AsSlice())
}

func in6(ipv4 netip.Addr) netip.Addr {
	return netip.AddrFrom16([16]byte(below(nat64Prefix, ipv4.AsSlice())))
}

// frame is addressed to the router, with room for the IP header.
func (b *nat64Box) frame(etherType uint16, head int, p *packet) []byte {
	f := make([]byte, ipAt+head, ipAt+head+len(p.payload))
	p.offload.write(f)
	copy(f[vnetBytes:], b.mac)
	f[vnetBytes+6] = 2 // the box: any address of local administration
	binary.BigEndian.PutUint16(f[ipAt-2:], etherType)
	return append(f, p.payload...)
}

// lend gives a host an IPv4 address for good; an invalid one when all are given.
func (b *nat64Box) lend(host netip.Addr) netip.Addr {
	if a, ok := b.ipv4[host]; ok {
		return a
	}
	next := b.last.Next()
	if !nat64Pool.Contains(next) {
		return netip.Addr{}
	}
	b.last = next
	b.ipv4[host], b.ipv6[next] = next, host
	return next
}
