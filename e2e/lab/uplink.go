//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What is between a network's router and the core, beyond the access link.
//
//	                  2.10.0.2/30                   2.10.0.1
//	router ───────────────────────────── wire ───── core      2.110.0.0/16 through 2.10.0.2
//
//	        100.64.0.2    100.64.0.1
//	router ──────────────── carrier ──── wire ───── core      the router is a customer behind a
//	                        2.10.0.2                          carrier-grade NAT (RFC 6888)

// behindCarrier puts the router of its provider, which translates as a home's
// does, between the network's router and the internet.
var behindCarrier = rule{name: "carrier-nat", does: "the router's own address is one of its provider's, whose router translates once more",
	apply: func(f *firewall) { f.carrier = true },
	proof: func(t *trial) error {
		p, err := t.way("tcp")
		if err != nil {
			return err
		}
		// The provider's router refuses; without one nobody on the internet has this
		// address.
		at := netip.AddrPortFrom(carrierAddr, p.number)
		if _, err := t.dial(t.host, 0, at, answerWait); !isRefused(err) {
			return fmt.Errorf("there is no router at %s: %w", carrierAddr, orConnects(err))
		}
		t.saw("%s, the next router, refuses", at)
		return t.translates(func([]flow) error { return nil })
	}}

// carrierAddr is a provider's router, as its customer sees it: the same for every
// customer, who each have a link and a router of their own.
var carrierAddr = netip.AddrFrom4([4]byte{100, 64, 0, 1}) // of RFC 6598's shared space

// nthCarrier is the link between the i-th network's router and its provider's.
func nthCarrier(i int, ipv6 bool) access {
	a := access{Addr: carrierAddr.Next(), Core: carrierAddr}
	if ipv6 {
		a.Addr6, a.Core6 = inside6(0x40, i, 2), inside6(0x40, i, 1)
	}
	return a
}

func (s site) hasCarrier() bool { return s.Carrier.Addr.IsValid() }

// surroundings are what the rules of the network's own router need to know.
func (s site) surroundings() surroundings {
	if s.hasCarrier() {
		return surroundings{outside: s.Carrier.Addr, inside: s.LAN}
	}
	return surroundings{outside: s.Access.Addr, block: s.Access.block(), inside: s.LAN}
}

// block is the /24 of further public addresses that goes with an access link. It
// is in a /16 that is routed to the network whatever its access address becomes.
func (a access) block() netip.Prefix {
	b := a.Addr.As4()
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{b[0] + blockOffset, b[1], b[2], 0}), 24)
}

// blockOffset is between the first bytes of an access link and of its block: none of
// firstOctets is the next one's neighbour.
const blockOffset = 1

// sameHost is the address of a /24 that ends like another one.
func sameHost(p netip.Prefix, addr netip.Addr) netip.Addr {
	b := p.Addr().As4()
	b[3] = addr.As4()[3]
	return netip.AddrFrom4(b)
}

// routeBlock has the core send the further addresses of site i to the router at
// its access link, which takes them for its own: what it does not translate meets
// the rules of its input.
func (n *network) routeBlock(i int) error {
	s := n.plan.Sites[i]
	all := netip.PrefixFrom(s.Access.block().Addr(), 16).Masked()
	err := n.core.edit(func(h *netlink.Handle) error {
		return h.RouteReplace(&netlink.Route{Dst: ipNet(all), Gw: s.Access.Addr.AsSlice()})
	})
	if err != nil {
		return fmt.Errorf("route %s through %s: %w", all, s.Access.Addr, err)
	}
	err = n.edges[i].edit(func(h *netlink.Handle) error {
		lo, err := h.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("find lo: %w", err)
		}
		return h.RouteReplace(&netlink.Route{Dst: ipNet(all), LinkIndex: lo.Attrs().Index,
			Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST})
	})
	if err != nil {
		return fmt.Errorf("take in %s: %w", all, err)
	}
	return nil
}

// buildCarrier connects the router of site i to its provider's.
func (n *network) buildCarrier(i int) error {
	s, carrier := n.plan.Sites[i], n.edges[i]
	link := s.Carrier
	if err := errors.Join(carrier.do(forwarding), addVeth(n.sites[i], wan, nil, carrier, lan)); err != nil {
		return err
	}
	err := carrier.edit(func(h *netlink.Handle) error {
		err := errors.Join(configure(h, lan, netip.PrefixFrom(link.Core, accessBits), netip.Addr{}),
			configure(h, lan, netip.PrefixFrom(link.Core6, bits6), netip.Addr{}))
		if err == nil && s.LAN6.IsValid() {
			err = h.RouteAdd(&netlink.Route{Dst: ipNet(s.LAN6.Masked()), Gw: link.Addr6.AsSlice()})
		}
		return err
	})
	if err != nil {
		return err
	}
	return n.sites[i].edit(func(h *netlink.Handle) error {
		return errors.Join(configure(h, wan, netip.PrefixFrom(link.Addr, accessBits), link.Core),
			configure(h, wan, netip.PrefixFrom(link.Addr6, bits6), link.Core6))
	})
}

// installCarrier gives the provider's router of site i its rules, if there is
// one. At the public address it denies what prof denies there.
func (n *network) installCarrier(i int, prof Profile) error {
	s := n.plan.Sites[i]
	if !s.hasCarrier() {
		return nil
	}
	inside := netip.PrefixFrom(s.Carrier.Core, accessBits)
	p := Profile{Name: "of its provider", build: build{rules: []rule{masquerade}}}
	for _, r := range prof.rules {
		if r.name == denyInbound.name || r.name == dropHairpin.name {
			p.rules = append(p.rules, r)
		}
	}
	_, err := p.install(n.edges[i], surroundings{outside: s.Access.Addr, block: s.Access.block(), inside: inside}, n.plan.Proving)
	return err
}
