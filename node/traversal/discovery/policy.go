package discovery

import (
	"net/netip"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/worldcompute/wce2e/node/wire"
)

// policy says which addresses of a stranger's we would dial and pass on.
type policy struct {
	private bool // those of private networks and loopback, too
}

// globalUnicast is where public IPv6 hosts are. NAT64's 64:ff9b::/96, which the
// library takes for public, is outside: it would lead to any IPv4 address, our
// own router's included.
var globalUnicast = netip.MustParsePrefix("2000::/3")

// admits tells whether a relay may be at addr. It begins with an IP address: a
// name would be resolved when it is dialled, to whatever its owner wants us to
// dial then. A relay with a certificate for a name has /tls/sni/NAME behind its
// IP address. It does not go through another relay.
func (p policy) admits(addr ma.Multiaddr) bool {
	ip, ok := ipOf(addr)
	if !ok || ip.IsUnspecified() || ip.IsMulticast() || ip.Zone() != "" {
		return false
	}
	switch wire.TransportOf(addr.String()) {
	case "", "circuit":
		return false
	}
	if p.private {
		return true
	}
	return manet.IsPublicAddr(addr) && (ip.Is4() || globalUnicast.Contains(ip))
}

// ipOf is the IP address that a multiaddr begins with.
func ipOf(addr ma.Multiaddr) (netip.Addr, bool) {
	first, _ := ma.SplitFirst(addr)
	if first == nil || first.Code() != ma.P_IP4 && first.Code() != ma.P_IP6 {
		return netip.Addr{}, false
	}
	ip, ok := netip.AddrFromSlice(first.RawValue())
	return ip, ok
}

// filter keeps the admitted ones of addrs. It does not change addrs.
func (p policy) filter(addrs []ma.Multiaddr) []ma.Multiaddr {
	return slices.DeleteFunc(slices.Clone(addrs), func(a ma.Multiaddr) bool { return !p.admits(a) })
}

// of keeps what we would dial of a peer: at most MaxAddrs admitted addresses,
// each once, without /p2p/ID.
func (p policy) of(info peer.AddrInfo) peer.AddrInfo {
	out := peer.AddrInfo{ID: info.ID}
	for _, a := range info.Addrs {
		bare, id := peer.SplitAddr(a)
		if bare == nil || id != "" && id != info.ID || !p.admits(bare) || ma.Contains(out.Addrs, bare) {
			continue
		}
		if out.Addrs = append(out.Addrs, bare); len(out.Addrs) == MaxAddrs {
			break
		}
	}
	return out
}
