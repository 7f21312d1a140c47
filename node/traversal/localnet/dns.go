package localnet

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// resolvConfs are where systems write down the name servers that the network
// told them. Where a resolver of the machine itself stands in the first, the
// others say whom that one asks.
var resolvConfs = []string{
	"/etc/resolv.conf",
	"/run/systemd/resolve/resolv.conf",
	"/run/NetworkManager/no-stub-resolv.conf",
}

// withDNS adds what the network says about names: the servers of a family (or
// of any, for ""), and the search domains. A system that tells none has none.
func (p place) withDNS(f family) place {
	for _, file := range resolvConfs {
		c, err := dns.ClientConfigFromFile(file)
		if err != nil {
			continue
		}
		p.search = append(p.search, c.Search...)
		p.servers = append(p.servers, outside(c.Servers, f)...)
		if len(p.servers) > 0 {
			break
		}
	}
	p.servers, p.search = sorted(p.servers), sorted(p.search)
	return p
}

// Resolvers are the addresses of the name servers that the network told of, those
// of this machine itself left out.
func Resolvers() []string { return place{}.withDNS("").servers }

// outside are the servers that are not this machine.
func outside(servers []string, f family) []string {
	var out []string
	for _, s := range servers {
		a, err := netip.ParseAddr(s)
		if err != nil || a.IsLoopback() || f != "" && !f.of(a) {
			continue
		}
		out = append(out, a.WithZone("").String())
	}
	return out
}

// sorted puts a list in an order that does not depend on who answered first.
func sorted(list []string) []string {
	for i, s := range list {
		list[i] = strings.ToLower(strings.TrimSuffix(s, "."))
	}
	slices.Sort(list)
	return slices.Compact(list)
}
