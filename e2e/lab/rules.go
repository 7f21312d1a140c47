//go:build linux

package lab

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// rule adds one thing to a firewall that a profile is made of. None lets
// anything out that another one stops, so a composed profile stops on its way out
// what any of its parts does. Each comment is the rule as nft writes it.
type rule struct {
	name  string          // by which it is taken out again: "institutional without drop-udp"
	does  string          // what it does to traffic, as a clause
	apply func(*firewall) // nil: it does nothing
	// instead stands in its place where it is left out, so that its proof fails for
	// no other reason. nil: nothing.
	instead func(*firewall)
	// stops are the ports of servers to which flows are dropped, and takes those to
	// which something else happens to them: other rules' proofs do not try these.
	// nil: none.
	stops, takes func(port) bool
	proof        proof // nil: that those ports are dropped, and others pass
	// first has it proven before the profile's other rules, which cannot be seen
	// until it has let somebody in.
	first bool
	// link: it is about the link outside. Others are proven over one that is in order.
	link bool
}

// iifname "lan" meta l4proto udp drop
var dropUDP = rule{name: "drop-udp", does: "UDP is dropped on its way out",
	stops: func(p port) bool { return p.network == "udp" },
	apply: func(f *firewall) { f.outgoing(protocol(unix.IPPROTO_UDP), drop()) }}

// iifname "lan" drop
var dropAll = rule{name: "drop-all", does: "everything is dropped on its way out",
	stops:   func(port) bool { return true },
	apply:   func(f *firewall) { f.outgoing(drop()) },
	instead: masquerade.apply}

// iifname "lan" udp dport 443 drop
func dropUDPTo(number uint16) rule {
	return rule{name: fmt.Sprintf("drop-udp-%d", number), does: fmt.Sprintf("UDP to port %d is dropped", number),
		stops: func(p port) bool { return p == udp(number) },
		apply: func(f *firewall) {
			f.outgoing(protocol(unix.IPPROTO_UDP), destination(expr.CmpOpEq, number), drop())
		}}
}

// iifname "lan" tcp dport != { ports } drop
func onlyTCP(ports ...uint16) rule {
	return rule{name: "only-tcp", does: "TCP is dropped but to ports " + list(ports),
		stops: others("tcp", ports), apply: only(unix.IPPROTO_TCP, ports, drop)}
}

// iifname "lan" udp dport != { ports } drop
func onlyUDP(ports ...uint16) rule {
	return rule{name: "only-udp", does: "UDP is dropped but to ports " + list(ports),
		stops: others("udp", ports), apply: only(unix.IPPROTO_UDP, ports, drop)}
}

// others are all ports of a protocol but these.
func others(network string, ports []uint16) func(port) bool {
	return func(p port) bool { return p.network == network && !slices.Contains(ports, p.number) }
}

func list(ports []uint16) string {
	var words []string
	for _, p := range ports {
		words = append(words, strconv.Itoa(int(p)))
	}
	return strings.Join(words, ", ")
}

// only stops what goes to other ports.
func only(proto byte, ports []uint16, stop func() []expr.Any) func(*firewall) {
	return func(f *firewall) {
		match := protocol(proto)
		for _, p := range ports {
			match = append(match, destination(expr.CmpOpNeq, p)...)
		}
		f.outgoing(match, stop())
	}
}

// iifname "lan" meta l4proto udp reject with icmpx admin-prohibited
var rejectUDP = rule{name: "reject-udp", does: "UDP is refused with an ICMP error",
	takes: func(p port) bool { return p.network == "udp" },
	apply: func(f *firewall) { f.outgoing(protocol(unix.IPPROTO_UDP), adminProhibited()) },
	proof: func(t *trial) error {
		t.saw("UDP is answered with %q", unix.EHOSTUNREACH)
		return t.refusesUDP(4001)
	}}

// iifname "lan" tcp dport != { ports } reject with tcp reset
func rejectOtherTCP(ports ...uint16) rule {
	refused := others("tcp", ports)
	return rule{name: "reject-tcp", does: "TCP is refused with a reset but to ports " + list(ports),
		takes: refused, apply: only(unix.IPPROTO_TCP, ports, reset),
		proof: func(t *trial) error { return t.onlyRefuses(refused) }}
}

// iifname "lan" th dport { 53, 853 } drop, on its way through and to the router
var dropNames = rule{name: "drop-names", does: "TCP and UDP to ports 53 and 853 is dropped, to the router as well",
	stops: isForNames, apply: dropToNames,
	proof: func(t *trial) error {
		if err := t.onlyDrops(isForNames); err != nil {
			return err
		}
		for _, network := range []string{"udp", "tcp"} {
			if a, err := t.ask(network, t.router.at(53), t.name, dns.TypeA, silence); !timedOut(err) {
				return fmt.Errorf("the router's resolver over %s is not silent: %s %v", network, a, err)
			}
		}
		t.saw("the router's resolver is silent")
		return nil
	}}

func isForNames(p port) bool { return p.number == 53 || p.number == 853 }

func dropToNames(f *firewall) {
	for _, proto := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
		for _, number := range []uint16{53, 853} {
			match := slices.Concat(protocol(proto), destination(expr.CmpOpEq, number), drop())
			f.outgoing(match)
			f.arriving(match)
		}
	}
}

// meta nfproto ipv6 drop
var dropIPv6 = rule{name: "drop-ipv6", does: "IPv6 is dropped in both directions",
	apply: func(f *firewall) { f.passing(family(unix.NFPROTO_IPV6), drop()) },
	proof: func(t *trial) error {
		if _, err := t.dial(t.host6, 0, t.router6.at(4001), answerWait); !isRefused(err) {
			return fmt.Errorf("the router is not there over IPv6: %w", orConnects(err))
		}
		t.saw("over IPv6 the router is there, and nothing behind it")
		return errors.Join(t.unanswered(t.host6, t.server6, tcp(4001)), t.unanswered(t.host6, t.server6, udp(4001)),
			t.unanswered(t.server6, t.host6, tcp(4001)))
	}}

// A link that carries IP packets of at most so many bytes. What is longer gets
// lost on the wire behind the router, which tells nobody; a router whose own
// link is that short would send the ICMP error that is missing here.
func linkOf(bytes int) rule {
	return rule{name: "short-link", does: fmt.Sprintf("IP packets of more than %d bytes vanish", bytes), apply: func(f *firewall) {
		if f.maxPacket == 0 || bytes < f.maxPacket {
			f.maxPacket = bytes
		}
	}, proof: func(t *trial) error { return t.swallowsLongPackets(bytes) }}
}

// UDP flows are forgotten when nothing has passed for so long.
func idleUDP(d time.Duration) rule {
	return rule{name: "idle-udp", does: fmt.Sprintf("UDP flows are forgotten after %s of silence", d),
		apply: func(f *firewall) { f.idleUDP = tighter(f.idleUDP, f.timer(d)) },
		proof: func(t *trial) error {
			return t.forgets("udp", t.timer(d), func(f flow) error { return f.far.lost(f.near, "an answer") })
		}}
}

// TCP flows are forgotten when nothing has passed for so long; what then still
// comes is in no flow: ct state invalid drop. Neither end is told.
func idleTCP(d time.Duration) rule {
	return rule{name: "idle-tcp", does: fmt.Sprintf("TCP flows are forgotten after %s of silence, and neither end is told", d),
		apply: func(f *firewall) {
			f.idleTCP = tighter(f.idleTCP, f.timer(d))
			f.dropInvalid = true
		},
		proof: func(t *trial) error { return t.forgets("tcp", t.timer(d), flow.dead) }}
}

// synproxy: the router answers a SYN itself, with a cookie, and dials on when
// the host has proven to be there.
var synProxy = rule{name: "syn-proxy", does: "the router answers every SYN itself", apply: func(f *firewall) { f.synProxy = true },
	proof: (*trial).connectsToTheDead}

// finishSYNProxy comes after the profile's other rules, so that ports that are
// closed do not connect.
//
//	prerouting: iifname "lan" tcp flags & (syn | ack) == syn notrack
//	forward: meta l4proto tcp ct state invalid,untracked synproxy mss 1460
//	forward: ct state invalid drop
//
// Without timestamps, and so without the options that cookies keep in them: in
// the handshake's last packet synproxy echoes a timestamp that the server never
// sent, and Linux 6.18 takes no such packet (measured: a server that speaks first
// waited until the client spoke).
func (f *firewall) finishSYNProxy() {
	tcp := protocol(unix.IPPROTO_TCP)
	raw := f.conn.AddChain(&nftables.Chain{Name: "raw", Table: f.table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw})
	f.add(raw, in(lan), tcp, bitsAt(expr.PayloadBaseTransportHeader, tcpFlags, flagSYN|flagACK, flagSYN), []expr.Any{&expr.Notrack{}})
	f.outgoing(tcp, state(expr.CtStateBitINVALID|expr.CtStateBitUNTRACKED),
		[]expr.Any{&expr.SynProxy{Mss: 1460}})
	f.passing(state(expr.CtStateBitINVALID), drop())
}
