//go:build linux

package lab

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/nftables"
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
			f.idleTCP = tighter(f.idleTCP, f.timer(d))
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

// Every flow is dropped at a certain age, however busy it is: those of firewalls
// and balancers that count from the first packet. TCP begins anew with a
// handshake, from whatever port. UDP has no such thing: its flow begins anew once
// it has been dead for so long that QUIC, which waits for 30 s, has given up.
func lifetime(d time.Duration) rule {
	return rule{name: "lifetime", does: fmt.Sprintf("every TCP and UDP flow is dropped at an age of %s, however busy it is", d),
		apply: func(f *firewall) { f.lifetime = tighter(f.lifetime, f.timer(d)) },
		proof: func(t *trial) error { return t.ages(t.timer(d)) }}
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
		apply: func(f *firewall) { f.flowLimit = tighter(f.flowLimit, n) },
		proof: func(t *trial) error {
			ways, err := t.ways()
			if err != nil {
				return err
			}
			for _, p := range ways {
				if err := t.limitsFlows(p, n); err != nil {
					return fmt.Errorf("%s: %w", p, err)
				}
			}
			return t.reboot() // or else what was opened here counts for other proofs
		}}
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
