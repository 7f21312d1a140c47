//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// What proofs find out about ports: which pass, which are dropped, and what the
// internet sees of a host's own (RFC 4787, RFC 5780).

// port is one of TCP or UDP.
type port struct {
	network string // tcp or udp
	number  uint16
}

func (p port) String() string { return fmt.Sprintf("%s %d", strings.ToUpper(p.network), p.number) }

func tcp(number uint16) port { return port{"tcp", number} }
func udp(number uint16) port { return port{"udp", number} }

// triedPorts are those that proofs try, the likeliest to be open first.
var triedPorts = []port{tcp(4001), tcp(443), tcp(80), tcp(22), tcp(53), tcp(853), udp(4001), udp(443), udp(53), udp(853)}

func joined(ports []port) string {
	var words []string
	for _, p := range ports {
		words = append(words, p.String())
	}
	return strings.Join(words, ", ")
}

// lets tells whether all rules of the profile let flows to a port of a server pass.
func (t *trial) lets(p port) bool {
	return !slices.ContainsFunc(t.profile.rules, func(r rule) bool { return r.stops != nil && r.stops(p) }) && !t.takes(p)
}

// takes tells whether a rule does something else with flows to a port than to
// let them pass or to drop them.
func (t *trial) takes(p port) bool {
	return slices.ContainsFunc(t.profile.rules, func(r rule) bool { return r.takes != nil && r.takes(p) })
}

// ways are the ports that the profile lets pass, one of each protocol at most.
// Where there are none nothing can be seen, and so nothing be proven.
func (t *trial) ways() (ways []port, err error) {
	for _, network := range []string{"tcp", "udp"} {
		if p, err := t.way(network); err == nil {
			ways = append(ways, p)
		}
	}
	if len(ways) == 0 {
		return nil, fmt.Errorf("%w: nothing passes", errHidden)
	}
	return ways, nil
}

// way is a port of tcp or udp that the profile lets pass, and none of those but.
func (t *trial) way(network string, but ...port) (port, error) {
	for _, p := range triedPorts {
		if p.network == network && t.lets(p) && !slices.Contains(but, p) {
			return p, nil
		}
	}
	return port{}, fmt.Errorf("%w: no %s passes", errHidden, strings.ToUpper(network))
}

// open opens a flow of either kind to a port of the server, and has both
// directions carry.
func (t *trial) open(p port) (flow, error) {
	flows, err := t.mapping(p, t.server)
	if err != nil {
		return flow{}, err
	}
	return flows[0], flows[0].alive()
}

// openFrom opens a flow from any place to a port of another.
func (t *trial) openFrom(from, to place, p port) (f flow, err error) {
	if p.network == "udp" {
		f, err = t.datagramsFrom(from, 0, to, p.number)
	} else {
		f, err = t.streamFrom(from, 0, to, p.number)
	}
	if err != nil {
		return f, err
	}
	return f, f.alive()
}

// passes is nil when flows to these ports of the server arrive, and answers to
// them.
func (t *trial) passes(ports ...port) error {
	var errs []error
	for _, p := range ports {
		if _, err := t.open(p); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p, err))
		}
	}
	return errors.Join(errs...)
}

// dropped is nil when what goes to these ports of the server vanishes: nothing
// arrives, and nobody is told.
func (t *trial) dropped(ports ...port) error {
	var errs []error
	for _, p := range ports {
		if err := t.unanswered(t.host, t.server, p); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p, err))
		}
	}
	return errors.Join(errs...)
}

// unanswered is nil when what is sent from one place to a listening port of
// another vanishes on the way.
func (t *trial) unanswered(from, to place, p port) error {
	return t.unansweredAt(from, to, p.number, p.network, to.addr)
}

// unansweredAt is unanswered by way of another address, such as a router's.
func (t *trial) unansweredAt(from, to place, number uint16, network string, at netip.Addr) error {
	dest := netip.AddrPortFrom(at, number)
	if network == "udp" {
		far, err := t.packets(to, number, netip.AddrPort{})
		if err != nil {
			return err
		}
		defer far.packet.Close()
		near, err := t.packets(from, 0, dest)
		if err != nil {
			return err
		}
		return near.lost(far, "is anybody there?")
	}
	l, err := t.listen(to, number)
	if err != nil {
		return err
	}
	defer l.Close()
	if _, err := t.dial(from, 0, dest, silence); !timedOut(err) {
		return fmt.Errorf("it is not dropped silently: %w", orConnects(err))
	}
	if _, err := t.accept(l, time.Millisecond); !timedOut(err) {
		return errors.New("it seems to be dropped, and arrives")
	}
	return nil
}

// orConnects is err, or that there was none.
func orConnects(err error) error {
	if err == nil {
		return errors.New("it connects")
	}
	return err
}

// onlyDrops is nil when those ports are dropped of which stops says so, and all
// pass that no rule of the profile stops.
func (t *trial) onlyDrops(stops func(port) bool) error {
	var dropped, passed []port
	for _, p := range triedPorts {
		switch {
		case t.takes(p):
		case stops(p):
			dropped = append(dropped, p)
		case t.lets(p):
			passed = append(passed, p)
		}
	}
	t.saw("dropped: %s", joined(dropped))
	if len(passed) > 0 {
		t.saw("passed: %s", joined(passed))
	}
	return errors.Join(t.dropped(dropped...), t.passes(passed...))
}

// freePort is one that no socket of this trial has had. It is below those that
// the system chooses from.
func (t *trial) freePort() uint16 {
	t.ports++
	return 7000 + t.ports
}

// mapping opens flows from one port of the host to the same port of several
// servers. far.peer of each is where that server sees the host.
func (t *trial) mapping(p port, servers ...place) ([]flow, error) {
	from := t.freePort()
	var near *end
	if p.network == "udp" {
		var err error
		if near, err = t.packets(t.host, from, netip.AddrPort{}); err != nil {
			return nil, err
		}
	}
	var flows []flow
	for _, s := range servers {
		f, err := t.mapped(p, from, near, s)
		if err != nil {
			return nil, fmt.Errorf("%s of %s: %w", p, s.addr, err)
		}
		flows = append(flows, f)
	}
	return flows, nil
}

func (t *trial) mapped(p port, from uint16, near *end, s place) (flow, error) {
	if p.network == "tcp" {
		return t.streamFrom(t.host, from, s, p.number, sharedPort)
	}
	far, err := t.packets(s, p.number, netip.AddrPort{})
	if err != nil {
		return flow{}, err
	}
	to := *near
	to.peer = s.at(p.number)
	f := flow{&to, far}
	return f, f.hello()
}

// seenAt lists where the servers of flows see the host.
func seenAt(flows []flow) []netip.AddrPort {
	var list []netip.AddrPort
	for _, f := range flows {
		list = append(list, f.far.peer)
	}
	return list
}

// translates is nil when servers see the host at the router's address, and at
// such ports as is wanted, over TCP and UDP where they pass.
func (t *trial) translates(as func([]flow) error) error {
	ways, err := t.ways()
	if err != nil {
		return err
	}
	for _, p := range ways {
		flows, err := t.mapping(p, t.servers...)
		if err != nil {
			return err
		}
		for _, at := range seenAt(flows) {
			if at.Addr() != t.egress {
				return fmt.Errorf("%s comes from %s, and not from the router's address %s", p, at, t.egress)
			}
		}
		if err := errors.Join(flows[0].alive(), as(flows)); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		t.saw("%s from %s is seen at %s", p, flows[0].near.local(), portsOf(flows))
	}
	return nil
}

// portsOf lists those at which servers see the host.
func portsOf(flows []flow) string {
	var words []string
	for _, at := range seenAt(flows) {
		words = append(words, fmt.Sprint(at.Port()))
	}
	if slices.Sort(words); len(slices.Compact(slices.Clone(words))) == 1 {
		words = words[:1]
	}
	return "port " + strings.Join(words, ", ")
}

// samePort is nil when all servers see a flow's port at one and the same:
// endpoint-independent mapping.
func samePort(flows []flow) error {
	at := seenAt(flows)
	for _, other := range at[1:] {
		if other != at[0] {
			return fmt.Errorf("servers see one port at several: %v", at)
		}
	}
	return nil
}

// otherPorts is nil when they do not: endpoint-dependent mapping.
func otherPorts(flows []flow) error {
	if samePort(flows) == nil {
		return fmt.Errorf("all servers see one port at %s", flows[0].far.peer)
	}
	return nil
}

// within is nil when servers see ports from first to last only.
func within(flows []flow, first, last uint16) error {
	for _, at := range seenAt(flows) {
		if at.Port() < first || at.Port() > last {
			return fmt.Errorf("port %d is not from %d to %d", at.Port(), first, last)
		}
	}
	return nil
}

// forgetsPorts is nil when a reboot of the router leads to another port, and to
// the old one nobody gets in any more.
func (t *trial) forgetsPorts() error {
	t.close() // and have the servers' ports free
	ways, err := t.ways()
	if err != nil {
		return err
	}
	for _, p := range ways {
		f, err := t.open(p)
		if err != nil {
			return err
		}
		if err := t.reboot(); err != nil {
			return err
		}
		if err := f.far.lost(f.near, "an answer"); err != nil {
			return fmt.Errorf("%s after a reboot: %w", p, err)
		}
		if p.network == "tcp" {
			// The server does not know the new port, and says so.
			if text, err := f.near.reply("still there?", answerWait); !isReset(err) {
				return fmt.Errorf("%s after a reboot: the host reads %q %v, and not a reset", p, text, err)
			}
			t.saw("a reboot kills %s", p)
			continue
		}
		before := f.far.peer
		if err := f.hello(); err != nil || f.far.peer == before {
			return fmt.Errorf("%s is seen at %s after a reboot, and was at %s (%v)", p, f.far.peer, before, err)
		}
		t.saw("a reboot moves %s from %d to %d", p, before.Port(), f.far.peer.Port())
	}
	return nil
}

// closed is nil when a mapping lets nobody in but whom it was made for: not
// another server, nor another port of the same one.
func (t *trial) closed(f flow) error {
	return errors.Join(t.shut(f, t.stranger), t.shut(f, t.server))
}

// shut is nil when a new port of a server does not get in by a mapping, and is
// not told.
func (t *trial) shut(f flow, from place) error {
	if f.near.packet == nil {
		if _, err := t.dial(from, 0, f.far.peer, silence); !timedOut(err) {
			return fmt.Errorf("%s dials the mapping %s, and is not dropped: %w", from.addr, f.far.peer, orConnects(err))
		}
		return nil
	}
	s, err := t.packets(from, 0, f.far.peer)
	if err != nil {
		return err
	}
	if err := s.lost(f.near, "unsolicited"); err != nil {
		return fmt.Errorf("%s sends to the mapping %s: %w", from.addr, f.far.peer, err)
	}
	return nil
}

// letIn is nil when another port of a server gets in by a mapping, and is answered.
func (t *trial) letIn(f flow, from place, number uint16) error {
	err := t.letInBy(f, from, number)
	if err != nil {
		return fmt.Errorf("%s does not get in by the mapping %s: %w", from.addr, f.far.peer, err)
	}
	return nil
}

func (t *trial) letInBy(f flow, from place, number uint16) error {
	if f.near.packet == nil {
		l, err := t.listen(t.host, f.near.local().Port(), sharedPort)
		if err != nil {
			return err
		}
		defer l.Close()
		s, err := t.dial(from, number, f.far.peer, answerWait)
		if err != nil {
			return err
		}
		in, err := t.accept(l, answerWait)
		if err != nil {
			return err
		}
		return flow{in, s}.alive()
	}
	s, err := t.packets(from, number, f.far.peer)
	if err != nil {
		return err
	}
	back := *f.near
	back.peer = s.local()
	return errors.Join(s.says(f.near, "unsolicited"), back.says(s, "an answer"))
}
