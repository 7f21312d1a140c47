package check

import (
	"encoding/json"
	"fmt"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/wire"
)

// history is a trace made ready for questions.
type history struct {
	in      Input
	started evidence.Started // zero: the trace does not begin
	lab     bool             // the trace tells of a simulated internet

	hosts    []*host // in the order of the inventory
	probes   []probe
	jobs     []task
	holdFrom *mark // nil: the hold never began; the first one, should there be several
	holdTo   *mark // nil: the hold never ended
	networks []network
	faults   []fault
	failures []failure
	endings  []evidence.Ended
	lastLine uint64 // seq of the trace's last line

	// unreadable are lines whose data is not what their name promises.
	unreadable []string
}

// line is where in the trace something was said.
type line struct {
	seq   uint64
	host  string
	event evidence.Event
}

type probe struct {
	line
	evidence.Probe
	result wire.DialResult
}

type task struct {
	line
	evidence.Job
	result wire.DispatchResult
}

type mark struct {
	line
	evidence.Hold
}

type fault struct {
	line
	evidence.Fault
}

type failure struct {
	line
	evidence.Failure
}

// newHistory reads the trace. What cannot be read is remembered as unreadable.
func newHistory(in Input) *history {
	h := &history{in: in}
	for _, e := range in.Events {
		h.lastLine = e.Seq
		if err := h.take(e); err != nil {
			h.unreadable = append(h.unreadable, fmt.Sprintf("line %d (%s): %v", e.Seq, e.Name, err))
		}
	}
	return h
}

func (h *history) take(e evidence.Event) error {
	l := line{seq: e.Seq, host: e.Host, event: e}
	switch e.Name {
	case evidence.RunStarted:
		return h.begin(e)
	case evidence.LabUp:
		h.lab = true
	case evidence.DialProbed:
		return h.takeProbe(l)
	case evidence.JobDone:
		return h.takeJob(l)
	case evidence.NetProbed:
		return h.takeNetwork(l)
	case evidence.HoldStarted:
		return h.takeHold(l, &h.holdFrom)
	case evidence.HoldEnded:
		return h.takeHold(l, &h.holdTo)
	case evidence.FaultDone:
		f := fault{line: l}
		err := decode(e, &f.Fault)
		h.faults = append(h.faults, f)
		return err
	case evidence.StepFailed:
		f := failure{line: l}
		err := decode(e, &f.Failure)
		h.failures = append(h.failures, f)
		return err
	case evidence.RunEnded:
		var end evidence.Ended
		err := decode(e, &end)
		h.endings = append(h.endings, end)
		return err
	default:
		if host := h.host(e.Host); host != nil {
			return host.take(l)
		}
	}
	return nil
}

// begin takes run.started: the first one counts.
func (h *history) begin(e evidence.Event) error {
	if len(h.hosts) > 0 {
		return fmt.Errorf("the run starts a second time")
	}
	if err := decode(e, &h.started); err != nil {
		return err
	}
	for _, said := range h.started.Hosts {
		h.hosts = append(h.hosts, &host{Host: said})
	}
	return nil
}

func (h *history) takeProbe(l line) error {
	p := probe{line: l}
	if err := decode(l.event, &p.Probe); err != nil {
		return err
	}
	if err := json.Unmarshal(p.Result, &p.result); err != nil {
		return fmt.Errorf("result: %w", err)
	}
	h.probes = append(h.probes, p)
	return nil
}

func (h *history) takeJob(l line) error {
	t := task{line: l}
	if err := decode(l.event, &t.Job); err != nil {
		return err
	}
	if err := json.Unmarshal(t.Result, &t.result); err != nil {
		return fmt.Errorf("result: %w", err)
	}
	h.jobs = append(h.jobs, t)
	return nil
}

func (h *history) takeHold(l line, to **mark) error {
	m := &mark{line: l}
	if err := decode(l.event, &m.Hold); err != nil {
		return err
	}
	if *to == nil {
		*to = m
	}
	return nil
}

func decode(e evidence.Event, v any) error {
	if len(e.Data) == 0 {
		return fmt.Errorf("it has no data")
	}
	return json.Unmarshal(e.Data, v)
}

// host finds a host by its name.
func (h *history) host(name string) *host {
	for _, x := range h.hosts {
		if x.Name == name {
			return x
		}
	}
	return nil
}

// byRole gives the first host of a role, nil if there is none.
func (h *history) byRole(role string) *host {
	for _, x := range h.hosts {
		if x.Role == role {
			return x
		}
	}
	return nil
}

func (h *history) donor() *host { return h.byRole("donor") }

// neighbours are the donors beside the donor.
func (h *history) neighbours() []*host {
	var out []*host
	for _, x := range h.hosts {
		if x.Role == "neighbour" {
			out = append(out, x)
		}
	}
	return out
}

func (h *history) submitter() *host { return h.byRole("submitter") }

// relay finds the host of the inventory that is the relay with this peer ID.
// Nil: the relay is somebody else's.
func (h *history) relay(peer string) *host {
	for _, x := range h.hosts {
		if x.Role == "relay" && x.is(peer) {
			return x
		}
	}
	return nil
}

func (h *history) hasRelays() bool {
	r := h.byRole("relay")
	return r != nil && len(r.ups) > 0
}

// hostOf finds the host whose node has this peer ID.
func (h *history) hostOf(peer string) *host {
	for _, x := range h.hosts {
		if x.is(peer) {
			return x
		}
	}
	return nil
}

// both gives the donor and the submitter, or says what is missing of them.
func (h *history) both(f *finding) (donor, submitter *host, ok bool) {
	donor, submitter = h.donor(), h.submitter()
	for _, x := range []struct {
		role string
		host *host
	}{{"donor", donor}, {"submitter", submitter}} {
		switch {
		case x.host == nil:
			f.lack("The trace names no %s.", x.role)
		case x.host.peer() == "":
			f.lack("No node came up on the %s %s.", x.role, x.host.Name)
		}
	}
	return donor, submitter, f.sound()
}

// inPhase tells whether a line of the trace stands on that side of the hold. A
// hold that never began comes after everything.
func (h *history) inPhase(seq uint64, p evidence.Phase) bool {
	switch p {
	case evidence.BeforeHold:
		return h.holdFrom == nil || seq < h.holdFrom.seq
	case evidence.AfterHold:
		return h.holdTo != nil && seq > h.holdTo.seq
	}
	return false
}

// phases are the sides of the hold on which the donor must be used.
var phases = []evidence.Phase{evidence.BeforeHold, evidence.AfterHold}
