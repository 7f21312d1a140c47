//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// What becomes of packets that a host sends to the public address of its own
// network (hairpinning: RFC 4787, section 6). The router itself refuses them
// unless a rule says otherwise, as most do: it has nobody at that port.

// turnsNothingAround tells whether neighbours who know each other's public side do
// not reach each other by it, and whether that can be seen: they have one at all
// that is the same for everybody, and UDP leaves the network.
func (p Profile) turnsNothingAround() bool {
	f := p.draft()
	hidden := slices.ContainsFunc(p.Truth.Causes, func(c Cause) bool {
		return slices.Contains([]Cause{AllBlocked, UDPBlocked, ProxyRequired, CaptivePortal, NATPerDestination, IPv4ByTranslation}, c)
	})
	return f.hides && !f.hairpin && !hidden
}

// Whoever is behind the router finds the others by their public addresses, and is
// seen by them at its own. Strangers outside stay out.
var hairpin = rule{name: "hairpin", does: "hosts reach each other by the public side of their mappings",
	apply: func(f *firewall) { f.hairpin = true },
	proof: func(t *trial) error {
		neighbour := t.hosts[len(t.hosts)-1]
		return t.translates(func(flows []flow) error {
			f := flows[0]
			return errors.Join(samePort(flows), t.letIn(f, neighbour, t.freePort()), t.turnsAround(f, neighbour))
		})
	}}

// turnsAround is nil when what a neighbour sends to the outside of a mapping
// comes from the neighbour's own outside, and so does the answer. It asks UDP.
func (t *trial) turnsAround(f flow, neighbour place) error {
	if f.near.packet == nil {
		return nil
	}
	other, err := t.packets(neighbour, t.freePort(), f.far.peer)
	if err != nil {
		return err
	}
	if err := other.write("who am I?"); err != nil {
		return err
	}
	_, from, err := f.near.read(answerWait)
	if want := netip.AddrPortFrom(t.egress, other.local().Port()); err != nil || from != want {
		return fmt.Errorf("the host sees its neighbour at %s, want %s (%v)", from, want, err)
	}
	t.saw("a neighbour is seen at %s", from)
	back := *f.near
	back.peer = from
	return back.says(other, "an answer")
}

// iifname "lan" ip daddr ROUTER drop
// iifname "lan" ip daddr BLOCK drop
var dropHairpin = rule{name: "drop-hairpin", does: "what hosts send to the network's own public addresses is dropped",
	apply: func(f *firewall) {
		f.arriving(goesTo(f.outside), drop())
		if f.block.IsValid() {
			f.arriving(inNetwork(ipDestination, f.block), drop())
		}
	},
	proof: func(t *trial) error {
		for _, network := range []string{"tcp", "udp"} {
			if err := t.unansweredAt(t.host, t.host, t.freePort(), network, t.egress); err != nil {
				return fmt.Errorf("%s from inside to %s: %w", network, t.egress, err)
			}
		}
		t.saw("TCP and UDP from inside to %s vanish", t.egress)
		return nil
	}}
