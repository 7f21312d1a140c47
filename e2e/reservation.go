package e2e

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/worldcompute/wce2e/e2e/remote"
	"github.com/worldcompute/wce2e/inventory"
	"github.com/worldcompute/wce2e/node/wire"
)

// reservedAgain is how long we wait for the donor to hold a reservation after
// the hold: it may have just lost its relay. A donor notices a dead path in
// 10 s and its backoff is bounded by 60 s.
const reservedAgain = 75 * time.Second

// held is a reservation that a donor holds.
type held struct {
	relay, conn string
	boot        string   // of the donor's node: it may be started more than once
	limited     bool     // the relay carries no more than so much in one circuit
	circuits    []string // its circuit addresses, with the donor's peer ID
}

func (h held) same(other held) bool {
	return h.relay == other.relay && h.conn == other.conn && h.boot == other.boot
}

// reservation reads from the donor's events which reservation it holds: of those
// that stand and whose address is listened on, the one that has stood the longest,
// so that two runs in the same network hold the same connection. Relays that do not
// limit circuits come first.
func reservation(events []wire.Event) (held, bool) {
	var standing []held
	circuits := map[string][]string{} // relay -> addresses
	end := func(ended func(held) bool) { standing = slices.DeleteFunc(standing, ended) }
	for _, e := range events {
		switch {
		case e.Kind == wire.NodeStarted: // with nothing of what it had before
			standing = nil
			clear(circuits)
		case e.Kind == wire.ReservationMade:
			now := held{relay: e.Relay, conn: e.Conn, boot: e.Boot, limited: e.LimitBytes > 0 || e.LimitSeconds > 0}
			if !slices.ContainsFunc(standing, now.same) { // else it was renewed
				end(func(h held) bool { return h.relay == e.Relay })
				standing = append(standing, now)
			}
		case e.Kind == wire.ReservationLost:
			end(func(h held) bool { return h.relay == e.Relay })
		case e.Kind == wire.ConnClosed:
			end(func(h held) bool { return h.conn == e.Conn })
		case e.Kind == wire.ListenAddr && e.Relay != "":
			circuits[e.Relay] = append(circuits[e.Relay], e.Addr)
		case e.Kind == wire.ListenClosed && e.Relay != "":
			circuits[e.Relay] = slices.DeleteFunc(circuits[e.Relay], func(a string) bool { return a == e.Addr })
		}
	}
	standing = slices.DeleteFunc(standing, func(h held) bool { return len(circuits[h.relay]) == 0 })
	if len(standing) == 0 {
		return held{}, false
	}
	best := standing[max(0, slices.IndexFunc(standing, func(h held) bool { return !h.limited }))]
	best.circuits = circuits[best.relay]
	return best, true
}

// join waits until the donor holds its first reservation, for as long as the
// inventory says, and until all has been done on purpose that it has for this
// step: the donor is to hold one after that.
func (r *run) join(ctx context.Context) error {
	faults := r.startFaults(ctx, inventory.Join, "")
	defer faults.cancel()
	now, err := r.reserved(ctx, r.inv.Run.Observe)
	if err != nil {
		return err
	}
	r.neighboursJoin(ctx)
	faults.wait()
	if now, err = r.reserved(ctx, reservedAgain); err != nil {
		return err
	}
	r.talk.Note(fmt.Sprintf("reserved %v after the donor's start: %s", sinceStart(r.donor().node.said()).Round(time.Millisecond), now.circuits[0]))
	return nil
}

// neighboursJoin waits for the reservations of the donor's neighbours, no longer
// than for the donor's. What does not come is in the trace, and does not hold the
// donor's story up.
func (r *run) neighboursJoin(ctx context.Context) {
	wait, cancel := context.WithTimeout(ctx, r.inv.Run.Observe)
	defer cancel()
	inParallel(r.neighbours(), func(h *host) error {
		err := remote.Await(wait, "the reservation of a neighbour", reserveEvery, func(context.Context) (bool, string, error) {
			if exit := h.node.ended(); exit != nil {
				return false, "", fmt.Errorf("it ended: %s", describe(*exit))
			}
			events := h.node.said()
			_, ok := reservation(events)
			return ok, attempts(events), nil
		})
		if err != nil && ctx.Err() == nil {
			r.missed(h.Name, "neighbour's reservation", err)
		}
		return nil
	})
}

// reserved gives the reservation that the donor holds, and waits for one if it
// holds none. errMissed if it does not come.
func (r *run) reserved(ctx context.Context, within time.Duration) (now held, err error) {
	return r.reservedOther(ctx, within, held{})
}

// reservedOther is reserved for a reservation that is not this one.
func (r *run) reservedOther(ctx context.Context, within time.Duration, than held) (now held, err error) {
	donor := r.donor()
	wait, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	err = remote.Await(wait, "the donor's reservation", reserveEvery, func(context.Context) (ok bool, seen string, err error) {
		if exit := donor.node.ended(); exit != nil {
			return false, "", fmt.Errorf("the donor ended: %s", describe(*exit))
		}
		events := donor.node.said()
		now, ok = reservation(events)
		return ok && !now.same(than), attempts(events), nil
	})
	switch {
	case err == nil:
		return now, nil
	case ctx.Err() != nil:
		return held{}, errMissed
	}
	r.missed(donor.Name, "reservation", err)
	if len(r.relays()) == 0 {
		r.talk.Note("no relay granted a reservation: a relay host of one's own in the inventory is the remedy (role: relay)")
	}
	return held{}, errMissed
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
