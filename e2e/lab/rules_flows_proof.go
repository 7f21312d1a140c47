//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// The proofs of the rules in rules_flows.go.

// wantsReset is nil when an end is reset for what it says.
func (e *end) wantsReset() error {
	if got, err := e.reply("still there?", answerWait); !isReset(err) {
		return fmt.Errorf("the %s speaks, and is not reset: it reads %.40q (%v)", e.name, got, err)
	}
	return nil
}

// ages is nil when flows that are never silent for long are dead at an age.
func (t *trial) ages(d time.Duration) error {
	ways, err := t.ways()
	if err != nil {
		return err
	}
	var flows []flow
	born := time.Now()
	for _, p := range ways {
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
	t.saw("flows of %s that were never silent for long are dead at %s, and begin anew", joined(ways), d)
	if err := t.pause(time.Until(last.Add(d + t.timer(afterlife) + time.Second))); err != nil {
		return err
	}
	if err := each("is to rest, or to live again if it is UDP", flow.rests); err != nil {
		return err
	}
	t.close() // and have the server's ports free
	return t.passes(ways...)
}

// rests is nil when a flow that has been dead for long is as it should be.
func (f flow) rests() error {
	if f.near.packet != nil {
		return f.alive()
	}
	return f.near.lost(f.far, "too old still")
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
