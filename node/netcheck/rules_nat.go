package netcheck

import (
	"net"
	"slices"
)

// How the NAT translates (RFC 4787).

// natPerDestination looks for a socket that two servers see at different addresses:
// the mapping depends on the endpoint (section 4.1), so that nobody can be told where
// to punch a hole.
func natPerDestination(l *look, _ []obstacle) *obstacle {
	for _, seen := range l.sockets() {
		for _, other := range seen[1:] {
			if a, b := seen[0].Facts.Observed, other.Facts.Observed; a != b {
				return shown(NATPerDestination, Certain, nil, idsOf(seen),
					"The NAT gives a socket another %s for everybody it talks to: %s sees it at %s, %s at %s. No hole can be punched, so that jobs go through relays.",
					whatDiffers(a, b), seen[0].Addr, a, other.Addr, b)
			}
		}
	}
	return nil
}

func whatDiffers(a, b string) string {
	if hostOf(a) != hostOf(b) {
		return "address"
	}
	return "port"
}

func hostOf(addr string) string {
	host, _, _ := net.SplitHostPort(addr) // empty of what is no address
	return host
}

// natNoHairpin looks for two sockets that do not reach each other by their outside
// (section 6). It says so only where the outside is one for all: at one that is
// another for everybody, nobody would be found anyway. It is likely and not certain,
// since this machine's own firewall may have dropped what was turned around.
func natNoHairpin(l *look, _ []obstacle) *obstacle {
	tried := l.all(Hairpin)
	if len(tried) == 0 || slices.ContainsFunc(tried, func(r Record) bool { return !silent(r) }) {
		return nil
	}
	for _, seen := range l.sockets() {
		if slices.ContainsFunc(seen[1:], func(r Record) bool { return r.Facts.Observed == seen[0].Facts.Observed }) {
			return shown(NATNoHairpin, Likely, nil, idsOf(slices.Concat(seen, tried)),
				"The NAT turns nothing around: two sockets of this machine do not reach each other by their outside addresses, %s and %s; nor do neighbours.",
				seen[0].Facts.Observed, tried[0].Addr)
		}
	}
	return nil
}

// sockets are what servers saw of each socket, where any did.
func (l *look) sockets() (list [][]Record) {
	at := map[int]int{} // by transaction
	for _, r := range succeeded(l.all(Mapping)) {
		i, known := at[r.Transaction]
		if !known {
			i = len(list)
			at[r.Transaction] = i
			list = append(list, nil)
		}
		list[i] = append(list[i], r)
	}
	return list
}
