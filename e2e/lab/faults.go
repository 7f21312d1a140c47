//go:build linux

package lab

import (
	"fmt"
	"strings"

	"github.com/worldcompute/wce2e/inventory"
)

// CheckFaults reports, as inventory.Problems, the faults that the inventory's lab
// cannot carry out. It knows what Check knows beyond the inventory's own package:
// which profiles there are, and which networks have a router.
func CheckFaults(inv *inventory.Inventory) error {
	var ps inventory.Problems
	if inv.Lab == nil {
		return nil
	}
	for _, f := range inv.Faults {
		ps = append(ps, faultProblems(inv, f)...)
	}
	return ps.Err()
}

func faultProblems(inv *inventory.Inventory, f inventory.Fault) (ps inventory.Problems) {
	bad := func(field, hint, format string, args ...any) {
		p := inv.Problem(f.Line, "faults."+field, fmt.Sprintf(format, args...))
		p.Hint = hint
		ps = append(ps, p)
	}
	router := func(field, network string) {
		if network != "" && hasNoRouter(inv.Lab, network) {
			bad(field, "", "the network %s has no router: its hosts have public addresses", network)
		}
	}
	router("network", f.Network)
	router("to", f.To)
	if f.Do == inventory.Roam {
		router("host", networkOf(inv, f.Host))
	}
	if f.Profile == "" {
		return ps
	}
	if to, err := profileNamed(f.Profile); err != nil {
		bad("profile", "there are "+strings.Join(profileNames(), ", ")+", and a + b is both", "%s", err)
	} else if now := profileOf(inv.Lab, f.Network); !now.public {
		if err := to.replaces(now, now.ipv6); err != nil {
			bad("profile", "", "%s", err)
		}
	}
	return ps
}

// networkOf is the lab's network that a host of the inventory is in at first.
func networkOf(inv *inventory.Inventory, host string) string {
	for _, h := range inv.Hosts {
		for _, l := range inv.Lab.Hosts {
			if h.Name == host && h.SSH == l.Name {
				return l.Network
			}
		}
	}
	return ""
}

// profileOf is the profile that a network has at first; the zero one where it is
// not known.
func profileOf(l *inventory.Lab, network string) (p Profile) {
	for _, n := range l.Networks {
		if n.Name == network {
			p, _ = profileNamed(n.Profile)
		}
	}
	return p
}

func hasNoRouter(l *inventory.Lab, network string) bool { return profileOf(l, network).public }
