package e2e

import (
	"context"
	"fmt"
	"time"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/wire"
)

// holdGrace is how much longer than planned we wait for the round trip that
// proves the planned time: liveness round trips come every 5 s, and arrive here
// within a second.
const holdGrace = 15 * time.Second

// hold waits while the donor keeps its relay connection. It ends when the time
// is over and proven by a round trip at each end, when it can no longer be
// proven and the time is over, or when the donor is gone.
func (r *run) hold(ctx context.Context) error {
	start, err := r.reserved(ctx, reservedAgain)
	if err != nil {
		return err
	}
	donor := r.donor()
	planned := r.inv.Run.Hold
	r.fetchEvents(ctx)
	mark := evidence.Hold{Planned: evidence.Duration(planned), Relay: start.relay, Conn: start.conn}
	r.note(evidence.HoldStarted, donor.Name, mark)
	began := time.Now()
	faults := r.startFaults(ctx, "", start.relay)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for mark.Cut == "" {
		done := time.Since(began)
		alive, proven, note := r.heldSoFar(start)
		r.talk.Holding(min(done, planned), planned, note)
		if exit := donor.node.ended(); exit != nil {
			mark.Cut = "the donor ended: " + describe(*exit)
			break
		}
		if done >= planned && (proven >= planned || !alive || done >= planned+holdGrace) {
			break
		}
		select {
		case <-ctx.Done():
			mark.Cut = "interrupted"
		case <-tick.C:
		}
	}
	faults.cancel()
	return r.note(evidence.HoldEnded, donor.Name, mark)
}

// heldSoFar tells how the held connection fares: whether it stands, for how long
// that is proven, and a word for the progress line.
func (r *run) heldSoFar(start held) (alive bool, proven time.Duration, note string) {
	alive = true
	var first, last wire.Event
	for _, e := range r.donor().node.said() {
		if e.Conn != start.conn || e.Boot != start.boot {
			continue
		}
		switch {
		case e.Kind == wire.ConnClosed:
			alive = false
		case e.Kind == wire.RelayPing && e.Outcome == wire.OK:
			if first.Time.IsZero() {
				first = e
			}
			last = e
		}
	}
	proven = last.Time.Sub(first.Time)
	if !alive {
		return alive, proven, "the held connection is gone"
	}
	return alive, proven, fmt.Sprintf("proven %v, round trip %.0f ms", proven.Round(time.Second), last.MS)
}
