package node

import (
	"net/netip"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/worldcompute/wce2e/node/wire"
)

// sighting is our address as one peer sees it, beside what it is here.
type sighting struct {
	local, seen, peer netip.AddrPort
}

// sightingOf is false where one of the three is no IP and port.
func sightingOf(local, seen, remote ma.Multiaddr) (sighting, bool) {
	s := sighting{addrPort(local), addrPort(seen), addrPort(remote)}
	return s, s.local.IsValid() && s.seen.IsValid() && s.peer.IsValid()
}

func addrPort(a ma.Multiaddr) netip.AddrPort {
	bare, _ := ma.SplitFunc(a, func(c ma.Component) bool {
		code := c.Protocol().Code
		return code != ma.P_IP4 && code != ma.P_IP6 && code != ma.P_TCP && code != ma.P_UDP
	})
	_, hostport, err := manet.DialArgs(bare)
	if err != nil {
		return netip.AddrPort{}
	}
	p, err := netip.ParseAddrPort(hostport)
	if err != nil {
		return netip.AddrPort{}
	}
	return p
}

// mapping tells what kind of NAT peers show us, from sightings over one
// transport. Two peers have to see the same local port for a word about it.
func mapping(sightings []sighting) wire.Mapping {
	kind := wire.MappingUnknown
	for i, a := range sightings {
		if a.local == a.seen {
			return wire.NoNAT
		}
		for _, b := range sightings[i+1:] {
			if a.local.Port() != b.local.Port() || a.peer.Addr() == b.peer.Addr() || a.seen.Addr().Is4() != b.seen.Addr().Is4() {
				continue
			}
			if a.seen != b.seen {
				return wire.EndpointDep
			}
			kind = wire.EndpointIndep
		}
	}
	return kind
}
