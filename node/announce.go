package node

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// announcer decides which addresses other peers are told.
type announcer struct {
	relay    bool
	domain   string       // a relay's name; empty: none
	announce []netip.Addr // --announce: where the machine is reached

	mu       sync.Mutex // guards the field below
	circuits []ma.Multiaddr
}

func newAnnouncer(cfg Config) (*announcer, error) {
	a := &announcer{relay: cfg.Relay, domain: cfg.ACME.Domain}
	for _, s := range cfg.Announce {
		ip, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("announce %q: not an IP address", s)
		}
		a.announce = append(a.announce, ip)
	}
	return a, nil
}

func (a *announcer) setCircuits(addrs []ma.Multiaddr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.circuits = addrs
}

// addrs is the host's AddrsFactory: direct are the addresses of interfaces, of
// NAT mappings and those that peers have observed. Circuit addresses among them
// are the library's copies of our own, and would be rewritten by elsewhere.
func (a *announcer) addrs(direct []ma.Multiaddr) []ma.Multiaddr {
	direct = ma.FilterAddrs(slices.Clone(direct), func(a ma.Multiaddr) bool { return !has(a, ma.P_CIRCUIT) && !isTunnel(a) })
	out := dropLocal(direct)
	if len(a.announce) > 0 {
		out = a.elsewhere(direct)
	}
	if a.relay {
		out = a.named(preferPublic(out))
	}
	out = unshadowed(out)
	a.mu.Lock()
	defer a.mu.Unlock()
	return append(out, a.circuits...)
}

// named adds the name's addresses to those by IP: behind an inspector that
// verifies certificates, they are the ones that work. What the name points to
// is up to its DNS.
func (a *announcer) named(addrs []ma.Multiaddr) []ma.Multiaddr {
	if a.domain == "" {
		return addrs
	}
	var out []ma.Multiaddr
	for _, addr := range addrs {
		ip, rest := ma.SplitFirst(addr)
		if t := transportOf(addr); ip == nil || t != "wss" {
			continue
		}
		family := "dns4"
		if ip.Protocol().Code == ma.P_IP6 {
			family = "dns6"
		}
		name, err := ma.NewComponent(family, a.domain)
		if err == nil {
			out = append(out, ma.Join(name.Multiaddr(), rest))
		}
	}
	return append(ma.Unique(out), addrs...)
}

// dropLocal takes away what only this machine or link can use, unless there is
// nothing else. On another machine, such an address leads to whoever listens
// there.
func dropLocal(addrs []ma.Multiaddr) []ma.Multiaddr {
	out := ma.FilterAddrs(slices.Clone(addrs), func(a ma.Multiaddr) bool {
		return !manet.IsIPLoopback(a) && !manet.IsIP6LinkLocal(a)
	})
	if len(out) == 0 {
		return slices.Clone(addrs)
	}
	return out
}

// preferPublic takes away private addresses where there are public ones: whoever
// needs a relay is not on its network.
func preferPublic(addrs []ma.Multiaddr) []ma.Multiaddr {
	public := ma.FilterAddrs(slices.Clone(addrs), manet.IsPublicAddr)
	if len(public) == 0 {
		return addrs
	}
	return public
}

// elsewhere puts the announced IPs in the place of the machine's own.
func (a *announcer) elsewhere(addrs []ma.Multiaddr) []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, addr := range addrs {
		first, rest := ma.SplitFirst(addr)
		if first == nil || (first.Protocol().Code != ma.P_IP4 && first.Protocol().Code != ma.P_IP6) {
			continue
		}
		for _, ip := range a.announce {
			name := "ip4"
			if ip.Is6() {
				name = "ip6"
			}
			c, err := ma.NewComponent(name, ip.String())
			if err == nil && name == first.Protocol().Name {
				out = append(out, ma.Join(c.Multiaddr(), rest))
			}
		}
	}
	return ma.Unique(out)
}

// unshadowed takes away raw TCP where WebSocket or HTTP is on the same IP and
// port: the library's dialer, given both, would never try the WebSocket
// (filterLowPriorityAddresses), which is what passes firewalls.
func unshadowed(addrs []ma.Multiaddr) []ma.Multiaddr {
	web := map[string]bool{}
	for _, a := range addrs {
		if t := transportOf(a); t == "ws" || t == "wss" {
			web[hostPort(a)] = true
		}
	}
	return slices.DeleteFunc(addrs, func(a ma.Multiaddr) bool {
		return transportOf(a) == "tcp" && web[hostPort(a)]
	})
}

// hostPort is where an address leads, without the protocols spoken there.
func hostPort(a ma.Multiaddr) string {
	bare, _ := ma.SplitFunc(a, func(c ma.Component) bool {
		switch c.Protocol().Code {
		case ma.P_IP4, ma.P_IP6, ma.P_DNS, ma.P_DNS4, ma.P_DNS6, ma.P_TCP, ma.P_UDP:
			return false
		}
		return true
	})
	return bare.String()
}

// isTunnel tells whether a is the last resort beside a WebSocket address, which
// whoever needs it can put together: swarms take it for raw TCP, and would never
// dial the WebSocket for its sake.
func isTunnel(a ma.Multiaddr) bool {
	t := transportOf(a)
	return t == "http" || t == "https"
}
