//go:build linux

package lab

import (
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// rule adds one thing to a firewall that a profile is made of. Rules on what
// hosts send stand before the one that lets established flows pass, so a flow
// can be cut at any of its packets. Each comment is the rule as nft writes it.
type rule func(*firewall)

// iifname "wan" ... oifname "wan" masquerade
//
// Linux keeps the source port where it is free, so one socket is seen at the
// same address by all it talks to: endpoint-independent mapping (RFC 4787).
func masquerade(f *firewall) { f.snat(&expr.Masq{}) }

// oifname "wan" masquerade random
func masqueradeRandom(f *firewall) { f.snat(&expr.Masq{Random: true}) }

// iifname "lan" meta l4proto udp drop
func dropUDP(f *firewall) { f.outgoing(protocol(unix.IPPROTO_UDP), drop()) }

// iifname "lan" drop
func dropAll(f *firewall) { f.outgoing(drop()) }

// iifname "lan" tcp dport != { ports } drop
func onlyTCP(ports ...uint16) rule {
	return func(f *firewall) {
		match := protocol(unix.IPPROTO_TCP)
		for _, p := range ports {
			match = append(match, destination(expr.CmpOpNeq, p)...)
		}
		f.outgoing(match, drop())
	}
}

// multistreamHeader is how every libp2p connection over TCP begins, from both
// ends, before any encryption: a length and "/multistream/1.0.0\n", as much of
// it as one register holds.
const multistreamHeader = "\x13/multistream/1."

// swallowed marks a flow that is not let through any more.
const swallowed = 1

// ct mark 1 drop; @ih,0,128 "..." ct mark set 1 drop
//
// Both directions are looked at: a listener may speak first.
func swallow(opening string) rule {
	return func(f *firewall) {
		f.passing([]expr.Any{
			&expr.Ct{Register: 1, Key: expr.CtKeyMARK},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(swallowed)},
		}, drop())
		f.passing(protocol(unix.IPPROTO_TCP), []expr.Any{
			&expr.Payload{DestRegister: 1, Base: payloadInner, Offset: 0, Len: uint32(len(opening))},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(opening)},
			&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(swallowed)},
			&expr.Ct{Register: 1, Key: expr.CtKeyMARK, SourceRegister: true},
		}, drop())
	}
}

// payloadInner is what follows the transport header (NFT_PAYLOAD_INNER_HEADER,
// Linux 5.16).
const payloadInner expr.PayloadBase = 3

// The interfaces of a router.
const (
	wan = "wan"
	lan = "lan"
)

// firewall is the rule set of one router while it is being put together.
type firewall struct {
	conn        *nftables.Conn
	table       *nftables.Table
	input       *nftables.Chain // to the router itself
	forward     *nftables.Chain // through it
	postrouting *nftables.Chain
}

// newFirewall begins with chains that drop what no rule lets through. Dropping
// in the router's own input matters: otherwise a host's unsolicited packet to
// the router's address takes the port that the peer's NAT needs, and hole
// punching fails (measured: 4001 remapped to 4068).
func newFirewall(conn *nftables.Conn) *firewall {
	f := &firewall{conn: conn}
	f.table = conn.AddTable(&nftables.Table{Name: "lab", Family: nftables.TableFamilyIPv4})
	deny := nftables.ChainPolicyDrop
	chain := func(name string, hook *nftables.ChainHook) *nftables.Chain {
		return conn.AddChain(&nftables.Chain{Name: name, Table: f.table, Type: nftables.ChainTypeFilter,
			Hooknum: hook, Priority: nftables.ChainPriorityFilter, Policy: &deny})
	}
	f.input = chain("input", nftables.ChainHookInput)
	f.forward = chain("forward", nftables.ChainHookForward)
	f.postrouting = conn.AddChain(&nftables.Chain{Name: "postrouting", Table: f.table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	return f
}

// finish lets pass what the profile's own rules have not stopped.
func (f *firewall) finish() error {
	f.add(f.input, established(), accept())
	f.add(f.input, in(lan), accept())
	f.add(f.forward, established(), accept())
	f.add(f.forward, in(lan), accept())
	return f.conn.Flush()
}

func (f *firewall) add(c *nftables.Chain, parts ...[]expr.Any) {
	f.conn.AddRule(&nftables.Rule{Table: f.table, Chain: c, Exprs: slices.Concat(parts...)})
}

func (f *firewall) snat(how expr.Any) { f.add(f.postrouting, out(wan), []expr.Any{how}) }

func (f *firewall) outgoing(parts ...[]expr.Any) {
	f.add(f.forward, append([][]expr.Any{in(lan)}, parts...)...)
}

func (f *firewall) passing(parts ...[]expr.Any) { f.add(f.forward, parts...) }

func drop() []expr.Any   { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }
func accept() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }

func in(name string) []expr.Any  { return interfaceIs(expr.MetaKeyIIFNAME, name) }
func out(name string) []expr.Any { return interfaceIs(expr.MetaKeyOIFNAME, name) }

func interfaceIs(key expr.MetaKey, name string) []expr.Any {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: padded}}
}

func protocol(number byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{number}}}
}

// destination compares the port that TCP and UDP keep at offset 2.
func destination(op expr.CmpOp, port uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: op, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
	}
}

func established() []expr.Any {
	const bits = expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED
	return []expr.Any{
		&expr.Ct{Register: 1, Key: expr.CtKeySTATE},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}
