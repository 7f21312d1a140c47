package check

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/netcheck"
	"github.com/worldcompute/wce2e/node/wire"
)

// Network is one host that was diagnosed.
type Network struct {
	Host string
	Line uint64 // of the trace, with what the host saw
	// Report is what it saw, with what hosts of other networks saw of the same
	// addresses, what relays say of it, and what became of its daemon.
	Report    netcheck.Report
	Diagnosis netcheck.Diagnosis
}

// Networks diagnoses every host that was to be diagnosed, in the order of the
// inventory, from the trace alone. None: nothing was diagnosed.
func Networks(in Input) []Network {
	h, err := read(in)
	if err != nil {
		return nil
	}
	var list []Network
	for _, x := range h.hosts {
		if n, ok := h.network(x); ok {
			list = append(list, n)
		}
	}
	return list
}

// network is a line of the trace with what a host saw of its network.
type network struct {
	line
	evidence.NetworkProbe
	report netcheck.Report
}

func (h *history) takeNetwork(l line) error {
	n := network{line: l}
	if err := decode(l.event, &n.NetworkProbe); err != nil {
		return err
	}
	if err := json.Unmarshal(n.NetworkProbe.Report, &n.report); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	h.networks = append(h.networks, n)
	return nil
}

// network puts together what is known about one host's network: its own report,
// the controls, the daemon. ok is false where it was not diagnosed.
func (h *history) network(x *host) (n Network, ok bool) {
	own := h.probed(x)
	if own == nil || !own.Diagnosed {
		return n, false
	}
	n = Network{Host: x.Name, Line: own.seq, Report: own.report}
	n.Report.Controls = h.controlsOf(x)
	n.Report.Arrivals = h.arrivalsFrom(x, own)
	n.Report.Daemon = h.daemon(x)
	n.Diagnosis = netcheck.Diagnose(n.Report)
	return n, true
}

// probed is the last look at a host's network; nil: there was none.
func (h *history) probed(x *host) (last *network) {
	for i, n := range h.networks {
		if n.host == x.Name {
			last = &h.networks[i]
		}
	}
	return last
}

// controlsOf are what others saw: hosts that are not known to be on the same
// network. What is between them and the relays is something else.
func (h *history) controlsOf(x *host) []netcheck.Control {
	list := []netcheck.Control{}
	for _, y := range h.hosts {
		n := h.probed(y)
		if y == x || n == nil || x.Network != "" && y.Network == x.Network {
			continue
		}
		list = append(list, netcheck.Control{Host: y.Name, Records: n.report.Records})
	}
	return list
}

// daemon is what became of a host's node; nil: none was started.
func (h *history) daemon(x *host) *netcheck.Daemon {
	if !x.ran() {
		return nil
	}
	d := &netcheck.Daemon{Started: len(x.ups) > 0 || len(x.events) > 0}
	for _, b := range x.boots {
		b.countDials(d)
	}
	d.Joined, d.Way = x.joined()
	if len(x.events) > 0 {
		began := x.suiteTime(x.events[0].Time)
		d.Lived = max(0, h.endOf(x, x.boots[len(x.boots)-1]).Sub(began).Seconds())
	}
	if len(x.exits) > 0 {
		if e := x.exits[len(x.exits)-1]; !e.Lease { // its supervisor ends it when the suite is gone
			d.Ended, d.Exit, d.Said = true, e.Code, lastLines(e.Tail, 1)
		}
	}
	return d
}

// countDials counts what a start of a node dialled, beside circuits: these say
// something about their relay, and nothing about the network.
func (b *boot) countDials(d *netcheck.Daemon) {
	open := map[string]bool{}
	for _, e := range b.events {
		if e.Transport == "circuit" {
			continue
		}
		switch e.Kind {
		case wire.DialStarted:
			d.Dials++
			open[e.Dial] = true
		case wire.DialEnded:
			delete(open, e.Dial)
			if netcheck.Failure(e.Failure) == netcheck.SecurityTimeout {
				d.Stalled++
			}
		}
	}
	d.Silent += len(open)
}

// joined tells whether a relay granted the node a reservation, and by which
// transport the first one was reached.
func (x *host) joined() (joined bool, way string) {
	for _, b := range x.boots {
		for _, e := range b.of(wire.ReservationMade) {
			opened, _ := b.connOpened(e.Conn)
			return true, cmp.Or(opened.Transport, e.Transport)
		}
	}
	return false, ""
}

// ran tells whether a node was started on the host, or was to be.
func (x *host) ran() bool {
	return len(x.ups) > 0 || len(x.events) > 0 || len(x.exits) > 0 || x.log != nil || x.hashed != nil
}

// used are the hosts that the run did something on. An acceptance run needs them
// all; a diagnosis goes on without a host that is only there to be compared with.
func (h *history) used() []*host {
	if h.started.Kind != evidence.Diagnosing {
		return h.hosts
	}
	return slices.DeleteFunc(slices.Clone(h.hosts), func(x *host) bool { return len(x.deployed) == 0 && len(x.left) == 0 })
}

// diagnosisClaims are those of a diagnosis: one for each host that was to be
// diagnosed, and what is claimed of every run.
func (h *history) diagnosisClaims() []claim {
	var list []claim
	for _, name := range h.toDiagnose() {
		list = append(list, claim{evidence.WayOut(name), "A relay is reached from " + name + ", and whatever is in the way is explained.",
			func(h *history, f *finding) {
				if x := h.host(name); x != nil {
					h.wayOut(f, x)
				} else {
					f.lack("The run knows no host of that name.")
				}
			}})
	}
	for _, c := range claims {
		if c.name == evidence.ResidueFree || c.name == evidence.Whole {
			list = append(list, c)
		}
	}
	return list
}

// toDiagnose are the names of the hosts that were to be diagnosed. A diagnosis of
// nobody has one, too, whose claim nothing can show.
func (h *history) toDiagnose() []string {
	if len(h.started.Diagnosed) == 0 {
		return []string{"nobody"}
	}
	return h.started.Diagnosed
}

// wayOut judges one host: it passes where a relay is reached, fails where it is
// known why none is, and stays open where something is not known.
func (h *history) wayOut(f *finding, x *host) {
	n, ok := h.network(x)
	if !ok {
		f.lack("The network of %s was not looked at, or what was seen cannot be understood.", x.Name)
		return
	}
	f.cite(n.Line)
	d := n.Diagnosis
	for _, c := range d.Causes {
		say := f.see
		switch {
		case c.Cause == netcheck.NoControl:
			say = f.lack
		case len(d.Ways) == 0 && !c.Cause.PeersOnly():
			say = f.fail
		}
		say("%s (%s): %s", c.Cause, c.Confidence, c.Sentence)
	}
	switch {
	case len(d.Ways) > 0:
		f.see("A relay is reached by %s.", strings.Join(d.Ways, ", "))
	case !slices.ContainsFunc(d.Causes, func(c netcheck.Finding) bool { return !c.Cause.PeersOnly() }):
		f.lack("No relay is reached, and nothing is in the way of that.")
	}
	if d.Hypothesis != netcheck.NoHypothesis {
		f.see("Of the donor's daemon, hypothesis %s holds.", d.Hypothesis)
	}
	if !d.Explained() { // what is not known outweighs what is: fail would say that it is
		f.missing, f.wrong = append(f.missing, f.wrong...), nil
	}
}

// explained is the label of a diagnosis.
func (h *history) explained() evidence.Label {
	for _, name := range h.toDiagnose() {
		x := h.host(name)
		if x == nil {
			return evidence.Unexplained
		}
		if n, ok := h.network(x); !ok || !n.Diagnosis.Explained() {
			return evidence.Unexplained
		}
	}
	return evidence.Explained
}
