package check

import (
	"net/netip"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/wire"
)

// address is a multiaddr taken apart, as far as a verdict asks.
type address struct {
	ip        netip.Addr // of its first component; invalid for a name
	port      string     // TCP or UDP
	transport string     // in the words of node/wire: tcp, quic-v1, webtransport, ws, wss, circuit
	relay     string     // peer ID before /p2p-circuit; empty when direct
	peer      string     // peer ID at the end; empty when it names none
}

// parseAddr takes a multiaddr apart; ok is false for what is none.
func parseAddr(s string) (a address, ok bool) {
	m, err := ma.NewMultiaddr(s)
	if err != nil {
		return a, false
	}
	for _, c := range m {
		switch c.Protocol().Name {
		case "ip4", "ip6":
			if !a.ip.IsValid() {
				a.ip, _ = netip.ParseAddr(c.Value()) // a multiaddr holds none but valid ones
				a.ip = a.ip.Unmap()
			}
		case "tcp", "udp":
			if a.port == "" {
				a.port = c.Value()
			}
		case "p2p":
			a.peer = c.Value()
		case "p2p-circuit":
			a.relay, a.peer = a.peer, ""
		}
	}
	a.transport = wire.TransportOf(m.String())
	return a, true
}

// family is an IP version, ip4 or ip6; empty where the address names no IP.
func (a address) family() string { return family(a.ip) }

func family(ip netip.Addr) string {
	switch {
	case !ip.IsValid():
		return ""
	case ip.Is4():
		return "ip4"
	}
	return "ip6"
}

// hostPort is how people write where an address leads.
func (a address) hostPort() string {
	if !a.ip.IsValid() {
		return "port " + a.port
	}
	if a.ip.Is6() {
		return "[" + a.ip.String() + "]:" + a.port
	}
	return a.ip.String() + ":" + a.port
}
