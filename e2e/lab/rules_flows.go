//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
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
			return t.forgets("tcp", t.timer(d), func(f flow) error {
				t.saw("either end that speaks is reset")
				return errors.Join(f.near.wantsReset(), f.far.wantsReset())
			})
		}}
}

// wantsReset is nil when an end is reset for what it says.
func (e *end) wantsReset() error {
	if got, err := e.reply("still there?", answerWait); !isReset(err) {
		return fmt.Errorf("the %s speaks, and is not reset: it reads %.40q (%v)", e.name, got, err)
	}
	return nil
}

// Every flow is dropped at a certain age, however busy it is: those of firewalls
// and balancers that count from the first packet. TCP begins anew with a
// handshake, from whatever port. UDP has no such thing: its flow begins anew once
// it has been dead for so long that QUIC, which waits for 30 s, has given up.
func lifetime(d time.Duration) rule {
	return rule{name: "lifetime", does: fmt.Sprintf("every TCP and UDP flow is dropped at an age of %s, however busy it is", d),
		apply: func(f *firewall) { f.lifetime = shorter(f.lifetime, f.timer(d)) },
		proof: func(t *trial) error { return t.ages(t.timer(d)) }}
}

// ages is nil when flows that are never silent for long are dead at an age.
func (t *trial) ages(d time.Duration) error {
	var flows []flow
	born := time.Now()
	for _, p := range t.ways() {
		f, err := t.open(p)
		if err != nil {
			return err
		}
		flows = append(flows, f)
	}
	last := time.Now()
	each := func(want string, check func(flow) error) error {
		for _, f := range flows {
			if err := check(f); err != nil {
				return fmt.Errorf("at an age of %s a flow %s: %w", time.Since(born), want, err)
			}
		}
		return nil
	}
	for time.Since(born) < d/2 {
		if err := errors.Join(each("is to live", flow.alive), t.pause(d/8)); err != nil {
			return err
		}
	}
	if err := t.pause(time.Until(last.Add(d))); err != nil {
		return err
	}
	if err := each("is to be dead", func(f flow) error { return f.near.lost(f.far, "too old") }); err != nil {
		return err
	}
	t.saw("flows of %s that were never silent for long are dead at %s, and begin anew", joined(t.ways()), d)
	if err := t.pause(time.Until(last.Add(d + t.timer(afterlife) + time.Second))); err != nil {
		return err
	}
	if err := each("is to rest, or to live again if it is UDP", flow.rests); err != nil {
		return err
	}
	t.close() // and have the server's ports free
	return t.passes(t.ways()...)
}

// rests is nil when a flow that has been dead for long is as it should be.
func (f flow) rests() error {
	if f.near.packet != nil {
		return f.alive()
	}
	return f.near.lost(f.far, "too old still")
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

// ct state new meta l4proto tcp add @flows { ip saddr ct count over N } reject with tcp reset
// ct state new meta l4proto udp, the same with icmp admin-prohibited
//
// Conntrack decides what still is a flow: TCP until it is closed, UDP until it
// has been silent for half a minute, or two once it was answered.
func atMostFlows(n int) rule {
	return rule{name: "at-most-flows", does: fmt.Sprintf("of one host's TCP flows those beyond %d at a time are refused, and of its UDP flows as well", n),
		apply: func(f *firewall) { f.flowLimit = lower(f.flowLimit, n) },
		proof: func(t *trial) error {
			for _, p := range t.ways() {
				if err := t.limitsFlows(p, n); err != nil {
					return fmt.Errorf("%s: %w", p, err)
				}
			}
			return t.reboot() // or else what was opened here counts for other proofs
		}}
}

// limitsFlows is nil when n flows pass at a time, no more, and no fewer.
func (t *trial) limitsFlows(p port, n int) error {
	if err := t.reboot(); err != nil { // other proofs' flows count as well
		return err
	}
	passed, err := t.countFlows(p, n+1)
	switch {
	case passed != n:
		return fmt.Errorf("%d flows pass at a time, want %d (%v)", passed, n, err)
	case !isRefused(err) && !errors.Is(err, unix.EHOSTUNREACH): // what ICMP says
		return fmt.Errorf("flow %d is not refused: %w", passed+1, err)
	}
	t.saw("%s: %d flows pass, the next is refused", p, passed)
	t.close()
	if p.network == "udp" {
		return nil // there is no end to see in a flow of UDP
	}
	for until := time.Now().Add(answerWait); ; {
		_, err := t.countFlows(p, 1)
		if err == nil || time.Now().After(until) {
			return err
		}
		t.close()
		if err := t.pause(50 * time.Millisecond); err != nil {
			return err
		}
	}
}

// countFlows opens flows to a port of the server until one is refused, or there
// are enough, and keeps them open.
func (t *trial) countFlows(p port, enough int) (passed int, err error) {
	if p.network == "tcp" {
		if _, err := t.listen(t.server, p.number); err != nil {
			return 0, err
		}
		for ; passed < enough; passed++ {
			if _, err := t.dial(t.host, 0, t.server.at(p.number), answerWait); err != nil {
				return passed, err
			}
		}
		return passed, nil
	}
	far, err := t.packets(t.server, p.number, netip.AddrPort{})
	if err != nil {
		return 0, err
	}
	for ; passed < enough; passed++ {
		near, err := t.dialUDP(t.host, t.server.at(p.number))
		if err != nil {
			return passed, err
		}
		if err := near.write("hello"); err != nil {
			return passed, err
		}
		if _, _, err := far.read(silence); timedOut(err) {
			_, _, err = near.read(answerWait) // what ICMP said
			return passed, err
		}
	}
	return passed, nil
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
		for _, answer := range []struct {
			protocol byte
			name     string
			stop     []expr.Any
		}{{unix.IPPROTO_TCP, "tcp", reset()}, {unix.IPPROTO_UDP, "udp", adminProhibited()}} {
			hosts := &nftables.Set{Table: f.table, Name: answer.name + "-of-" + ip.address.Name, KeyType: ip.address, Dynamic: true}
			f.addSet(hosts)
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
	return rule{name: clampsMSS, does: fmt.Sprintf("TCP handshakes announce segments for packets of %d bytes at most", packet),
		apply: func(f *firewall) {
			for number, header := range map[byte]int{unix.NFPROTO_IPV4: ipv4, unix.NFPROTO_IPV6: ipv6} {
				f.passing(family(number), protocol(unix.IPPROTO_TCP), bitsAt(expr.PayloadBaseTransportHeader, tcpFlags, flagSYN, flagSYN), []expr.Any{
					&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(uint16(packet - header - tcp))},
					&expr.Exthdr{Op: expr.ExthdrOpTcpopt, Type: unix.TCPOPT_MAXSEG, Offset: 2, Len: 2, SourceRegister: 1},
				})
			}
		},
		proof: func(t *trial) error {
			p, err := t.way("tcp")
			if err != nil {
				return err
			}
			f, err := t.stream(p.number)
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

const clampsMSS = "clamp-mss"

// clamps tells whether a rule of the profile keeps TCP segments short.
func (t *trial) clamps() bool {
	return slices.ContainsFunc(t.profile.rules, func(r rule) bool { return r.name == clampsMSS && r.apply != nil })
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
