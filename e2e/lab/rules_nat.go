//go:build linux

package lab

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// oifname "wan" masquerade
//
// Linux keeps the source port where it is free, so one socket is seen at the
// same address by all it talks to: endpoint-independent mapping (RFC 4787). Any
// other kind of NAT takes its place.
var masquerade = rule{name: "masquerade", does: "hosts are behind the router's address, at one port for all they talk to, who alone get in by it",
	apply: func(f *firewall) { f.hides = true },
	proof: func(t *trial) error {
		return t.translates(func(flows []flow) error { return errors.Join(samePort(flows), t.closed(flows[0])) })
	}}

// oifname "wan" masquerade random
var masqueradeRandom = rule{name: "masquerade-random", does: "every destination sees a host at another port, and it alone gets in by that",
	apply: func(f *firewall) {
		f.translate(nat{"a port drawn for every destination", []expr.Any{&expr.Masq{Random: true}}})
	},
	instead: masquerade.apply,
	proof: func(t *trial) error {
		return t.translates(func(flows []flow) error { return errors.Join(otherPorts(flows), t.closed(flows[0])) })
	}}

// oifname "wan" meta l4proto { tcp, udp } snat to address:first-last
//
// A port that is out of range is mapped to one drawn at random, the same one for
// all destinations: endpoint-independent mapping still. Once the flows are
// forgotten the draw is another.
func toPorts(first, last uint16) rule {
	return rule{name: "snat-ports", does: fmt.Sprintf("hosts are seen at ports %d to %d, one for all that they talk to, drawn anew once flows are forgotten", first, last),
		apply:   func(f *firewall) { f.translate(nat{"a port drawn once", f.snat(first, last, false)}) },
		instead: masquerade.apply,
		proof: func(t *trial) error {
			err := t.translates(func(flows []flow) error {
				return errors.Join(samePort(flows), within(flows, first, last), t.closed(flows[0]))
			})
			return errors.Join(err, t.forgetsPorts())
		}}
}

// oifname "wan" meta l4proto { tcp, udp } snat to address:first-last fully-random
func toRandomPorts(first, last uint16) rule {
	return rule{name: "snat-random-ports", does: fmt.Sprintf("hosts are seen at ports %d to %d, another for every destination", first, last),
		apply: func(f *firewall) {
			f.translate(nat{"few ports, drawn for every destination", f.snat(first, last, true)})
		},
		instead: masquerade.apply,
		proof: func(t *trial) error {
			return t.translates(func(flows []flow) error {
				return errors.Join(otherPorts(flows), within(flows, first, last), t.closed(flows[0]))
			})
		}}
}

// snat names the router's address where masquerade would find it: the library
// does not tell the kernel that masquerade has ports to go to.
func (f *firewall) snat(first, last uint16, random bool) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: f.outside.AsSlice()},
		&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(first)},
		&expr.Immediate{Register: 3, Data: binaryutil.BigEndian.PutUint16(last)},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1,
			RegProtoMin: 2, RegProtoMax: 3, Specified: true, FullyRandom: random},
	}
}

// translate takes n for the router's NAT. There can be one only.
func (f *firewall) translate(n nat) {
	if f.nat.kind != "" && f.nat.kind != n.kind {
		f.err = fmt.Errorf("a router has one kind of NAT, not both %q and %q", f.nat.kind, n.kind)
		return
	}
	f.nat, f.hides = n, true
}

// finishNAT translates IPv4 only: with IPv6 there are addresses for all.
func (f *firewall) finishNAT() {
	if !f.hides {
		return
	}
	chain := f.postrouting()
	if f.nat.how != nil {
		for _, hasPorts := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			f.add(chain, out(wan), family(unix.NFPROTO_IPV4), protocol(hasPorts), f.nat.how)
		}
	}
	f.add(chain, out(wan), family(unix.NFPROTO_IPV4), []expr.Any{&expr.Masq{}})
}

// postrouting is where sources are rewritten. Adding it again changes nothing.
func (f *firewall) postrouting() *nftables.Chain {
	return f.conn.AddChain(&nftables.Chain{Name: "postrouting", Table: f.table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
}
