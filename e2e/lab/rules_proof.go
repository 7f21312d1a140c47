//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The longer proofs of the rules in rules.go.

// refusesUDP is nil when UDP to a port of the server comes back as an ICMP error.
func (t *trial) refusesUDP(number uint16) error {
	far, err := t.packets(t.server, number, netip.AddrPort{})
	if err != nil {
		return err
	}
	defer far.packet.Close()
	near, err := t.dialUDP(t.host, t.server.at(number))
	if err != nil {
		return err
	}
	// A connected socket gets what ICMP said with its next call.
	if text, err := near.reply("hello", answerWait); !errors.Is(err, unix.EHOSTUNREACH) {
		return fmt.Errorf("UDP is not refused by ICMP: %q %v", text, err)
	}
	if text, _, err := far.read(silence); err == nil {
		return fmt.Errorf("UDP is refused, and arrives: %q", text)
	}
	return nil
}

// onlyRefuses is nil when TCP to those ports is reset at once, and TCP passes to
// all that no rule of the profile stops.
func (t *trial) onlyRefuses(refuses func(port) bool) error {
	var refused, passed []port
	for _, p := range triedPorts {
		switch {
		case refuses(p):
			refused = append(refused, p)
		case p.network == "tcp" && t.lets(p):
			passed = append(passed, p)
		}
	}
	for _, p := range refused {
		l, err := t.listen(t.server, p.number)
		if err != nil {
			return err
		}
		if _, err := t.dial(t.host, 0, t.server.at(p.number), answerWait); !isRefused(err) {
			return fmt.Errorf("%s is not refused: %w", p, orConnects(err))
		}
		if _, err := t.accept(l, time.Millisecond); !timedOut(err) {
			return fmt.Errorf("%s seems to be refused, and arrives", p)
		}
	}
	t.saw("refused: %s", joined(refused))
	t.saw("passed: %s", joined(passed))
	return t.passes(passed...)
}

// swallowsLongPackets is nil when packets of so many bytes pass in both
// directions, and longer ones vanish, of which nobody is told.
func (t *trial) swallowsLongPackets(bytes int) error {
	const udpHeaders = 20 + 8
	ways, err := t.ways()
	if err != nil {
		return err
	}
	for _, p := range ways {
		if p.network == "tcp" {
			if t.clamps() {
				continue // nobody sends full segments
			}
			if err := t.swallowsLongSegments(p, bytes); err != nil {
				return err
			}
			continue
		}
		f, err := t.open(p)
		if err != nil {
			return err
		}
		fits, tooLong := strings.Repeat("x", bytes-udpHeaders), strings.Repeat("x", bytes+1-udpHeaders)
		for _, way := range []flow{f, {f.far, f.near}} {
			// Had ICMP told of the limit, the second would come in fragments.
			err := errors.Join(way.near.lost(way.far, tooLong), way.near.lost(way.far, tooLong), way.near.says(way.far, fits))
			if err != nil {
				return fmt.Errorf("UDP in packets of %d and %d bytes: %w", bytes+1, bytes, err)
			}
		}
		t.saw("UDP: %d bytes pass, %d are lost without ICMP", bytes, bytes+1)
	}
	return nil
}

func (t *trial) swallowsLongSegments(p port, bytes int) error {
	const tcpHeaders, stream = 20 + 32, 64 << 10
	got, err := t.arriving(p, stream)
	if err != nil || got > 0 {
		return fmt.Errorf("of a stream in full segments %d bytes arrive (%v)", got, err)
	}
	got, err = t.arriving(p, stream, maxSegment(bytes-tcpHeaders))
	if err != nil || got < stream {
		return fmt.Errorf("of a stream in short segments %d of %d bytes arrive (%v)", got, stream, err)
	}
	t.saw("TCP: a stream in segments of %d bytes arrives, and none of one in full segments", bytes-tcpHeaders)
	return nil
}

// arriving is how much of a stream from the host arrives before silence.
func (t *trial) arriving(p port, bytes int, options ...option) (got int, err error) {
	f, err := t.stream(p.number, options...)
	if err != nil {
		return 0, err
	}
	if err := f.near.write(strings.Repeat("x", bytes)); err != nil {
		return 0, err
	}
	for wait := 2 * silence; got < bytes; wait = answerWait {
		text, _, err := f.far.read(wait)
		got += len(text)
		if err != nil {
			break
		}
	}
	return got, nil
}

// forgets is nil when a silent flow lives a little less than so long, and has
// died a little later. Conntrack's clock ticks by whole seconds.
func (t *trial) forgets(network string, after time.Duration, died func(flow) error) error {
	p, err := t.way(network)
	if err != nil {
		return err
	}
	flows := make([]flow, 2)
	for i := range flows {
		all, err := t.mapping(p, t.servers[i])
		if err != nil {
			return err
		}
		if flows[i] = all[0]; flows[i].alive() != nil {
			return fmt.Errorf("%s is dead from the start: %w", p, flows[i].alive())
		}
	}
	short := after / 2
	if err := t.pause(short); err != nil {
		return err
	}
	if err := flows[0].far.says(flows[0].near, "still there?"); err != nil {
		return fmt.Errorf("%s, silent for %s: %w", p, short, err)
	}
	if err := t.pause(after - short + time.Second); err != nil {
		return err
	}
	if err := died(flows[1]); err != nil {
		return fmt.Errorf("%s, silent for %s: %w", p, after+time.Second, err)
	}
	t.saw("with a timer of %s, a flow lives after %s and is dead after %s", after, short, after+time.Second)
	return nil
}

// connectsToTheDead is nil when an address connects at which nobody is, and then
// says nothing; and when those who are there are reached all the same.
func (t *trial) connectsToTheDead() error {
	p, err := t.way("tcp")
	if err != nil {
		return err
	}
	dead, err := t.dial(t.host, 0, netip.AddrPortFrom(t.nobody, p.number), answerWait)
	if err != nil {
		return fmt.Errorf("nobody is at %s, and it does not seem to connect: %w", t.nobody, err)
	}
	if text, err := dead.reply("hello", silence); !timedOut(err) {
		return fmt.Errorf("nobody is at %s, and says %q %v", t.nobody, text, err)
	}
	f, err := t.open(p)
	if err != nil {
		return err
	}
	if err := f.far.says(f.near, "the server speaks first"); err != nil {
		return err
	}
	const stream = 256 << 10
	if got, err := t.arriving(p, stream); err != nil || got < stream {
		return fmt.Errorf("%d of %d bytes of a stream arrive (%v)", got, stream, err)
	}
	t.saw("a dead address connects, and says nothing; a live one is reached")
	return nil
}
