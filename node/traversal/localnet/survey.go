package localnet

import (
	"net/netip"
	"slices"
)

// survey is what the system says about its network at one moment. Loopback,
// links that are down and link-local addresses are left out.
type survey struct {
	links []link
	ways  []way // at most one of each family, IPv4 first
}

// link is an interface that can carry something to somewhere.
type link struct {
	name  string
	index int
	addrs []netip.Prefix // an address each, with the length of its subnet
}

// way is where packets for the internet go, as the system decides it: policy
// rules, metrics and the half-default routes of VPNs (0/1, 128/1) included.
type way struct {
	family  family
	link    string
	index   int          // of the link
	gateway netip.Addr   // not valid when the link itself leads out, as a tunnel does
	subnet  netip.Prefix // of the address that is left from; not valid when unknown
}

type family string

const (
	ipv4 family = "IPv4"
	ipv6 family = "IPv6"
)

// of tells whether an address is of the family.
func (f family) of(a netip.Addr) bool { return a.Unmap().Is4() == (f == ipv4) }

// Somewhere on the internet, to ask the system how it would go there; nothing
// is sent. These are a.root-servers.net.
var somewhere = map[family]netip.Addr{
	ipv4: netip.MustParseAddr("198.41.0.4"),
	ipv6: netip.MustParseAddr("2001:503:ba3e::2:30"),
}

// facts are the survey in words, sorted, to be compared with those of a later
// one.
func (s survey) facts() []string {
	var out []string
	for _, l := range s.links {
		out = append(out, "link "+l.name)
		for _, a := range l.addrs {
			out = append(out, "address "+a.String()+" on "+l.name)
		}
	}
	for _, w := range s.ways {
		by := w.link
		if w.gateway.IsValid() {
			by = w.gateway.String() + " on " + w.link
		}
		out = append(out, string(w.family)+" default route by "+by)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
