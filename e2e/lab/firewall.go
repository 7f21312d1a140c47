//go:build linux

package lab

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The interfaces of a router.
const (
	wan = "wan"
	lan = "lan"
)

// tableName is of the one table that a router's rules are in.
const tableName = "lab"

// firewall is the rule set of one router while it is being put together. Its
// table is of the family inet: what a rule stops, it stops over IPv4 and IPv6.
type firewall struct {
	conn *nftables.Conn // holds what was added until it is sent, all at once
	surroundings
	table   *nftables.Table
	input   *nftables.Chain // to the router itself
	forward *nftables.Chain // through it

	// What rules may ask for more than once, or in any order; finish makes it.
	denies        bool          // what comes in unasked is dropped
	hides         bool          // hosts are behind the router's address
	nat           nat           // and how, where it is not the plain way
	holes         bool          // its mappings are open to others
	holesForPeers bool          // but only to hosts that were sent something
	hairpin       bool          // its mappings are open to the inside
	addressEach   bool          // every host has a public address of its own
	needsBlock    bool          // hosts are seen at other addresses than the router's
	forwards      bool          // a port of the router is a host's
	carrier       bool          // the router is behind one of its provider's
	lifetime      time.Duration // of a flow, busy or not; 0 means for ever
	flowLimit     int           // of one host; 0 means any number
	synProxy      bool          // the router answers SYNs
	redirects     bool          // the router takes connections for itself
	dropInvalid   bool          // what conntrack finds in no flow
	idleUDP       time.Duration // when a silent flow is forgotten; 0 means the kernel's default
	idleTCP       time.Duration
	marks         uint32  // conntrack marks in use
	link                  // what the one outside is like, beyond what the inventory says
	watches       []watch // what a box in it looks for
	proving       bool    // timers are cut to provingTimer
	err           error   // what cannot be, such as two kinds of NAT
}

// surroundings are the addresses that a router has to do with.
type surroundings struct {
	outside netip.Addr   // its own on wan
	block   netip.Prefix // further public ones that are routed to it
	inside  netip.Prefix // its own on lan, and its network
}

// nat is a kind of address translation.
type nat struct {
	kind string
	how  []expr.Any
}

// newFirewall begins with chains that let everything pass.
func newFirewall(conn *nftables.Conn, s surroundings) *firewall {
	f := &firewall{conn: conn, surroundings: s}
	table := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	conn.AddTable(table) // so that there is one to delete; all of it is one transaction
	conn.DelTable(table)
	f.table = conn.AddTable(table)
	filter := func(name string, hook *nftables.ChainHook) *nftables.Chain {
		return conn.AddChain(&nftables.Chain{Name: name, Table: f.table, Type: nftables.ChainTypeFilter,
			Hooknum: hook, Priority: nftables.ChainPriorityFilter})
	}
	f.input = filter("input", nftables.ChainHookInput)
	f.forward = filter("forward", nftables.ChainHookForward)
	return f
}

// finish adds what has its place after or before the profile's own rules: those
// have said what is stopped, and what is left passes from the inside, and from
// the outside as an answer.
func (f *firewall) finish() {
	f.add(f.input, established(), accept())
	f.add(f.input, in(lan), accept())
	f.add(f.input, protocol(unix.IPPROTO_ICMPV6), accept()) // IPv6 finds its neighbours by it
	if f.synProxy {
		f.finishSYNProxy()
	}
	if f.dropInvalid {
		f.add(f.forward, state(expr.CtStateBitINVALID), drop())
	}
	if f.lifetime > 0 {
		f.finishLifetime()
	}
	if f.flowLimit > 0 {
		f.finishFlowLimit()
	}
	if f.holes || f.hairpin {
		f.finishHoles()
	}
	f.add(f.forward, established(), accept())
	f.add(f.forward, in(lan), accept())
	if f.denies {
		f.add(f.input, drop())
		f.add(f.forward, drop())
	}
	f.finishNAT()
}

// contradict finds what no network can be, whatever the order of its rules.
func (f *firewall) contradict() {
	switch {
	case f.err != nil:
	case f.carrier && f.needsBlock:
		f.err = errors.New("a router behind its provider's has one address, not several")
	case f.carrier && f.hairpin:
		f.err = errors.New("the public side of mappings is the provider's, where this router cannot turn anything around")
	case f.lifetime > 0 && f.synProxy:
		f.err = errors.New("the age of a flow cannot be told where the router answers every SYN itself")
	case f.redirects && f.synProxy:
		f.err = errors.New("connections that the router takes for itself never come about where it answers every SYN in others' place")
	case (f.addressEach || f.forwards || f.hairpin) && !f.inside.IsValid():
		f.err = errors.New("its hosts have no IPv4 addresses that the router could send anything to")
	case f.hairpin && f.nat.how != nil:
		f.err = fmt.Errorf("%s: no host can be found at its port from the inside", f.nat.kind)
	}
}

// install sets the rules of p in a router's namespace, in place of those that
// were there.
func (p Profile) install(router netNS, s surroundings, proving bool) (*firewall, error) {
	conn, err := nftables.New(nftables.WithNetNSFd(router.fd))
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	f := newFirewall(conn, s)
	f.proving = proving
	p.apply(f)
	f.finish()
	if f.err != nil {
		return nil, fmt.Errorf("make the firewall rules of profile %s: %w", p.Name, f.err)
	}
	if err := f.conn.Flush(); err != nil {
		return nil, fmt.Errorf("set the firewall rules of profile %s over netlink: %w", p.Name, err)
	}
	if err := router.do(f.setTimers); err != nil {
		return nil, fmt.Errorf("set the timers of profile %s: %w", p.Name, err)
	}
	return f, nil
}

// apply asks f for all that b's rules do.
func (b build) apply(f *firewall) {
	for _, r := range b.rules {
		if r.apply != nil {
			r.apply(f)
		}
	}
	f.contradict()
}

// draft has b's rules applied to a firewall that is never sent: what they ask of
// the network around the router is known before there is one.
func (b build) draft() *firewall {
	anywhere := site{Access: nthAccess(0, false)}
	if !b.nat64 {
		anywhere.LAN = nthLAN(0)
	}
	f := newFirewall(new(nftables.Conn), anywhere.surroundings())
	b.apply(f)
	return f
}

// timer is how long something lasts of which a rule says that it lasts d: d, or
// less where proofs wait for it.
func (f *firewall) timer(d time.Duration) time.Duration {
	if f.proving {
		return min(d, provingTimer)
	}
	return d
}

// setTimers sets conntrack's timers in the calling thread's namespace, to their
// defaults where the profile has none of its own: others may have been there
// before. It comes after the rules, which load conntrack where it is a module.
func (f *firewall) setTimers() error {
	udp, tcp, loose := cmp.Or(f.idleUDP, 30*time.Second), cmp.Or(f.idleTCP, 5*24*time.Hour), "1"
	stream := cmp.Or(f.idleUDP, 120*time.Second)
	if f.dropInvalid || f.synProxy {
		loose = "0" // a flow that was forgotten, or never shook hands, is not picked up in its middle
	}
	seconds := func(d time.Duration) string { return strconv.Itoa(int(d.Seconds())) }
	const conntrack = "net/netfilter/nf_conntrack_"
	return errors.Join(
		sysctl(conntrack+"udp_timeout", seconds(udp)),
		sysctl(conntrack+"udp_timeout_stream", seconds(stream)),
		sysctl(conntrack+"tcp_timeout_established", seconds(tcp)),
		sysctl(conntrack+"tcp_loose", loose),
	)
}

func (f *firewall) add(c *nftables.Chain, parts ...[]expr.Any) {
	f.conn.AddRule(&nftables.Rule{Table: f.table, Chain: c, Exprs: slices.Concat(parts...)})
}

func (f *firewall) addSet(s *nftables.Set) {
	if err := f.conn.AddSet(s, nil); err != nil {
		f.err = fmt.Errorf("add the set %s: %w", s.Name, err)
	}
}

// outgoing adds a rule on what hosts send out, arriving one on what they send to
// the router itself, passing one on either direction. They stand before the rule
// that lets established flows pass, so a flow can be cut at any of its packets.
func (f *firewall) outgoing(parts ...[]expr.Any) { f.add(f.forward, in(lan), slices.Concat(parts...)) }
func (f *firewall) arriving(parts ...[]expr.Any) { f.add(f.input, in(lan), slices.Concat(parts...)) }
func (f *firewall) passing(parts ...[]expr.Any)  { f.add(f.forward, parts...) }

func drop() []expr.Any   { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }
func accept() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }

// reset answers a TCP segment as if its receiver had refused it.
func reset() []expr.Any { return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}} }

// prohibited answers with the ICMP error of a firewall that does not hide.
func adminProhibited() []expr.Any {
	return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}}
}

func in(name string) []expr.Any  { return interfaceIs(expr.MetaKeyIIFNAME, name) }
func out(name string) []expr.Any { return interfaceIs(expr.MetaKeyOIFNAME, name) }

func interfaceIs(key expr.MetaKey, name string) []expr.Any {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: padded}}
}

// family is unix.NFPROTO_IPV4 or NFPROTO_IPV6.
func family(number byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{number}}}
}

func protocol(number byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{number}}}
}

// Where things are in the headers: of IPv4, and of TCP and UDP alike.
const (
	ipSource        = 12
	ipDestination   = 16
	sourcePort      = 0
	destinationPort = 2
)

// destination compares the port that a packet goes to.
func destination(op expr.CmpOp, port uint16) []expr.Any {
	return append(load(expr.PayloadBaseTransportHeader, destinationPort, 2, 1),
		&expr.Cmp{Op: op, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)})
}

// bytesAt compares what stands at an offset from base, such as a transport header.
func bytesAt(base expr.PayloadBase, offset uint32, want string) []expr.Any {
	return append(load(base, offset, len(want), 1), &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(want)})
}

// bitsAt compares those bits of one byte that mask has.
func bitsAt(base expr.PayloadBase, offset uint32, mask, want byte) []expr.Any {
	return append(load(base, offset, 1, 1),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{mask}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{want}})
}

func load(base expr.PayloadBase, offset uint32, bytes int, register uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: register, Base: base, Offset: offset, Len: uint32(bytes)}}
}

func established() []expr.Any { return state(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED) }

// state asks whether conntrack has put a packet in one of the states.
func state(bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Register: 1, Key: expr.CtKeySTATE},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}
