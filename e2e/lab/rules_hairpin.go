//go:build linux

package lab

import (
	"fmt"
	"net/netip"
)

// What becomes of packets that a host sends to the public address of its own
// network (hairpinning: RFC 4787, section 6). The router itself refuses them
// unless a rule says otherwise, as most do: it has nobody at that port.

// Whoever is behind the router finds the others by their public addresses, and is
// seen by them at its own. Strangers outside stay out.
var hairpin = rule{name: "hairpin", does: "hosts reach each other by the public side of their mappings",
	apply: func(f *firewall) { f.hides, f.hairpin = true, true },
	proof: func(t *trial) error {
		neighbour := t.hosts[len(t.hosts)-1] // with a single host, it is its own
		a, err := t.datagramsFrom(t.host, 0, t.server, 4001)
		if err != nil {
			return err
		}
		b, err := t.datagramsFrom(neighbour, 0, t.second, 4001)
		if err != nil {
			return err
		}
		a.near.peer, b.near.peer = b.far.peer, a.far.peer
		if err := (flow{a.near, b.near}).alive(); err != nil {
			return err
		}
		if err := a.near.write("who am I?"); err != nil {
			return err
		}
		_, from, err := b.near.read(answerWait)
		if err == nil && from != a.far.peer {
			err = fmt.Errorf("the other host sees it at %s, want %s", from, a.far.peer)
		}
		if err != nil {
			return err
		}
		t.saw("what is sent to %s arrives inside, from %s", b.far.peer, a.far.peer)
		return nil
	}}

// iifname "lan" ip daddr ROUTER drop
// iifname "lan" ip daddr BLOCK drop
var dropHairpin = rule{name: "drop-hairpin", does: "what hosts send to the network's own public addresses is dropped",
	apply: func(f *firewall) {
		f.arriving(goesTo(f.outside), drop())
		f.arriving(within(ipDestination, f.block), drop())
	},
	proof: func(t *trial) error {
		at := netip.AddrPortFrom(t.egress, 4001)
		if _, err := t.dial(t.host, 0, at, silence); !timedOut(err) {
			return fmt.Errorf("TCP from inside to %s is not dropped silently: %w", at, orConnects(err))
		}
		near, err := t.packets(t.host, 4001, at)
		if err != nil {
			return err
		}
		t.saw("TCP and UDP from inside to %s vanish", at)
		return near.lost(near, "is that me?")
	}}
