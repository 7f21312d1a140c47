//go:build linux

package lab

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// network is the lab's links, routers and wires, as lab init holds them.
type network struct {
	zone  *zone // of DNS
	plan  plan
	wires []*wire // of the access links, those of the sites first
	core  netNS
	sites []netNS // the routers, as in plan.Sites
	hosts []netNS // as in plan.Machines
	inits []int   // process IDs of the hosts' first processes, the same
	self  netNS   // lab init's own, where the wires' ends are; nothing in it has an address

	edges []netNS // the routers at their access links: their providers' where they have one
	pki   authorities
}

const eth0 = "eth0"

// newNetwork makes all namespaces, empty. It is apart from connect so that
// hosts can boot while their links are laid.
func newNetwork(p plan) (*network, error) {
	self, err := ownNetNS()
	if err != nil {
		return nil, err
	}
	pki, err := newAuthorities()
	if err != nil {
		return nil, err
	}
	n := &network{plan: p, pki: pki, self: self}
	var errs []error
	make := func(ipv6 bool) netNS {
		ns, err := newNetNS(ipv6)
		errs = append(errs, err)
		return ns
	}
	n.core = make(p.IPv6)
	for _, s := range p.Sites {
		n.sites = append(n.sites, make(s.LAN6.IsValid()))
		n.edges = append(n.edges, n.sites[len(n.sites)-1])
		if s.hasCarrier() {
			n.edges[len(n.edges)-1] = make(s.LAN6.IsValid())
		}
	}
	for _, m := range p.Machines {
		n.hosts = append(n.hosts, make(m.Addr6.IsValid()))
	}
	return n, errors.Join(errs...)
}

// connect lays every link and sets every rule.
func (n *network) connect() error {
	if err := n.buildCore(); err != nil {
		return fmt.Errorf("build the core: %w", err)
	}
	for i := range n.plan.Sites {
		if err := n.buildSite(i); err != nil {
			return fmt.Errorf("build network %s: %w", n.plan.Sites[i].Name, err)
		}
	}
	for i := range n.plan.Machines {
		if err := n.plugIn(i); err != nil {
			return fmt.Errorf("connect host %s: %w", n.plan.Machines[i].Name, err)
		}
	}
	return nil
}

func (n *network) buildCore() error {
	if err := n.core.do(forwarding); err != nil {
		return err
	}
	return n.core.edit(func(h *netlink.Handle) error {
		return addAddr(h, "lo", netip.PrefixFrom(resolver, 32))
	})
}

func forwarding() error {
	return sysctls(map[string]string{"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"})
}

// switching keeps the firewall out of what hosts of one network say to each
// other: a kernel with br_netfilter sends that through the router's rules, which
// no switch in front of a router does.
func switching() error {
	return sysctls(map[string]string{
		"net/bridge/bridge-nf-call-iptables":  "0",
		"net/bridge/bridge-nf-call-ip6tables": "0",
		"net/bridge/bridge-nf-call-arptables": "0",
	})
}

func (n *network) buildSite(i int) error {
	s, router := n.plan.Sites[i], n.sites[i]
	if err := errors.Join(router.do(forwarding), router.do(switching)); err != nil {
		return err
	}
	if err := n.accessLink(n.edges[i], wan, s.Access); err != nil {
		return err
	}
	if s.hasCarrier() {
		if err := n.buildCarrier(i); err != nil {
			return fmt.Errorf("build its provider's router: %w", err)
		}
	}
	if err := router.edit(func(h *netlink.Handle) error { return addBridge(h, lan, bridgeMAC(i), s.LAN, s.LAN6) }); err != nil {
		return err
	}
	if err := errors.Join(n.routeIn(s), n.routeBlock(i)); err != nil {
		return err
	}
	return n.install(i, s.Profile)
}

// routeIn tells the core where a site's IPv6 network is; its IPv4 one is nobody's
// business.
func (n *network) routeIn(s site) error {
	if !s.LAN6.IsValid() || !s.Access.Addr6.IsValid() {
		return nil
	}
	return n.core.edit(func(h *netlink.Handle) error {
		if err := h.RouteAdd(&netlink.Route{Dst: ipNet(s.LAN6.Masked()), Gw: s.Access.Addr6.AsSlice()}); err != nil {
			return fmt.Errorf("route %s through %s: %w", s.LAN6.Masked(), s.Access.Addr6, err)
		}
		return nil
	})
}

// install gives site i the firewall of a profile, in place of the one it has.
func (n *network) install(i int, profile string) error {
	prof, err := profileNamed(profile)
	if err != nil {
		return err
	}
	f, err := prof.install(n.sites[i], n.plan.Sites[i].surroundings(), n.plan.Proving)
	if err != nil {
		return err
	}
	if err := n.installCarrier(i, prof); err != nil {
		return err
	}
	return n.shape(i, n.edges[i], wan, link{Link: n.plan.Sites[i].Access.Link}.with(f.link), f.watches)
}

// plugIn gives host i its eth0: to the core over a wire, or to its site's bridge.
func (n *network) plugIn(i int) error {
	m, ns := n.plan.Machines[i], n.hosts[i]
	if m.Site < 0 {
		return n.accessLink(ns, eth0, m.Access)
	}
	router := n.sites[m.Site]
	port := bridgePort(i)
	if err := addVeth(ns, eth0, nil, router, port); err != nil {
		return err
	}
	err := router.edit(func(h *netlink.Handle) error {
		bridge, err := h.LinkByName(lan)
		if err != nil {
			return fmt.Errorf("find the bridge: %w", err)
		}
		l, err := h.LinkByName(port)
		if err != nil {
			return fmt.Errorf("find %s: %w", port, err)
		}
		if err := h.LinkSetMaster(l, bridge); err != nil {
			return fmt.Errorf("plug %s into the bridge: %w", port, err)
		}
		return setUp(h, port)
	})
	if err != nil {
		return err
	}
	return ns.edit(func(h *netlink.Handle) error {
		return errors.Join(configure(h, eth0, m.Addr, m.Gateway), configure(h, eth0, m.Addr6, m.Gateway6))
	})
}

// bridgePort is the router's end of the link to host i.
func bridgePort(i int) string { return fmt.Sprintf("host%d", i) }

// accessLink lays a link between a namespace and the core, with a wire in the
// middle: near --veth-- wire --veth-- core.
func (n *network) accessLink(near netNS, name string, a access) error {
	i := len(n.wires)
	here, there := fmt.Sprintf("near%d", i), fmt.Sprintf("far%d", i)
	core := coreEnd(i)
	nearMAC, coreMAC := accessMACs(i)
	if err := addVeth(near, name, nearMAC, n.self, here); err != nil {
		return err
	}
	if err := addVeth(n.core, core, coreMAC, n.self, there); err != nil {
		return err
	}
	if err := n.self.edit(func(h *netlink.Handle) error { return errors.Join(setUp(h, here), setUp(h, there)) }); err != nil {
		return err
	}
	err := n.core.edit(func(h *netlink.Handle) error {
		return errors.Join(configure(h, core, netip.PrefixFrom(a.Core, accessBits), netip.Addr{}), introduce(h, core, a.Addr, nearMAC),
			configure(h, core, netip.PrefixFrom(a.Core6, bits6), netip.Addr{}), introduce(h, core, a.Addr6, nearMAC))
	})
	if err != nil {
		return err
	}
	err = near.edit(func(h *netlink.Handle) error {
		return errors.Join(configure(h, name, netip.PrefixFrom(a.Addr, accessBits), a.Core), introduce(h, name, a.Core, coreMAC),
			configure(h, name, netip.PrefixFrom(a.Addr6, bits6), a.Core6), introduce(h, name, a.Core6, coreMAC))
	})
	if err != nil {
		return err
	}
	w, err := newWire(i, here, there)
	if err != nil {
		return err
	}
	n.wires = append(n.wires, w)
	return n.shape(i, near, name, link{Link: a.Link}, nil)
}

// shape gives wire i, whose near end is an interface of a namespace, the
// qualities of a link and a box that watches it. What the ends have to know of
// it they are told.
func (n *network) shape(i int, near netNS, name string, l link, watches []watch) error {
	w := n.wires[i]
	l.Delay = cmp.Or(l.Delay, n.plan.Latency)
	singly := l.singly() || len(watches) > 0
	before, watched := w.set(l), w.box.Swap(newBox(watches, n.plan.Zone, w.inject)) != nil
	if l.mtu() == before.mtu() && singly == (before.singly() || watched) {
		return nil
	}
	for _, end := range []struct {
		ns   netNS
		name string
	}{{near, name}, {n.core, coreEnd(i)}} {
		if err := end.ns.edit(func(h *netlink.Handle) error { return sendAs(h, end.name, l.mtu(), singly) }); err != nil {
			return err
		}
	}
	return nil
}

// sendAs sets how long the packets are that an interface sends, and whether they
// leave it singly or in segments.
func sendAs(h *netlink.Handle, name string, mtu int, singly bool) error {
	const any = 65535 // GSO_MAX_SEGS of <linux/netdevice.h>
	l, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if err := h.LinkSetMTU(l, mtu); err != nil {
		return fmt.Errorf("set the MTU of %s to %d: %w", name, mtu, err)
	}
	segments := any
	if singly || !wireCarriesUDPSegments() {
		segments = 1
	}
	if err := h.LinkSetGSOMaxSegs(l, segments); err != nil {
		return fmt.Errorf("have %s send segments of at most %d packets: %w", name, segments, err)
	}
	return nil
}

// coreEnd is the core's end of the i-th access link.
func coreEnd(i int) string { return fmt.Sprintf("link%d", i) }

// accessMACs are the addresses of the outer ends of the i-th access link,
// locally administered.
func accessMACs(i int) (near, core net.HardwareAddr) {
	high, low := byte(i>>8), byte(i)
	return net.HardwareAddr{2, 0, 0, high, low, 1}, net.HardwareAddr{2, 0, 0, high, low, 2}
}

// introduce tells a link's end who is at the other one. Asked for by ARP, the
// first packet over each link would take twice as long. Nobody is at an invalid
// address.
func introduce(h *netlink.Handle, name string, addr netip.Addr, mac net.HardwareAddr) error {
	if !addr.IsValid() {
		return nil
	}
	l, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	n := &netlink.Neigh{LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: mac}
	if err := h.NeighAdd(n); err != nil {
		return fmt.Errorf("tell %s where %s is: %w", name, addr, err)
	}
	return nil
}

// addVeth makes a pair of interfaces with one end in each namespace. A nil mac
// lets the kernel choose.
func addVeth(a netNS, nameA string, mac net.HardwareAddr, b netNS, nameB string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = nameA
	attrs.HardwareAddr = mac
	attrs.Namespace = netlink.NsFd(a.fd)
	if !wireCarriesUDPSegments() {
		attrs.GSOMaxSegs = 1
	}
	v := &netlink.Veth{LinkAttrs: attrs, PeerName: nameB, PeerNamespace: netlink.NsFd(b.fd)}
	if err := netlink.LinkAdd(v); err != nil {
		return fmt.Errorf("make veth %s - %s: %w", nameA, nameB, err)
	}
	return nil
}

// bridgeMAC is the router's address on its network, locally administered. Left to
// itself a bridge takes the lowest one of its ports: hosts that had asked for the
// router would lose it whenever one came or went.
func bridgeMAC(i int) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 1, byte(i), 1} }

func addBridge(h *netlink.Handle, name string, mac net.HardwareAddr, addr, addr6 netip.Prefix) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	attrs.HardwareAddr = mac
	if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return fmt.Errorf("make bridge %s: %w", name, err)
	}
	return errors.Join(configure(h, name, addr, netip.Addr{}), configure(h, name, addr6, netip.Addr{}))
}

// configure gives an interface its address, and the namespace its way out if
// there is one. It does nothing for an invalid addr: one of a version of IP that
// the link does not carry.
func configure(h *netlink.Handle, name string, addr netip.Prefix, gateway netip.Addr) error {
	if !addr.IsValid() {
		return nil
	}
	if err := addAddr(h, name, addr); err != nil {
		return err
	}
	if err := setUp(h, name); err != nil {
		return err
	}
	if !gateway.IsValid() {
		return nil
	}
	if err := h.RouteAdd(&netlink.Route{Gw: gateway.AsSlice()}); err != nil {
		return fmt.Errorf("route everything through %s: %w", gateway, err)
	}
	return nil
}

// addAddr gives an interface an address. One of IPv6 can be used at once, as none
// can whose uniqueness is to be detected first: until then, what the host dials
// leaves by its link-local address, and gets nowhere.
func addAddr(h *netlink.Handle, name string, addr netip.Prefix) error {
	l, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	a := &netlink.Addr{IPNet: ipNet(addr)}
	if addr.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := h.AddrAdd(l, a); err != nil {
		return fmt.Errorf("give %s the address %s: %w", name, addr, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func setUp(h *netlink.Handle, name string) error {
	l, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if err := h.LinkSetUp(l); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}
