package check

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/wire"
)

// faultsBetween gives what was done on purpose between two lines of the trace.
func (h *history) faultsBetween(from, to uint64) []fault {
	var out []fault
	for _, x := range h.faults {
		if x.seq > from && x.seq < to {
			out = append(out, x)
		}
	}
	return out
}

// faultsBeforeHold and faultsInHold are those of the two steps that may have some.
func (h *history) faultsBeforeHold() []fault {
	if h.holdFrom == nil {
		return h.faults
	}
	return h.faultsBetween(0, h.holdFrom.seq)
}

func (h *history) faultsInHold() []fault {
	if h.holdFrom == nil {
		return nil
	}
	to := uint64(math.MaxUint64)
	if h.holdTo != nil {
		to = h.holdTo.seq
	}
	return h.faultsBetween(h.holdFrom.seq, to)
}

// tellFaults names what was done on purpose, so that nobody wonders, and how long
// the donor took to reserve anew. It takes no side: a claim that a fault makes
// fail has failed.
func (h *history) tellFaults(f *finding, when string, since time.Time, faults []fault) {
	if len(faults) == 0 {
		return
	}
	var what []string
	for _, x := range faults {
		what = append(what, fmt.Sprintf("after %v %s", round(x.event.TS.Sub(since)), x.Fault.Say(x.host)))
		f.cite(x.seq)
	}
	f.see("%s the suite did this on purpose: %s.", when, strings.Join(what, "; "))
	for _, x := range faults {
		if e, took, ok := h.reservedAfter(x); ok {
			f.see("%v after %s, %s made a reservation at %s.", round(took), x.Fault.Say(x.host), h.donor().Name, h.peerName(e.Relay))
			f.cite(e.line)
		}
	}
}

// reservedAfter is the donor's first new reservation between a fault and the next
// one, on the suite's clock.
func (h *history) reservedAfter(x fault) (made said, after time.Duration, ok bool) {
	donor := h.donor()
	if donor == nil || !donor.clockKnown() {
		return made, 0, false
	}
	for _, e := range donor.of(wire.ReservationMade) {
		at := donor.suiteTime(e.Time)
		if e.Renewal || at.Before(x.event.TS) {
			continue
		}
		for _, next := range h.faults {
			if next.seq > x.seq && at.After(next.event.TS) {
				return made, 0, false
			}
		}
		return e, at.Sub(x.event.TS), true
	}
	return made, 0, false
}

// networkIn is the network that a host was in on one side of the hold: what the
// operator says, unless the host was moved.
func (h *history) networkIn(x *host, p evidence.Phase) string {
	moves := h.faultsBeforeHold()
	if p == evidence.AfterHold {
		moves = h.faults
	}
	network := x.Network
	for _, m := range moves {
		if m.host == x.Name && m.Fault.Fault == evidence.FaultRoam {
			network = m.To
		}
	}
	return network
}
