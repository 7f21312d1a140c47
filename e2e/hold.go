package e2e

import (
	"context"
	"fmt"
	"time"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/inventory"
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
	mark := evidence.Hold{Planned: evidence.Duration(planned), Relay: start.relay, Conn: start.conn}
	r.note(evidence.HoldStarted, donor.Name, mark)
	began := time.Now()
	faults := append([]inventory.Fault(nil), r.inv.Faults...)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for mark.Cut == "" {
		done := time.Since(began)
		for len(faults) > 0 && done >= faults[0].After {
			r.inject(ctx, faults[0], start.relay)
			faults = faults[1:]
		}
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
	return r.note(evidence.HoldEnded, donor.Name, mark)
}

// heldSoFar tells how the held connection fares: whether it stands, for how long
// that is proven, and a word for the progress line.
func (r *run) heldSoFar(start held) (alive bool, proven time.Duration, note string) {
	alive = true
	var first, last wire.Event
	for _, e := range r.donor().node.said() {
		if e.Conn != start.conn {
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

// inject breaks something on purpose and writes down what.
func (r *run) inject(ctx context.Context, f inventory.Fault, heldRelay string) {
	target := r.faultTarget(f, heldRelay)
	if target == nil {
		r.missed("", "fault "+string(f.Do), fmt.Errorf("no host of the inventory is %s", f.Host))
		return
	}
	signal := map[inventory.FaultKind]string{inventory.Kill: "KILL", inventory.Stop: "TERM"}[f.Do]
	if err := target.ask(ctx, nil, "host", "kill", "--dir", target.dir(), "--signal", signal); err != nil {
		r.missed(target.Name, "fault "+string(f.Do), err)
		return
	}
	r.talk.Note(fmt.Sprintf("fault injected: %s the node of %s", f.Do, target.Name))
	r.note(evidence.FaultDone, target.Name, evidence.Fault{Fault: string(f.Do), Detail: "SIG" + signal + " to the node"})
}

func (r *run) faultTarget(f inventory.Fault, heldRelay string) *host {
	for _, h := range r.hosts {
		if h.Name == f.Host || f.Host == inventory.HeldRelay && h.node != nil && h.node.peer == heldRelay {
			return h
		}
	}
	return nil
}
