package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/worldcompute/wce2e/e2e/remote"
	"github.com/worldcompute/wce2e/node/wire"
)

// reservedAgain is how long we wait for the donor to hold a reservation after
// the hold: it may have just lost its relay. A donor notices a dead path in
// 10 s and its backoff is bounded by 60 s.
const reservedAgain = 75 * time.Second

// held is the reservation that a donor holds now.
type held struct {
	relay, conn string
	circuits    []string // its circuit addresses, with the donor's peer ID; the relay is the same in all
}

// reservation reads the donor's present reservation from its events: the last
// one made that was not lost, and the addresses that are listened on because of it.
func reservation(events []wire.Event) (held, bool) {
	var now held
	var addrs []wire.Event // circuit addresses listened on
	for _, e := range events {
		switch {
		case e.Kind == wire.ReservationMade:
			now.relay, now.conn = e.Relay, e.Conn
		case e.Kind == wire.ReservationLost && now.relay == e.Relay, e.Kind == wire.ConnClosed && now.conn == e.Conn:
			now = held{}
		case e.Kind == wire.ListenAddr && e.Relay != "":
			addrs = append(addrs, e)
		case e.Kind == wire.ListenClosed && e.Relay != "":
			addrs = slices.DeleteFunc(addrs, func(a wire.Event) bool { return a.Addr == e.Addr })
		}
	}
	for _, a := range addrs {
		if a.Relay == now.relay {
			now.circuits = append(now.circuits, a.Addr)
		}
	}
	return now, now.relay != "" && len(now.circuits) > 0
}

// circuitFor is the circuit address by which a node that dials has the best
// prospects: one whose way to the relay it has gone before, else any.
func (h held) circuitFor(dialler []wire.Event) string {
	for _, e := range dialler {
		if e.Kind != wire.DialEnded || e.Outcome != wire.OK || e.Peer != h.relay {
			continue
		}
		for _, c := range h.circuits {
			if strings.HasPrefix(c, withPeer(e.Addr, e.Peer)+"/") {
				return c
			}
		}
	}
	return h.circuits[0]
}

// reserved waits until the donor holds a reservation. That it does not is an
// observation, not an error.
func (r *run) reserved(ctx context.Context, within time.Duration) bool {
	donor := r.donor()
	wait, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var now held
	err := remote.Await(wait, "the donor's reservation", reserveEvery, func(context.Context) (bool, string, error) {
		if exit := donor.node.ended(); exit != nil {
			return false, "", fmt.Errorf("the donor ended: %s", describe(*exit))
		}
		events := donor.node.said()
		var ok bool
		now, ok = reservation(events)
		return ok, attempts(events), nil
	})
	if err != nil {
		if ctx.Err() == nil {
			r.missed(donor.Name, "reservation", err)
			if len(r.relays()) == 0 {
				r.talk.Note("no relay granted a reservation: a relay host of one's own in the inventory is the remedy (role: relay)")
			}
		}
		return false
	}
	r.talk.Note(fmt.Sprintf("reserved %v after the donor's start: %s", sinceStart(donor.node.said()).Round(time.Millisecond), now.circuits[0]))
	return true
}

// sinceStart is the time from the donor's start to its latest new reservation,
// by its own clock.
func sinceStart(events []wire.Event) time.Duration {
	var started, made time.Time
	for _, e := range events {
		switch {
		case e.Kind == wire.NodeStarted:
			started = e.Time
		case e.Kind == wire.ReservationMade && !e.Renewal:
			made = e.Time
		}
	}
	return made.Sub(started)
}

// attempts tells in a few words what a node has tried so far.
func attempts(events []wire.Event) string {
	outcomes := map[wire.Outcome]int{}
	last := ""
	for _, e := range events {
		if e.Kind == wire.DialEnded {
			outcomes[e.Outcome]++
		}
		if e.Kind == wire.ReservationFailed || e.Kind == wire.DialEnded && e.Outcome == wire.Failed {
			last = e.Failure + " at " + e.Relay + e.Addr
		}
	}
	return fmt.Sprintf("%d dials ok, %d failed, %d aborted; last failure: %s",
		outcomes[wire.OK], outcomes[wire.Failed], outcomes[wire.Aborted], last)
}
