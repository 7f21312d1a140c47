//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"
)

// move takes host i to another network, and returns where it is seen from outside.
func (n *network) move(i int, network string) (netip.Addr, error) {
	m, err := n.plan.moved(i, network)
	if err != nil {
		return netip.Addr{}, err
	}
	if err := n.pullOut(i); err != nil {
		return netip.Addr{}, err
	}
	n.plan.Machines[i] = m
	// The interface that comes finds its namespace as if it had booted there.
	if err := n.hosts[i].do(func() error { return baseSysctls(m.Addr6.IsValid()) }); err != nil {
		return netip.Addr{}, err
	}
	// What names the host is there before the host can notice that it has moved.
	if err := n.rename(i); err != nil {
		return netip.Addr{}, err
	}
	return n.plan.egress(m), n.plugIn(i)
}

// moved is host i in another network: with the first address there that nobody
// has, so that one who comes back finds its old one, as from most DHCP servers.
func (p plan) moved(i int, network string) (machine, error) {
	m := p.Machines[i]
	if m.Site < 0 {
		return m, errors.New("it has a public address and a cable of its own")
	}
	to, err := p.site(network)
	if err != nil {
		return m, err
	}
	if m.Site == to {
		return m, errors.New("it is there already")
	}
	s := p.Sites[to]
	m = machine{Name: m.Name, HostKey: m.HostKey, Network: s.Name, Profile: s.Profile, Site: to}
	const most = 253 // in a /24 with a router
	for nth := range most {
		m.behind(s, nth+1)
		if !slices.ContainsFunc(p.Machines, func(other machine) bool { return other.Addr == m.Addr }) {
			return m, nil
		}
	}
	return m, fmt.Errorf("all of its %d addresses are taken", most)
}

// pullOut takes away host i's interface, and with it the other end of the link.
func (n *network) pullOut(i int) error {
	return n.hosts[i].edit(func(h *netlink.Handle) error {
		l, err := h.LinkByName(eth0)
		if err != nil {
			return fmt.Errorf("find %s: %w", eth0, err)
		}
		if err := h.LinkDel(l); err != nil {
			return fmt.Errorf("take %s away: %w", eth0, err)
		}
		return nil
	})
}

// rename writes the files by which host i finds itself and others. They are on a
// file system that only the host's processes have, so the way to it is theirs.
func (n *network) rename(i int) error {
	m := n.plan.Machines[i]
	e, err := n.equipment(m)
	if err != nil {
		return err
	}
	etc := fmt.Sprintf("/proc/%d/root/etc", n.inits[i])
	return errors.Join(
		replace(filepath.Join(etc, "hosts"), m.etcHosts(n.plan.Zone)),
		replace(filepath.Join(etc, "resolv.conf"), resolvConf(m.Resolver, e.Search)))
}

// replace writes a file anew in one step, for whoever reads it meanwhile.
func replace(path, text string) error {
	fresh := path + ".new"
	if err := os.WriteFile(fresh, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}
