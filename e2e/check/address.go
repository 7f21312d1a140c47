package check

import (
	"net/netip"
	"slices"

	ma "github.com/multiformats/go-multiaddr"
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
	var protocols []string
	for _, c := range m {
		name := c.Protocol().Name
		protocols = append(protocols, name)
		switch name {
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
	a.transport = transportOf(protocols)
	return a, true
}

func transportOf(protocols []string) string {
	has := func(name string) bool { return slices.Contains(protocols, name) }
	switch {
	case has("p2p-circuit"):
		return "circuit"
	case has("webtransport"):
		return "webtransport"
	case has("quic-v1"):
		return "quic-v1"
	case has("wss"), has("tls") && has("ws"):
		return "wss"
	case has("ws"):
		return "ws"
	case has("tcp"):
		return "tcp"
	}
	return ""
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
