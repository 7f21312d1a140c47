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
	proof: func(t *trial) error {
		near, err := t.packets(t.host, 4001, netip.AddrPort{})
		if err != nil {
			return err
		}
		var seen []netip.Addr
		for i := range 2 * poolSize {
			far, err := t.packets(t.server, 4001+uint16(i), netip.AddrPort{})
			if err != nil {
				return err
			}
			near.peer = t.server.at(4001 + uint16(i))
			if err := (flow{near, far}).hello(); err != nil {
				return err
			}
			if far.peer.Port() != 4001 {
				return fmt.Errorf("port 4001 is seen as %s", far.peer)
			}
			seen = append(seen, far.peer.Addr())
		}
		slices.SortFunc(seen, netip.Addr.Compare)
		seen = slices.Compact(seen)
		t.saw("one socket is seen at %v by %d others", seen, 2*poolSize)
		if len(seen) != poolSize || !slices.Contains(seen, t.egress) {
			return fmt.Errorf("a socket is seen at %v, which are not %d addresses with %s among them", seen, poolSize, t.egress)
		}
		return nil
	}}

// pool are the addresses by number: the router's, and the first of the block.
func (f *firewall) pool() []nftables.SetElement {
	addr, all := f.block.Addr(), []nftables.SetElement{}
	for i := range uint32(poolSize) {
		at := addr
		if i == 0 {
			at = f.outside
		}
		all = append(all, nftables.SetElement{Key: binaryutil.NativeEndian.PutUint32(i), Val: at.AsSlice()})
		addr = addr.Next()
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
		f.translate(nat{"an address for every host", append(f.fromInside(), swapPrefix(expr.NATTypeSourceNAT, f.block)...)})
		f.add(f.prerouting(), in(wan), within(ipDestination, f.block), swapPrefix(expr.NATTypeDestNAT, f.inside.Masked()))
	},
	proof: func(t *trial) error {
		if shared := t.egress.As4(); shared[3] != t.host.addr.As4()[3] {
			return fmt.Errorf("%s is to be seen at %s, which is not its own", t.host.addr, t.egress)
		}
		for _, number := range []uint16{443, 4001} {
			f, err := t.datagramsFrom(t.host, 4001, t.server, number)
			if err != nil {
				return err
			}
			if f.far.peer != netip.AddrPortFrom(t.egress, 4001) {
				return fmt.Errorf("port 4001 of the host is seen as %s, want %s", f.far.peer, t.egress)
			}
			f.near.packet.Close()
		}
		t.saw("port 4001 is seen at %s, whoever is asked", netip.AddrPortFrom(t.egress, 4001))
		return nil
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
	if !p.IsValid() {
		return netip.Addr{}
	}
	last := p.Addr().As4()
	last[3] = 0xff
	return netip.AddrFrom4(last)
}

// within matches IPv4 packets whose source or destination is in a network.
func within(offset uint32, p netip.Prefix) []expr.Any {
	return slices.Concat(family(unix.NFPROTO_IPV4), load(expr.PayloadBaseNetworkHeader, offset, p.Bits()/8, 1),
		[]expr.Any{&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()[:p.Bits()/8]}})
}

// goesTo matches IPv4 packets to one address.
func goesTo(addr netip.Addr) []expr.Any {
	return within(ipDestination, netip.PrefixFrom(addr, addr.BitLen()))
}

// snatTo has packets come from an address.
func snatTo(addr netip.Addr) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: addr.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1},
	}
}

func (f *firewall) fromInside() []expr.Any { return within(ipSource, f.inside) }

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

// getsIn is nil when the server can begin a flow to a port of the host, and to
// no other one.
func (t *trial) getsIn(number uint16) error {
	l, err := t.listen(t.host, number)
	if err != nil {
		return err
	}
	at := netip.AddrPortFrom(t.egress, number)
	if _, err := t.dial(t.server, 0, at, answerWait); err != nil {
		return err
	}
	if _, err := t.accept(l, answerWait); err != nil {
		return err
	}
	near, err1 := t.packets(t.host, number, netip.AddrPort{})
	far, err2 := t.packets(t.server, 0, at)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if err := far.says(near, "unasked"); err != nil {
		return err
	}
	t.saw("TCP and UDP to %s come in", at)
	if _, err := t.listen(t.host, number+1); err != nil {
		return err
	}
	if _, err := t.dial(t.server, 0, netip.AddrPortFrom(t.egress, number+1), silence); !timedOut(err) {
		return fmt.Errorf("the port above it is not closed silently: %w", orConnects(err))
	}
	return nil
}
