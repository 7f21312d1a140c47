//go:build !linux

package localnet

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/libp2p/go-netroute"
)

// look surveys the network. A system that does not tell which IPv6 addresses
// are temporary (RFC 8981) is asked for their subnets only, which stay.
func look() (survey, error) {
	all, err := net.Interfaces()
	if err != nil {
		return survey{}, fmt.Errorf("survey the network: list links: %w", err)
	}
	s := survey{ways: waysOut()}
	for _, l := range all {
		if l.Flags&net.FlagLoopback != 0 || l.Flags&net.FlagUp == 0 || l.Flags&net.FlagRunning == 0 {
			continue
		}
		addrs, err := l.Addrs()
		if err != nil {
			continue // it went meanwhile
		}
		// A link without an address of any reach is a system's own affair
		// (macOS has a dozen, and they come and go).
		if lasting := lastingOf(addrs); len(lasting) > 0 {
			s.links = append(s.links, link{l.Name, l.Index, lasting})
		}
	}
	return s, nil
}

func lastingOf(addrs []net.Addr) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		bits, _ := n.Mask.Size()
		p := netip.PrefixFrom(ip.Unmap(), bits)
		if !ok || p.Addr().IsLinkLocalUnicast() {
			continue
		}
		if p.Addr().Is6() {
			p = netip.PrefixFrom(p.Addr(), min(bits, 64)).Masked()
		}
		out = append(out, p)
	}
	return out
}

// waysOut asks which way the system would send a packet to somewhere. A family
// without a way is left out.
func waysOut() []way {
	router, err := netroute.New()
	if err != nil {
		return nil // no routes to speak of, or a system that does not tell
	}
	var out []way
	for _, f := range []family{ipv4, ipv6} {
		via, gateway, src, err := router.Route(somewhere[f].AsSlice())
		if err != nil || via == nil || via.Flags&net.FlagLoopback != 0 {
			continue
		}
		gw, _ := netip.AddrFromSlice(gateway)
		out = append(out, way{f, via.Name, via.Index, gw.Unmap(), subnetOf(via, src)})
	}
	return out
}

// subnetOf is the subnet of an address of a link.
func subnetOf(l *net.Interface, src net.IP) netip.Prefix {
	addrs, err := l.Addrs()
	if err != nil {
		return netip.Prefix{}
	}
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok || !n.IP.Equal(src) {
			continue
		}
		ip, _ := netip.AddrFromSlice(n.IP)
		bits, _ := n.Mask.Size()
		return netip.PrefixFrom(ip.Unmap(), bits).Masked()
	}
	return netip.Prefix{}
}
