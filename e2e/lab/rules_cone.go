//go:build linux

package lab

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// NAT whose mappings are open to more than the destination they were made for
// (RFC 4787, section 5: endpoint-independent and address-dependent filtering).
// Conntrack knows flows only, so the mappings stand in nftables' own maps.

// holeLife is how long a mapping lasts after the last packet sent through it, as
// RFC 4787 recommends.
const holeLife = 5 * time.Minute

// Whoever sends to the outside port of a mapping gets through.
var fullCone = rule{name: "full-cone", does: "whoever sends to the outside of a mapping gets in", apply: func(f *firewall) {
	f.translate(nat{kind: "mappings open to all"})
	f.holes = true
}, instead: masquerade.apply, proof: func(t *trial) error { return t.hasHoles(false) }}

// Of those who send to it, the hosts get through to which the inside has sent
// something, from whatever port.
var addressRestricted = rule{name: "address-restricted", does: "hosts that were sent something get in, from any port", apply: func(f *firewall) {
	f.translate(nat{kind: "mappings open to peers"})
	f.holes, f.holesForPeers = true, true
}, instead: masquerade.apply, proof: func(t *trial) error { return t.hasHoles(true) }}

// finishHoles comes after the profile's other rules, so that what is stopped on
// its way out makes no mapping.
//
//	forward: iifname "lan" update @peers { ip saddr . ip daddr }
//	forward: iifname "lan" meta l4proto udp update @udp { th sport : ip saddr }
//	prerouting: iifname "wan" meta l4proto udp dnat ip to th dport map @udp
//	forward: ct status dnat ip daddr . ip saddr @peers accept
//
// and the same for TCP. The outside port is the inside one, as masquerade keeps
// it. For hosts behind the same router, if mappings are open to them:
//
//	prerouting: iifname "lan" ip daddr ROUTER meta l4proto udp dnat ip to th dport map @udp
//	postrouting: oifname "lan" ip saddr LAN ct status dnat snat ip to ROUTER
func (f *firewall) finishHoles() {
	ipv4 := family(unix.NFPROTO_IPV4)
	passes := translatedIn()
	if f.holesForPeers {
		peers := &nftables.Set{Table: f.table, Name: "peers", KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeIPAddr),
			Concatenation: true, Dynamic: true, HasTimeout: true, Timeout: f.timer(holeLife)}
		f.addSet(peers)
		f.outgoing(ipv4, load(expr.PayloadBaseNetworkHeader, ipSource, 8, 1), // and the destination behind it
			[]expr.Any{&expr.Dynset{Operation: unix.NFT_DYNSET_OP_UPDATE, SrcRegKey: 1, SetName: peers.Name, SetID: peers.ID}})
		passes = append(passes, load(expr.PayloadBaseNetworkHeader, ipDestination, 4, unix.NFT_REG32_00)...)
		passes = append(passes, load(expr.PayloadBaseNetworkHeader, ipSource, 4, unix.NFT_REG32_01)...)
		passes = append(passes, &expr.Lookup{SourceRegister: unix.NFT_REG32_00, SetName: peers.Name, SetID: peers.ID})
	}
	inbound := f.conn.AddChain(&nftables.Chain{Name: "prerouting", Table: f.table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest})
	for name, number := range map[string]byte{"udp": unix.IPPROTO_UDP, "tcp": unix.IPPROTO_TCP} {
		holes := &nftables.Set{Table: f.table, Name: name, IsMap: true, KeyType: nftables.TypeInetService, DataType: nftables.TypeIPAddr,
			Dynamic: true, HasTimeout: true, Timeout: f.timer(holeLife)}
		f.addSet(holes)
		f.outgoing(ipv4, protocol(number),
			load(expr.PayloadBaseTransportHeader, sourcePort, 2, 1), load(expr.PayloadBaseNetworkHeader, ipSource, 4, 2),
			[]expr.Any{&expr.Dynset{Operation: unix.NFT_DYNSET_OP_UPDATE, SrcRegKey: 1, SrcRegData: 2, SetName: holes.Name, SetID: holes.ID}})
		enter := slices.Concat(protocol(number), load(expr.PayloadBaseTransportHeader, destinationPort, 2, 1), []expr.Any{
			&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: holes.Name, SetID: holes.ID},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1},
		})
		if f.holes {
			f.add(inbound, in(wan), ipv4, enter)
		}
		if f.hairpin {
			f.add(inbound, in(lan), goesTo(f.outside), enter)
		}
	}
	if f.holes {
		f.add(f.forward, in(wan), passes, accept())
	}
	if f.hairpin {
		f.add(f.postrouting(), out(lan), f.fromInside(), translatedIn(), snatTo(f.outside))
	}
}

// translatedIn asks whether conntrack has given a flow another destination.
func translatedIn() []expr.Any {
	const dnat = 1 << 5 // IPS_DST_NAT of <linux/netfilter/nf_conntrack_common.h>
	return []expr.Any{
		&expr.Ct{Register: 1, Key: expr.CtKeySTATUS},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(dnat), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// hasHoles is nil when a mapping lets others in, until nothing has been sent
// through it for a while. Those are all, or the other ports of peers.
func (t *trial) hasHoles(forPeersOnly bool) error {
	return t.translates(func(flows []flow) error {
		f, p := flows[0], port{flows[0].network(), flows[0].near.peer.Port()}
		// Answers to those who come in pass to ports that the profile lets out.
		other, err := t.way(p.network, p)
		if err != nil {
			return err
		}
		err = t.letIn(f, t.server, other.number)
		if forPeersOnly {
			err = errors.Join(err, t.shut(f, t.stranger))
		} else {
			err = errors.Join(err, t.letIn(f, t.stranger, p.number))
		}
		if err = errors.Join(samePort(flows), err, t.pause(t.timer(holeLife)+time.Second)); err != nil {
			return err
		}
		if err := t.shut(f, t.server); err != nil {
			return fmt.Errorf("after %s of silence: %w", t.timer(holeLife)+time.Second, err)
		}
		return nil
	})
}
