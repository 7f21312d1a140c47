//go:build linux

package lab

import (
	"errors"
	"fmt"
	"slices"
)

// What networks do besides their profiles' own rules.

// base are the rules that every profile of this kind begins with.
func (b build) base() []rule {
	if b.public {
		return []rule{reachable}
	}
	if b.ipv6 && !slices.ContainsFunc(b.rules, func(r rule) bool { return r.name == dropIPv6.name }) {
		return []rule{denyInbound, ownIPv6}
	}
	return []rule{denyInbound}
}

// Dropping in the router's own input matters: otherwise a host's unsolicited
// packet to the router's address takes the port that the peer's NAT needs, and
// hole punching fails (measured: 4001 remapped to 4068).
var denyInbound = rule{name: "deny-inbound", does: "what comes in unasked is dropped, to the router as well",
	apply: func(f *firewall) { f.denies = true },
	proof: func(t *trial) error {
		for _, network := range []string{"tcp", "udp"} {
			if err := t.unansweredAt(t.stranger, t.host, t.freePort(), network, t.egress); err != nil {
				return fmt.Errorf("%s to the network's address: %w", network, err)
			}
			if !t.profile.ipv6 {
				continue
			}
			if err := t.unanswered(t.server6, t.host6, port{network, t.freePort()}); err != nil {
				return fmt.Errorf("%s to the host's IPv6 address: %w", network, err)
			}
		}
		t.saw("TCP and UDP from outside to where the host listens is lost")
		return nil
	}}

// ownIPv6 needs no rule: routers translate IPv4 only.
var ownIPv6 = rule{name: "ipv6", does: "hosts have IPv6 addresses of their own, at which the internet sees them",
	proof: func(t *trial) error {
		for _, from := range []port{tcp(4001), udp(4001)} {
			f, err := t.openFrom(t.host6, t.server6, from)
			if err != nil {
				return fmt.Errorf("%s over IPv6: %w", from, err)
			}
			if f.far.peer.Addr() != t.host6.addr {
				return fmt.Errorf("%s over IPv6 comes from %s, and not from %s", from, f.far.peer, t.host6.addr)
			}
		}
		t.saw("TCP and UDP over IPv6 come from %s", t.host6.addr)
		return nil
	}}

// reachable needs no rule either: nothing is in between.
var reachable = rule{name: "public", does: "hosts have addresses at which everybody reaches them",
	proof: func(t *trial) error {
		for _, p := range []port{tcp(4001), udp(4001)} {
			in, err1 := t.openFrom(t.stranger, t.host, p)
			out, err2 := t.openFrom(t.host, t.server, p)
			if err := errors.Join(err1, err2); err != nil {
				return fmt.Errorf("%s: %w", p, err)
			}
			if in.far.peer.Addr() != t.stranger.addr || out.far.peer.Addr() != t.host.addr {
				return fmt.Errorf("%s from %s and %s: somebody translates", p, in.far.peer, out.far.peer)
			}
		}
		t.saw("TCP and UDP pass in both directions, and addresses stay")
		return nil
	}}
