//go:build linux

package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// hear hands on the suite's orders until the pipe ends.
func hear(suite *json.Decoder, to chan<- command) {
	for {
		var c command
		if suite.Decode(&c) != nil {
			return
		}
		to <- c
	}
}

// obey does what the suite ordered, and says how it went.
func (n *network) obey(c command) status {
	s := status{Ready: true}
	if err := n.carryOut(c, &s); err != nil {
		return status{Err: err.Error()}
	}
	return s
}

func (n *network) carryOut(c command, s *status) error {
	i, err := n.plan.find(c)
	if err != nil {
		return err
	}
	switch c.Do {
	case publish:
		for _, a := range c.Addrs {
			n.zone.addDNSAddr(c.Name, a)
		}
	case setProfile:
		return n.setProfile(i, c.Profile)
	case rebind:
		return n.restart(i, n.plan.Sites[i].Profile)
	case readdress:
		s.Addr, err = n.readdress(i)
	case unplug, plug:
		return n.cutOff(i, c.Do == unplug)
	case move:
		s.Addr, err = n.move(i, c.Network)
	case traffic:
		s.Traffic, err = n.traffic(i)
	case prove:
		s.Proofs, err = n.prove()
	default:
		err = fmt.Errorf("lab init knows no order %q", c.Do)
	}
	return err
}

// find is the place in Sites of the network that an order is about, or else the
// place in Machines of the host; 0 when it is about neither.
func (p plan) find(c command) (i int, err error) {
	if c.Do == publish || c.Do == prove {
		return 0, nil
	}
	if c.Host == "" {
		return p.site(c.Network)
	}
	if i = slices.IndexFunc(p.Machines, func(m machine) bool { return m.Name == c.Host }); i < 0 {
		err = errors.New("there is no host of this name")
	}
	return i, err
}

// site is the place in Sites of a network.
func (p plan) site(network string) (i int, err error) {
	if i = slices.IndexFunc(p.Sites, func(s site) bool { return s.Name == network }); i < 0 {
		err = errors.New("there is no network of this name that has a router")
	}
	return i, err
}

func (n *network) setProfile(i int, profile string) error {
	prof, err := profileNamed(profile)
	if err != nil {
		return err
	}
	now, err := profileNamed(n.plan.Sites[i].Profile)
	if err != nil {
		return err
	}
	if err := prof.replaces(now, n.plan.Sites[i].LAN6.IsValid()); err != nil {
		return err
	}
	return n.restart(i, profile)
}

// replaces tells why p cannot take the place of the profile that a network has
// now, if it cannot.
func (p Profile) replaces(now Profile, ipv6 bool) error {
	switch {
	case p.public:
		return fmt.Errorf("%s is a network without a router, and this one has one", p.Name)
	case p.ipv6 && !ipv6:
		return fmt.Errorf("%s needs IPv6, and the network was built without it", p.Name)
	case p.draft().carrier != now.draft().carrier, p.nat64 != now.nat64:
		return fmt.Errorf("%s and %s differ in what is behind the router, which stays as it is", p.Name, now.Name)
	case p.Name != now.Name && len(now.services)+len(p.services) > 0:
		return fmt.Errorf("the services of %s and %s start and end with the lab", now.Name, p.Name)
	}
	return nil
}

// restart installs a profile on site i's router, and has it forget every flow:
// what it decided about one under other rules does not count any more.
func (n *network) restart(i int, profile string) error {
	if err := n.install(i, profile); err != nil {
		return err
	}
	n.plan.Sites[i].Profile = profile
	return errors.Join(n.sites[i].forgetFlows(), n.edges[i].forgetFlows())
}

// cutOff makes host i's link lose all frames, or carry them again.
func (n *network) cutOff(i int, dead bool) error {
	m := n.plan.Machines[i]
	if m.Site < 0 {
		n.wires[n.wireOf(i)].flaw.cut.Store(dead)
		return nil
	}
	state := byte(bridgeForwarding)
	if dead {
		state = bridgeDisabled
	}
	return n.sites[m.Site].do(func() error { return setBridgePort(bridgePort(i), state) })
}

// wireOf is the wire of a host without a router: theirs come after the routers',
// in order.
func (n *network) wireOf(host int) int {
	i := len(n.plan.Sites)
	for _, m := range n.plan.Machines[:host] {
		if m.Site < 0 {
			i++
		}
	}
	return i
}

// The states of a bridge's port in <linux/if_bridge.h> that matter here. One that
// is disabled loses all frames, and its other end still has a carrier.
const (
	bridgeDisabled   = 0
	bridgeForwarding = 3
)

// setBridgePort is for a thread inside the router's namespace: "bridge link set
// dev NAME state STATE", for which the netlink library has no call.
func setBridgePort(name string, state byte) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	link := nl.NewIfInfomsg(unix.AF_BRIDGE)
	link.Index = int32(l.Attrs().Index)
	req.AddData(link)
	port := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
	port.AddRtAttr(nl.IFLA_BRPORT_STATE, []byte{state})
	req.AddData(port)
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("set the bridge port %s to state %d: %w", name, state, err)
	}
	return nil
}

func (n *network) traffic(i int) (t Traffic, err error) {
	err = n.hosts[i].edit(func(h *netlink.Handle) error {
		l, err := h.LinkByName(eth0)
		if err != nil {
			return fmt.Errorf("find %s: %w", eth0, err)
		}
		s := l.Attrs().Statistics
		t = Traffic{ReceivedBytes: s.RxBytes, ReceivedPackets: s.RxPackets, SentBytes: s.TxBytes, SentPackets: s.TxPackets}
		return nil
	})
	return t, err
}

// readdress moves the access link of site i to the next /30 of its /16.
func (n *network) readdress(i int) (netip.Addr, error) {
	old := n.plan.Sites[i].Access
	moved, err := old.next()
	if err != nil {
		return netip.Addr{}, err
	}
	nearMAC, coreMAC := accessMACs(i)
	core := coreEnd(i)
	err = n.core.edit(func(h *netlink.Handle) error {
		return errors.Join(delAddr(h, core, netip.PrefixFrom(old.Core, accessBits)),
			configure(h, core, netip.PrefixFrom(moved.Core, accessBits), netip.Addr{}), introduce(h, core, moved.Addr, nearMAC))
	})
	if err != nil {
		return netip.Addr{}, err
	}
	err = n.edges[i].edit(func(h *netlink.Handle) error {
		return errors.Join(delAddr(h, wan, netip.PrefixFrom(old.Addr, accessBits)), // and with it the route
			configure(h, wan, netip.PrefixFrom(moved.Addr, accessBits), moved.Core), introduce(h, wan, moved.Core, coreMAC))
	})
	if err != nil {
		return netip.Addr{}, err
	}
	n.plan.Sites[i].Access = moved
	return moved.Addr, errors.Join(n.routeBlock(i), n.restart(i, n.plan.Sites[i].Profile))
}

// next is the same link with its third byte counted up; IPv6 stays.
func (a access) next() (access, error) {
	near, core := a.Addr.As4(), a.Core.As4()
	near[2]++
	core[2]++
	if near[2] == 0 {
		return access{}, errors.New("the network has had all its 256 addresses")
	}
	a.Addr, a.Core = netip.AddrFrom4(near), netip.AddrFrom4(core)
	return a, nil
}

func delAddr(h *netlink.Handle, name string, addr netip.Prefix) error {
	l, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if err := h.AddrDel(l, &netlink.Addr{IPNet: ipNet(addr)}); err != nil {
		return fmt.Errorf("take the address %s from %s: %w", addr, name, err)
	}
	return nil
}
