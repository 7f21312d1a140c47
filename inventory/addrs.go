package inventory

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	ma "github.com/multiformats/go-multiaddr"
)

// multiaddr reads text as a libp2p address.
func multiaddr(v value, s string) (ma.Multiaddr, bool) {
	if proto, port, bad := badPort(s); bad {
		v.badHint(portHint, "%s is not a %s port", shortenedPort(port), strings.ToUpper(proto))
		return nil, false
	}
	m, err := ma.NewMultiaddr(s)
	if err != nil {
		v.badHint("a multiaddr looks like /ip4/1.2.3.4/tcp/443/tls/ws/p2p/PEER", "%s is not a multiaddr: %s", shortened(s), reason(err))
		return nil, false
	}
	return m, true
}

// badPort finds the first port of a multiaddr that is no port, which the
// library would report as a failure of strconv.
func badPort(s string) (proto, port string, bad bool) {
	parts := strings.Split(s, "/")
	for i := 1; i+1 < len(parts); i++ {
		if parts[i] != "tcp" && parts[i] != "udp" || !allDigits(parts[i+1]) {
			continue
		}
		if _, err := strconv.ParseUint(parts[i+1], 10, 16); err != nil {
			return parts[i], parts[i+1], true
		}
	}
	return "", "", false
}

// reason is the library's error without the address it repeats.
func reason(err error) string {
	_, text, ok := strings.Cut(err.Error(), `": `)
	if !ok {
		text = err.Error()
	}
	return strings.ToValidUTF8(text, "?")
}

// relays reads the relays that are not hosts of the inventory.
func (r *reading) relays(v value) []string {
	list, at := v.texts()
	for i, s := range list {
		m, ok := multiaddr(at[i], s)
		if !ok {
			continue
		}
		if err := relayShape(m); err != nil {
			at[i].badHint("a relay is /ip4/1.2.3.4/tcp/443/tls/ws/p2p/PEER or /dnsaddr/NAME", "%s", err)
		}
		if slices.Index(list, s) < i {
			at[i].bad("is listed already")
		}
	}
	return list
}

var (
	errNoPeer  = errors.New("names no peer, and without one anybody could answer: it must end in /p2p/PEER")
	errCircuit = errors.New("goes through a relay; a relay itself is reached directly")
)

func relayShape(m ma.Multiaddr) error {
	if has(m, ma.P_CIRCUIT) {
		return errCircuit
	}
	last := m[len(m)-1].Protocol().Code
	switch first := m[0].Protocol().Code; first {
	case ma.P_DNSADDR:
		if len(m) > 2 || len(m) == 2 && last != ma.P_P2P {
			return errors.New("a /dnsaddr stands for whole addresses: only /p2p/PEER may follow its name")
		}
		return nil
	case ma.P_IP4, ma.P_IP6, ma.P_DNS, ma.P_DNS4, ma.P_DNS6:
		if !has(m, ma.P_TCP) && !has(m, ma.P_UDP) {
			return errors.New("names no TCP or UDP port")
		}
	default:
		return fmt.Errorf("starts with /%s, which is no place on a network", m[0].Protocol().Name)
	}
	if last != ma.P_P2P {
		return errNoPeer
	}
	return nil
}

// listens reads what a node is to listen on.
func listens(v value) []string {
	list, at := v.texts()
	for i, s := range list {
		m, ok := multiaddr(at[i], s)
		if !ok {
			continue
		}
		first := m[0].Protocol().Code
		switch {
		case first != ma.P_IP4 && first != ma.P_IP6 || len(m) < 2 || !has(m[1:2], ma.P_TCP) && !has(m[1:2], ma.P_UDP):
			at[i].badHint("such as /ip4/0.0.0.0/tcp/4001", "%s is nothing to listen on: it takes an IP address and a port", shortened(s))
		case has(m, ma.P_P2P):
			at[i].bad("a node knows its own peer ID: leave /p2p out")
		case slices.Index(list, s) < i:
			at[i].bad("is listed already")
		case len(m) == 2 && hidesWebSocket(s, list):
			at[i].bad("hides the WebSocket on the same port: dialers then leave that one out")
		}
	}
	return list
}

// hidesWebSocket tells whether raw TCP at s shares its port with a WebSocket.
// go-libp2p's dialer drops the WebSocket of two such addresses.
func hidesWebSocket(s string, list []string) bool {
	return slices.ContainsFunc(list, func(other string) bool {
		return strings.HasPrefix(other, s+"/") && (strings.HasSuffix(other, "/ws") || strings.HasSuffix(other, "/wss"))
	})
}

func has(m ma.Multiaddr, code int) bool {
	return slices.ContainsFunc(m, func(c ma.Component) bool { return c.Protocol().Code == code })
}
