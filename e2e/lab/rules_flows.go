//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Rules that look at a flow's age and number: firewalls that tell of what they
// have forgotten, that end flows however busy they are, or that count them.

// TCP flows are forgotten as by idleTCP, but what then still comes is answered:
//
//	forward: ct state invalid meta l4proto tcp reject with tcp reset
//	input: iifname "wan" ct state invalid meta l4proto tcp reject with tcp reset
//
// In input as well, since what comes from outside and is in no flow goes to the
// router itself.
func idleReset(d time.Duration) rule {
	return rule{name: "idle-reset", does: fmt.Sprintf("TCP flows are forgotten after %s of silence, and what then still comes is answered with a reset", d),
		apply: func(f *firewall) {
			f.idleTCP = shorter(f.idleTCP, f.timer(d))
			f.dropInvalid = true
			match := slices.Concat(state(expr.CtStateBitINVALID), protocol(unix.IPPROTO_TCP), reset())
			f.passing(match)
			f.add(f.input, in(wan), match)
		},
		proof: func(t *trial) error {
			near, err1 := t.stream(443)
			far, err2 := t.stream(4001)
			young, err3 := t.stream(80)
			if err := errors.Join(err1, err2, err3, near.alive(), far.alive()); err != nil {
				return err
			}
			if err := errors.Join(t.pause(t.timer(d)/2), young.alive(), t.pause(t.timer(d)/2+timerSlack)); err != nil {
				return err
			}
			t.saw("after %s of silence either end that speaks is reset", t.timer(d))
			return errors.Join(near.near.wantsReset(), far.far.wantsReset())
		}}
}

// timerSlack is how much later than it should a timer may fire: conntrack counts
// in whole seconds.
const timerSlack = 1500 * time.Millisecond

// wantsReset is nil when an end is reset for what it says.
func (e *end) wantsReset() error {
	if err := e.write("still there?"); err != nil {
		return err
	}
	if got, _, err := e.read(answerWait); !isReset(err) {
		return fmt.Errorf("the %s speaks, and is not reset: it reads %.40q, %w", e.name, got, orNothing(err))
	}
	return nil
}

func orNothing(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
}

// Every flow is dropped at a certain age, however busy it is: those of firewalls
// and balancers that count from the first packet. TCP begins anew with a
// handshake, from whatever port. UDP has no such thing: its flow begins anew once
// it has been dead for so long that QUIC, which waits for 30 s, has given up.
func lifetime(d time.Duration) rule {
	return rule{name: "lifetime", does: fmt.Sprintf("every TCP and UDP flow is dropped at an age of %s, however busy it is", d),
		apply: func(f *firewall) { f.lifetime = shorter(f.lifetime, f.timer(d)) },
		proof: func(t *trial) error {
			d := t.timer(d)
			born := time.Now()
			tcp, err1 := t.open(port{"tcp", 4001})
			udp, err2 := t.open(port{"udp", 4001})
			last := time.Now()
			if err := errors.Join(err1, err2); err != nil {
				return err
			}
			for time.Since(born) < d/2 {
				if err := errors.Join(tcp.alive(), udp.alive(), t.pause(d/8)); err != nil {
					return fmt.Errorf("at an age of %s, and not %s: %w", time.Since(born), d, err)
				}
			}
			if err := t.pause(time.Until(last.Add(d))); err != nil {
				return err
			}
			if err := errors.Join(udp.near.lost(udp.far, "too old"), tcp.near.lost(tcp.far, "too old")); err != nil {
				return fmt.Errorf("at an age of %s: %w", time.Since(born), err)
			}
			t.saw("a TCP and a UDP flow that were never silent for long are dead at %s, and new ones pass", d)
			return t.passes(port{"tcp", 443}, port{"udp", 443})
		}}
}

// afterlife is how long a UDP flow stays dead.
const afterlife = time.Minute

// finishLifetime comes after what the profile's other rules stop:
//
//	tcp flags & (syn | ack) == syn update @young { ct id } update @known { ct id }
//	meta l4proto udp ct state new, and the same
//	ct id @known ct id != @young drop
//	ct id != @known meta l4proto tcp ct state established drop
//	ct id != @known meta l4proto udp, and as above
//
// A flow is in both sets at first, and leaves young when it dies and known when it
// may live again. Conntrack's id of a flow is the same in both directions, NAT or not.
func (f *firewall) finishLifetime() {
	young, known := f.timedSet("young", f.lifetime), f.timedSet("known", f.lifetime+f.timer(afterlife))
	id := []expr.Any{&expr.Ct{Register: 1, Key: unix.NFT_CT_ID}}
	born := slices.Concat(id, update(young), update(known))
	f.passing(protocol(unix.IPPROTO_TCP), bitsAt(expr.PayloadBaseTransportHeader, tcpFlags, flagSYN|flagACK, flagSYN), born)
	f.passing(protocol(unix.IPPROTO_UDP), state(expr.CtStateBitNEW), born)
	f.passing(id, contained(known, true), contained(young, false), drop())
	f.passing(protocol(unix.IPPROTO_TCP), state(expr.CtStateBitESTABLISHED), id, contained(known, false), drop())
	f.passing(protocol(unix.IPPROTO_UDP), id, contained(known, false), born)
}

// Of TCP's header: where the flags are, and what they are called.
const (
	tcpFlags = 13
	flagSYN  = 0x02
	flagACK  = 0x10
)

// timedSet has flows by conntrack's id, each for so long after it was last put in.
func (f *firewall) timedSet(name string, d time.Duration) *nftables.Set {
	s := &nftables.Set{Table: f.table, Name: name, KeyType: nftables.TypeInteger, Dynamic: true, HasTimeout: true, Timeout: d}
	f.addSet(s)
	return s
}

// update puts what register 1 holds into s, for its whole timeout.
func update(s *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Dynset{Operation: unix.NFT_DYNSET_OP_UPDATE, SrcRegKey: 1, SetName: s.Name, SetID: s.ID}}
}

// contained asks whether what register 1 holds is in s, or is not.
func contained(s *nftables.Set, is bool) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: s.Name, SetID: s.ID, Invert: !is}}
}

// ct state new add @flows { ip saddr ct count over N } reject, with a reset for TCP
//
// Conntrack decides what still is a flow: TCP until it is closed, UDP until it
// has been silent for half a minute, or two once it was answered.
func atMostFlows(n int) rule {
	return rule{name: "at-most-flows", does: fmt.Sprintf("of one host's flows, TCP and UDP together, those beyond %d are refused", n),
		apply: func(f *firewall) { f.flowLimit = lower(f.flowLimit, n) },
		proof: func(t *trial) error {
			if _, err := t.listen(t.server, 4001); err != nil {
				return err
			}
			dial := func() (*end, error) { return t.dial(t.host, 0, t.server.at(4001), answerWait) }
			for i := range n {
				if _, err := dial(); err != nil {
					return fmt.Errorf("flow %d of %d: %w", i+1, n, err)
				}
			}
			if _, err := dial(); !isRefused(err) {
				return fmt.Errorf("flow %d is not refused: %w", n+1, orConnects(err))
			}
			t.saw("%d flows pass, and the next is refused", n)
			return nil
		},
		first: true} // flows of other proofs would count
}

// lower takes 0 for no limit.
func lower(a, b int) int {
	if a == 0 {
		return b
	}
	return min(a, b)
}

// finishFlowLimit comes after what the profile's other rules stop, which is no flow.
func (f *firewall) finishFlowLimit() {
	for _, ip := range []struct {
		family  byte
		address nftables.SetDatatype
		source  uint32
	}{{unix.NFPROTO_IPV4, nftables.TypeIPAddr, ipSource}, {unix.NFPROTO_IPV6, nftables.TypeIP6Addr, ip6Source}} {
		hosts := &nftables.Set{Table: f.table, Name: "flows-of-" + ip.address.Name, KeyType: ip.address, Dynamic: true}
		f.addSet(hosts)
		for _, answer := range []struct {
			protocol byte
			stop     []expr.Any
		}{{unix.IPPROTO_TCP, reset()}, {unix.IPPROTO_UDP, adminProhibited()}} {
			f.outgoing(family(ip.family), protocol(answer.protocol), state(expr.CtStateBitNEW),
				load(expr.PayloadBaseNetworkHeader, ip.source, int(ip.address.Bytes), 1),
				[]expr.Any{&expr.Dynset{Operation: unix.NFT_DYNSET_OP_ADD, SrcRegKey: 1, SetName: hosts.Name, SetID: hosts.ID,
					Exprs: []expr.Any{&expr.Connlimit{Count: uint32(f.flowLimit), Flags: expr.NFT_CONNLIMIT_F_INV}}}},
				answer.stop)
		}
	}
}

const ip6Source = 8 // of an IPv6 header

// meta l4proto tcp tcp flags syn tcp option maxseg size set BYTES
//
// A TCP handshake announces segments that fit into packets of so many bytes,
// which is what keeps TCP working over links where ICMP does not tell of it.
func clampMSS(packet int) rule {
	const ipv4, ipv6, tcp = 20, 40, 20 // bytes of headers
	return rule{name: "clamp-mss", does: fmt.Sprintf("TCP handshakes announce segments for packets of %d bytes at most", packet),
		apply: func(f *firewall) {
			for number, header := range map[byte]int{unix.NFPROTO_IPV4: ipv4, unix.NFPROTO_IPV6: ipv6} {
				f.passing(family(number), protocol(unix.IPPROTO_TCP), bitsAt(expr.PayloadBaseTransportHeader, tcpFlags, flagSYN, flagSYN), []expr.Any{
					&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(uint16(packet - header - tcp))},
					&expr.Exthdr{Op: expr.ExthdrOpTcpopt, Type: unix.TCPOPT_MAXSEG, Offset: 2, Len: 2, SourceRegister: 1},
				})
			}
		},
		proof: func(t *trial) error {
			f, err := t.stream(443)
			if err != nil {
				return err
			}
			for _, e := range []*end{f.near, f.far} {
				got, err := e.segment()
				if err != nil {
					return err
				}
				if most := packet - ipv4 - tcp; got > most {
					return fmt.Errorf("the %s makes segments of %d bytes, over %d", e.name, got, most)
				}
				t.saw("the %s makes segments of %d bytes", e.name, got)
			}
			return nil
		}}
}

// segment is the most that an end puts into one TCP segment, options included.
func (e *end) segment() (bytes int, err error) {
	c, err := e.stream.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	return bytes, errors.Join(c.Control(func(fd uintptr) {
		bytes, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG)
	}), err)
}
