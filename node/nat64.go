package node

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// nat64 rewrites IPv4 addresses for networks that have none, as mobile carriers'
// are: there, a NAT64 translates what is sent to an IPv6 address with the IPv4 one
// in it (RFC 6052). Names get such addresses from the network's resolver; relays
// that are known by address do from us. The zero nat64 works.
type nat64 struct {
	routed func(netip.Addr) bool                               // nil: as the system's routes say
	lookup func(context.Context, string) ([]netip.Addr, error) // of AAAA records; nil: the network's resolver

	mu     sync.Mutex   // guards the fields below; held while asking
	until  time.Time    // when to ask again
	prefix netip.Prefix // invalid: the network has none
}

const (
	// ipv4Only has IPv4 addresses only. A resolver that has another for it has put
	// its prefix before one of ipv4OnlyAddrs (RFC 7050).
	ipv4Only = "ipv4only.arpa"
	// prefixTimeout is for the network's own resolver: a dial waits for it.
	prefixTimeout = 2 * time.Second
	// prefixKept is how long the answer holds: the network may be another one then.
	prefixKept = 30 * time.Second
	// prefixUnknown is the same where no answer came: a resolver that is slow, or
	// not there yet, says nothing about the network, but not every dial can wait for it.
	prefixUnknown = 2 * time.Second
)

var ipv4OnlyAddrs = []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 0, 170}), netip.AddrFrom4([4]byte{192, 0, 0, 171})}

// toward is addr, or the one that leads there where there is no IPv4.
func (n *nat64) toward(ctx context.Context, addr ma.Multiaddr) ma.Multiaddr {
	if len(addr) == 0 || addr[0].Code() != ma.P_IP4 || !manet.IsPublicAddr(addr) {
		return addr
	}
	ipv4, ok := netip.AddrFromSlice(addr[0].RawValue())
	if !ok || n.hasRoute(ipv4) {
		return addr
	}
	prefix := n.find(ctx)
	if !prefix.IsValid() {
		return addr
	}
	head, err := manet.FromIP(embed(prefix, ipv4).AsSlice())
	if err != nil {
		return addr
	}
	return ma.Join(head, addr[1:])
}

// hasRoute asks the system without sending anything: a UDP socket is connected.
func (n *nat64) hasRoute(to netip.Addr) bool {
	if n.routed != nil {
		return n.routed(to)
	}
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 443)))
	if err != nil {
		return !errors.Is(err, syscall.ENETUNREACH)
	}
	_ = c.Close() // nothing was sent
	return true
}

// find is the network's prefix. Only its own resolver knows it.
func (n *nat64) find(ctx context.Context) netip.Prefix {
	n.mu.Lock()
	defer n.mu.Unlock()
	if time.Now().Before(n.until) {
		return n.prefix
	}
	lookup := n.lookup
	if lookup == nil {
		lookup = func(ctx context.Context, name string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip6", name)
		}
	}
	asking, cancel := context.WithTimeout(ctx, prefixTimeout)
	defer cancel()
	n.prefix = netip.Prefix{}
	addrs, err := lookup(asking, ipv4Only)
	if err != nil && ctx.Err() != nil {
		return n.prefix // the dial was given up, which says nothing
	}
	kept := prefixKept
	if dns := (*net.DNSError)(nil); err != nil && !(errors.As(err, &dns) && dns.IsNotFound) {
		kept = prefixUnknown
	}
	n.until = time.Now().Add(kept)
	for _, a := range addrs {
		if n.prefix = prefixOf(a); n.prefix.IsValid() {
			break
		}
	}
	return n.prefix
}

// prefixLengths are those of RFC 6052, section 2.2, the most common first.
var prefixLengths = []int{96, 64, 56, 48, 40, 32}

// prefixOf is what stands before one of ipv4OnlyAddrs in an address.
func prefixOf(a netip.Addr) netip.Prefix {
	for _, bits := range prefixLengths {
		p := netip.PrefixFrom(a, bits).Masked()
		for _, known := range ipv4OnlyAddrs {
			if a.Is6() && !a.Is4In6() && embed(p, known) == a {
				return p
			}
		}
	}
	return netip.Prefix{}
}

// embed puts an IPv4 address behind a prefix; bits 64 to 71 stay empty.
func embed(prefix netip.Prefix, ipv4 netip.Addr) netip.Addr {
	a := prefix.Addr().As16()
	at := prefix.Bits() / 8
	for _, b := range ipv4.As4() {
		if at == 8 {
			at++
		}
		a[at] = b
		at++
	}
	return netip.AddrFrom16(a)
}
