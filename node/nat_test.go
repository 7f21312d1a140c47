package node

import (
	"testing"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/wire"
)

func TestTheKindOfNATIsToldFromWhatPeersSee(t *testing.T) {
	const here = "192.168.1.5:4001"
	see := func(seen, peer string) sighting { return sightingFrom(t, here, seen, peer) }
	for name, c := range map[string]struct {
		seen []sighting
		want wire.Mapping
	}{
		"nobody has told":                      {nil, wire.MappingUnknown},
		"one peer is no comparison":            {[]sighting{see("2.2.2.2:4001", "9.9.9.9:1")}, wire.MappingUnknown},
		"one peer twice is none either":        {[]sighting{see("2.2.2.2:4001", "9.9.9.9:1"), see("2.2.2.2:5001", "9.9.9.9:2")}, wire.MappingUnknown},
		"two peers see the same":               {[]sighting{see("2.2.2.2:4001", "9.9.9.9:1"), see("2.2.2.2:4001", "8.8.8.8:1")}, wire.EndpointIndep},
		"two peers see different ports":        {[]sighting{see("2.2.2.2:4001", "9.9.9.9:1"), see("2.2.2.2:4068", "8.8.8.8:1")}, wire.EndpointDep},
		"two peers see different hosts":        {[]sighting{see("2.2.2.2:4001", "9.9.9.9:1"), see("2.2.2.3:4001", "8.8.8.8:1")}, wire.EndpointDep},
		"a peer sees our own address":          {[]sighting{see(here, "9.9.9.9:1")}, wire.NoNAT},
		"different ports of ours tell nothing": {[]sighting{see("2.2.2.2:4001", "9.9.9.9:1"), sightingFrom(t, "192.168.1.5:5000", "2.2.2.2:5000", "8.8.8.8:1")}, wire.MappingUnknown},
	} {
		if got := mapping(c.seen); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func sightingFrom(t *testing.T, local, seen, peer string) sighting {
	t.Helper()
	s, ok := sightingOf(tcpMultiaddr(local), tcpMultiaddr(seen), tcpMultiaddr(peer))
	if !ok {
		t.Fatalf("%s, %s, %s are no addresses", local, seen, peer)
	}
	return s
}

func tcpMultiaddr(hostport string) ma.Multiaddr {
	for i := len(hostport) - 1; ; i-- {
		if hostport[i] == ':' {
			return ma.StringCast("/ip4/" + hostport[:i] + "/tcp/" + hostport[i+1:])
		}
	}
}
