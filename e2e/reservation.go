package e2e

import (
	"context"
	"fmt"
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
	circuit     string // the circuit address, with the donor's peer ID
	pings       []time.Time
}

// reservation reads the donor's present reservation from its events: the last
// one made that was not lost and whose address is listened on.
func reservation(events []wire.Event) (held, bool) {
	var now held
	addrs := map[string]string{} // relay -> circuit address
	pings := map[string][]time.Time{}
	for _, e := range events {
		switch e.Kind {
		case wire.ReservationMade:
			if now.relay != e.Relay || now.conn != e.Conn {
				now.relay, now.conn = e.Relay, e.Conn
			}
		case wire.ReservationLost:
			if now.relay == e.Relay {
				now = held{}
			}
		case wire.ListenAddr:
			if e.Relay != "" {
				addrs[e.Relay] = e.Addr
			}
		case wire.ListenClosed:
			if e.Relay != "" && addrs[e.Relay] == e.Addr {
				delete(addrs, e.Relay)
			}
		case wire.RelayPing:
			if e.Outcome == wire.OK {
				pings[e.Conn] = append(pings[e.Conn], e.Time)
			}
		case wire.ConnClosed:
			if now.conn == e.Conn {
				now = held{}
			}
		}
	}
	now.circuit, now.pings = addrs[now.relay], pings[now.conn]
	return now, now.relay != "" && now.circuit != ""
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
	r.talk.Note("reserved: " + now.circuit)
	return true
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
