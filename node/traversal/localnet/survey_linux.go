package localnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// surveyTries is how often the system is asked again when its answer changed
// while it was being given.
const surveyTries = 5

// look surveys the network namespace that the process is in.
func look() (survey, error) {
	var s survey
	var err error
	for range surveyTries {
		if s, err = lookOnce(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return survey{}, fmt.Errorf("survey the network: %w", err)
	}
	return s, nil
}

func lookOnce() (survey, error) {
	all, err := netlink.LinkList()
	if err != nil {
		return survey{}, fmt.Errorf("list links: %w", err)
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return survey{}, fmt.Errorf("list addresses: %w", err)
	}
	var s survey
	for _, f := range []family{ipv4, ipv6} {
		w, ok, err := wayOut(f, all, addrs)
		if err != nil {
			return survey{}, err
		}
		if ok {
			s.ways = append(s.ways, w)
		}
	}
	for _, l := range all {
		a := l.Attrs()
		if own := lasting(addrs, a.Index); counts(l, own, s.ways) {
			s.links = append(s.links, link{a.Name, a.Index, own})
		}
	}
	return s, nil
}

// counts tells whether a link, with its lasting addresses, is one of ours to leave
// by. A port of a bridge is not, its bridge is; and a bridge is only when it leads
// out: those that do not are networks between containers, which come and go all
// day. So do cables to containers (Calico's, Cilium's, Amazon's), which are bare.
func counts(l netlink.Link, own []netip.Prefix, ways []way) bool {
	a := l.Attrs()
	if a.Flags&net.FlagLoopback != 0 || a.RawFlags&unix.IFF_UP == 0 || a.RawFlags&unix.IFF_RUNNING == 0 || a.MasterIndex != 0 {
		return false
	}
	leadsOut := slices.ContainsFunc(ways, func(w way) bool { return w.index == a.Index })
	switch l.Type() {
	case "bridge":
		return leadsOut
	case "veth", "netkit":
		return leadsOut || len(own) > 0
	}
	return true
}

// lasting are the addresses of a link that are there to stay and to be used:
// temporary ones (RFC 8981) are replaced every few hours, deprecated ones are on
// their way out, and tentative ones may turn out to be somebody else's.
func lasting(addrs []netlink.Addr, index int) []netip.Prefix {
	const passing = unix.IFA_F_TEMPORARY | unix.IFA_F_DEPRECATED | unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED
	var out []netip.Prefix
	for _, a := range addrs {
		p, ok := prefixOf(a.IPNet)
		if !ok || a.LinkIndex != index || p.Addr().IsLinkLocalUnicast() {
			continue
		}
		if p.Addr().Is6() && a.Flags&passing != 0 { // IPv4 uses the bits otherwise: TEMPORARY means a second address there
			continue
		}
		out = append(out, p)
	}
	return out
}

// wayOut asks which way the system would send a packet to somewhere.
func wayOut(f family, links []netlink.Link, addrs []netlink.Addr) (way, bool, error) {
	routes, err := netlink.RouteGet(somewhere[f].AsSlice())
	if noRoute(err) {
		return way{}, false, nil
	}
	if err != nil {
		return way{}, false, fmt.Errorf("ask for the %s default route: %w", f, err)
	}
	for _, r := range routes {
		at := slices.IndexFunc(links, func(l netlink.Link) bool { return l.Attrs().Index == r.LinkIndex })
		if at < 0 || links[at].Attrs().Flags&net.FlagLoopback != 0 {
			continue // a link that went meanwhile, or a route that rejects
		}
		return way{f, links[at].Attrs().Name, r.LinkIndex, gatewayOf(r), subnetOf(r, addrs)}, true, nil
	}
	return way{}, false, nil
}

// noRoute tells an answer from a failure: there is no route (or no such
// family), or one that says unreachable, prohibit or blackhole.
func noRoute(err error) bool {
	for _, e := range []unix.Errno{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.EINVAL, unix.EAFNOSUPPORT, unix.EOPNOTSUPP} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// gatewayOf is a route's next hop. One of IPv4 may be of IPv6 (RFC 8950).
func gatewayOf(r netlink.Route) netip.Addr {
	ip := r.Gw
	if via, ok := r.Via.(*netlink.Via); ok && ip == nil {
		ip = via.Addr
	}
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// subnetOf is the subnet of the address that a route leaves from.
func subnetOf(r netlink.Route, addrs []netlink.Addr) netip.Prefix {
	for _, a := range addrs {
		if p, ok := prefixOf(a.IPNet); ok && a.LinkIndex == r.LinkIndex && a.IP.Equal(r.Src) {
			return p.Masked()
		}
	}
	return netip.Prefix{}
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits), ok
}
