package check

import (
	"slices"
	"strings"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/wire"
)

// stepReservation is how the suite calls the step of waiting for the donor's
// reservation, in step.failed.
const stepReservation = "reservation"

// remedy is what to do where no relay grants a reservation.
const remedy = "A relay of one's own is the remedy: a third machine with a public address, in the inventory with role: relay."

// unmet says why something that needs the donor's reservation was not done, and
// whether that speaks against the mesh. That the suite did not come so far is no
// failure of the mesh; that the donor could not be reached is one.
func (h *history) unmet(f *finding, what string) {
	what = capital(what)
	donor := h.donor()
	if donor == nil {
		f.lack("%s: the trace names no donor.", what)
		return
	}
	if len(donor.exits) > 0 {
		h.unmetByDeath(f, donor.exits[0], what)
		return
	}
	i := slices.IndexFunc(h.failures, func(x failure) bool { return x.Step == stepReservation })
	if i < 0 {
		f.lack("%s: not in the trace%s.", what, h.stepErrors())
		return
	}
	f.cite(h.failures[i].seq)
	if len(donor.of(wire.ReservationMade)) > 0 {
		f.fail("%s: %s had lost its reservation and got no other in time.", what, donor.Name)
		return
	}
	h.neverReserved(f, donor, what)
}

// unmetByDeath: a node that its supervisor ended, because the suite was gone,
// did as it should.
func (h *history) unmetByDeath(f *finding, e exit, what string) {
	f.cite(e.seq)
	say := f.fail
	if e.Lease {
		say = f.lack
	}
	say("%s: the node of %s had ended: %s.", what, e.host, e)
}

// stepErrors tells of the steps that failed, for a reader who wonders.
func (h *history) stepErrors() string {
	var words []string
	for _, x := range h.failures {
		words = append(words, x.Step+": "+x.Err)
	}
	if len(words) == 0 {
		return ""
	}
	words = unique(words)
	return " (" + strings.Join(words[:min(len(words), tailLines)], "; ") + ")"
}

// neverReserved tells why the donor got no reservation. A donor that reached
// nobody did not get out. One that reached strangers who are no relays, or are
// full, says nothing about firewalls.
func (h *history) neverReserved(f *finding, donor *host, what string) {
	ok, failed, common := dialSummary(donor)
	refusals := donor.of(wire.ReservationFailed)
	switch {
	case ok == 0 && failed > 0:
		f.fail("%s: %s got out to nobody: %d dials failed, most of them with %s.", what, donor.Name, failed, common)
	case ok == 0:
		f.lack("%s: %s dialled nobody.", what, donor.Name)
	case h.hasRelays():
		f.fail("%s: %s got no reservation, though there are relays of our own: %s.", what, donor.Name, refused(refusals))
	default:
		f.lack("%s: %s got out (%d dials ok), but no relay granted it a reservation: %s. %s", what, donor.Name, ok, refused(refusals), remedy)
	}
	for _, e := range refusals {
		f.cite(e.line)
	}
}

// dialSummary counts a host's direct dials and names the most common failure.
func dialSummary(x *host) (ok, failed int, common string) {
	count := map[string]int{}
	for _, e := range x.of(wire.DialEnded) {
		switch e.Outcome {
		case wire.OK:
			ok++
		case wire.Failed:
			failed++
			count[e.Failure]++
		}
	}
	for w, n := range count {
		if n > count[common] || n == count[common] && w < common || common == "" {
			common = w
		}
	}
	return ok, failed, common
}

// refused tells by what words relays refused.
func refused(refusals []said) string {
	if len(refusals) == 0 {
		return "none was asked that is a relay"
	}
	var words []string
	for _, e := range refusals {
		words = append(words, word(e.Failure, e.Err))
	}
	words = unique(words)
	return "refused with " + strings.Join(words[:min(len(words), tailLines)], ", ")
}

// unmetPhase is unmet for a step that is due on each side of the hold: both
// sides missing are told as one.
func (h *history) unmetPhase(f *finding, what string, p evidence.Phase, made bool) {
	switch {
	case made:
		h.unmet(f, what+" "+string(p)+" the hold")
	case p == evidence.BeforeHold:
		h.unmet(f, what)
	}
}

// capital makes a word begin a sentence.
func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
