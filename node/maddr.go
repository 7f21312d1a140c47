package node

import (
	"strings"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/traversal"
	"github.com/worldcompute/wce2e/node/wire"
)

// has tells whether a multiaddr holds a component.
func has(addr ma.Multiaddr, protocol int) bool {
	_, err := addr.ValueForProtocol(protocol)
	return err == nil
}

// transportOf names what an address is reached over, in the words of
// wire.Event; empty when it is none of those.
func transportOf(addr ma.Multiaddr) string { return traversal.TransportName(addr) }

// relayOf is the peer ID of the relay that an address goes through; empty when
// it goes through none.
func relayOf(addr ma.Multiaddr) string {
	if addr == nil || !has(addr, ma.P_CIRCUIT) {
		return ""
	}
	relay := ""
	for _, c := range addr {
		switch c.Protocol().Code {
		case ma.P_P2P:
			relay = c.Value()
		case ma.P_CIRCUIT:
			return relay
		}
	}
	return ""
}

// pathOf tells whether a connection is relayed. The address decides: a relay
// without limits does not mark its circuits as limited.
func pathOf(c network.ConnMultiaddrs) wire.Path {
	if has(c.RemoteMultiaddr(), ma.P_CIRCUIT) {
		return wire.Relayed
	}
	return wire.Direct
}

// connID names a connection of the host's own network: the library numbers
// them from 1 as <start of the peer ID>-<number>.
func connID(c network.Conn) string {
	id := c.ID()
	return "c" + id[strings.LastIndexByte(id, '-')+1:]
}

func strs(addrs []ma.Multiaddr) []string {
	out := make([]string, len(addrs))
	for i, a := range addrs {
		out[i] = a.String()
	}
	return out
}
