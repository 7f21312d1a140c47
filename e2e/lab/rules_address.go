//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// NAT to other addresses than the router's own: those of the block that the
// internet routes to every network.

// poolSize is how many addresses a pool has, the router's own among them.
const poolSize = 4

// oifname "wan" snat ip to numgen inc mod 4 map { 0 : ROUTER, 1 : ..., 3 : ... }
//
// Each flow takes the next address of the pool, and keeps its port: mapping that
// depends on the endpoint not by port, but by address ("arbitrary" pooling in RFC
// 4787, section 4.1). In turn, not at random, so that a run can be repeated.
var addressPool = rule{name: "address-pool", does: fmt.Sprintf("every flow is seen at the next one of %d addresses", poolSize),
	apply: func(f *firewall) {
		f.needsBlock = true
		pool := &nftables.Set{Table: f.table, Name: "pool", IsMap: true, KeyType: nftables.TypeInteger, DataType: nftables.TypeIPAddr}
		if err := f.conn.AddSet(pool, f.pool()); err != nil {
			f.err = fmt.Errorf("add the map %s: %w", pool.Name, err)
			return
		}
		f.translate(nat{"an address of a pool for every flow", []expr.Any{
			&expr.Numgen{Register: 1, Modulus: poolSize, Type: unix.NFT_NG_INCREMENTAL},
			&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: pool.Name, SetID: pool.ID},
			&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1},
		}})
	},
	instead: masquerade.apply,
	proof: func(t *trial) error {
		ways, err := t.ways()
		if err != nil {
			return err
		}
		for _, p := range ways {
			flows, err := t.mapping(p, t.servers[:poolSize]...)
			if err != nil {
				return err
			}
			if err := t.pooled(flows); err != nil {
				return fmt.Errorf("%s: %w", p, err)
			}
		}
		return nil
	}}

// pooled is nil when every server sees the host at another address, the router's
// own among them, but at one port, and nobody else gets in by that.
func (t *trial) pooled(flows []flow) error {
	var seen []netip.Addr
	for _, at := range seenAt(flows) {
		if at.Port() != flows[0].near.local().Port() {
			return fmt.Errorf("%s is seen as %s, at another port", flows[0].near.local(), at)
		}
		seen = append(seen, at.Addr())
	}
	slices.SortFunc(seen, netip.Addr.Compare)
	seen = slices.Compact(seen)
	if len(seen) != len(flows) || !slices.Contains(seen, t.egress) {
		return fmt.Errorf("%d servers see %s at %v, %s is to be one of as many", len(flows), flows[0].near.local(), seen, t.egress)
	}
	t.saw("%s is seen at %v", flows[0].near.local(), seen)
	return errors.Join(flows[0].alive(), t.closed(flows[0]))
}

// pool are the addresses by number: the router's, and the first of the block.
func (f *firewall) pool() []nftables.SetElement {
	var all []nftables.SetElement
	at, next := f.outside, f.block.Addr().Next()
	for i := range uint32(poolSize) {
		all = append(all, nftables.SetElement{Key: binaryutil.NativeEndian.PutUint32(i), Val: at.AsSlice()})
		at, next = next, next.Next()
	}
	return all
}

// oifname "wan" ip saddr LAN snat ip prefix to BLOCK
// iifname "wan" ip daddr BLOCK dnat ip prefix to LAN
//
// Every host is seen at an address of its own, which ends in the same byte. What
// comes in to it is translated, and then dropped if it is no answer.
var addressEach = rule{name: "address-each", does: "every host is seen at a public address of its own, at its own ports",
	apply: func(f *firewall) {
		f.needsBlock, f.addressEach = true, true
		if !f.inside.IsValid() {
			return // there is no host to give one to, which is a contradiction
		}
		f.translate(nat{"an address for every host", append(f.fromInside(), swapPrefix(expr.NATTypeSourceNAT, f.block)...)})
		f.add(f.prerouting(), in(wan), inNetwork(ipDestination, f.block), swapPrefix(expr.NATTypeDestNAT, f.inside.Masked()))
	},
	instead: masquerade.apply,
	proof: func(t *trial) error {
		p, err := t.way("udp")
		if err != nil {
			p, err = t.way("tcp")
		}
		if err != nil {
			return err
		}
		f, err := t.openFrom(place{t.router.ns, netip.IPv4Unspecified()}, t.server, p)
		if err != nil {
			return fmt.Errorf("%s of the router itself: %w", p, err)
		}
		if f.far.peer.Addr() == t.egress {
			return fmt.Errorf("the router itself is seen at the host's %s", t.egress)
		}
		t.saw("the router is seen at %s, the host at %s", f.far.peer.Addr(), t.egress)
		t.close() // and have the server's port free
		return t.translates(func(flows []flow) error { return errors.Join(samePort(flows), t.closed(flows[0])) })
	}}

// swapPrefix gives an address another prefix, and leaves its last bits.
func swapPrefix(kind expr.NATType, to netip.Prefix) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: to.Addr().AsSlice()},
		&expr.Immediate{Register: 2, Data: lastOf(to).AsSlice()},
		&expr.NAT{Type: kind, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegAddrMax: 2, Prefix: true},
	}
}

// lastOf is the highest address of an IPv4 network of 24 bits.
func lastOf(p netip.Prefix) netip.Addr {
	last := p.Addr().As4()
	last[3] = 0xff
	return netip.AddrFrom4(last)
}

// inNetwork matches IPv4 packets whose source or destination is in a network.
func inNetwork(offset uint32, p netip.Prefix) []expr.Any {
	return slices.Concat(family(unix.NFPROTO_IPV4), load(expr.PayloadBaseNetworkHeader, offset, p.Bits()/8, 1),
		[]expr.Any{&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()[:p.Bits()/8]}})
}

// goesTo matches IPv4 packets to one address.
func goesTo(addr netip.Addr) []expr.Any {
	return inNetwork(ipDestination, netip.PrefixFrom(addr, addr.BitLen()))
}

// snatTo has packets come from an address.
func snatTo(addr netip.Addr) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: addr.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1},
	}
}

func (f *firewall) fromInside() []expr.Any { return inNetwork(ipSource, f.inside) }

// letIn has a port open to the internet, of hosts that it can address.
//
// iifname "wan" ct status dnat th dport PORT accept
func letIn(number uint16) rule {
	return rule{name: "let-in", does: fmt.Sprintf("TCP and UDP to port %d of a host get in unasked", number),
		apply: func(f *firewall) { f.accept(number) },
		proof: func(t *trial) error { return t.getsIn(number) }}
}

// iifname "wan" ip daddr ROUTER th dport PORT dnat ip to HOST
// iifname "wan" ct status dnat th dport PORT accept
func forwardPort(number uint16) rule {
	return rule{name: "forward-port", does: fmt.Sprintf("TCP and UDP to port %d of the router go to the network's first host", number),
		apply: func(f *firewall) {
			f.forwards = true
			for _, p := range portProtocols {
				f.add(f.prerouting(), in(wan), goesTo(f.outside), protocol(p), destination(expr.CmpOpEq, number), []expr.Any{
					&expr.Immediate{Register: 1, Data: f.inside.Addr().Next().AsSlice()},
					&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1},
				})
			}
			f.accept(number)
		},
		proof: func(t *trial) error { return t.getsIn(number) }}
}

var portProtocols = []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP}

// accept lets in what goes to a port of a host that the router has found.
func (f *firewall) accept(number uint16) {
	for _, p := range portProtocols {
		f.add(f.forward, in(wan), translatedIn(), protocol(p), destination(expr.CmpOpEq, number), accept())
	}
}

// getsIn is nil when somebody outside can begin flows to a port of the host.
func (t *trial) getsIn(number uint16) error {
	at := netip.AddrPortFrom(t.front, number)
	l, err := t.listen(t.host, number)
	if err != nil {
		return err
	}
	if _, err := t.dial(t.outer, 0, at, answerWait); err != nil {
		return err
	}
	if _, err := t.accept(l, answerWait); err != nil {
		return err
	}
	near, err1 := t.packets(t.host, number, netip.AddrPort{})
	far, err2 := t.packets(t.outer, 0, at)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	t.saw("TCP and UDP from %s to %s arrive unasked", t.outer.addr, at)
	return far.says(near, "unasked")
}
