package names

import (
	"net/netip"
	"slices"
	"strings"

	manet "github.com/multiformats/go-multiaddr/net"
)

// looksMadeUp tells whether an answer is of the kind that captive portals and
// filters give instead of the true one. Where one address of several is public
// it is not: operators publish private ones by mistake.
func looksMadeUp(q question, values []string) bool {
	switch {
	case isLocal(q.name):
		return false
	case q.kind == IP:
		return !slices.ContainsFunc(values, isPublic)
	case strings.HasPrefix(q.name, "_dnsaddr."):
		return !slices.ContainsFunc(values, func(v string) bool { return strings.HasPrefix(v, "dnsaddr=") })
	}
	return false
}

func isPublic(text string) bool {
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return false
	}
	a, err := manet.FromIP(ip.AsSlice())
	return err == nil && manet.IsPublicAddr(a)
}
