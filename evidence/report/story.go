package report

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/worldcompute/wce2e/evidence"
)

// story is a bundle, told by its subjects instead of by time.
type story struct {
	bundle  *evidence.Bundle
	started evidence.Started
	lab     *evidence.LabFacts
	ended   *evidence.Ended
	from    time.Time // of the first line, on the suite's clock
	to      time.Time // of the last line
	hosts   []*host   // in the order of run.started, then as they turn up
	lines   []line
	probes  []probe
	jobs    []job
	holds   []mark[evidence.Hold] // starts and ends
	faults  []mark[evidence.Fault]
	exits   []mark[evidence.Exit]
	failed  []mark[evidence.Failure]
	names   map[string]string // peer ID -> host

	diagnosed bool // a host's network was
}

// host is one machine of the run.
type host struct {
	name    string
	said    evidence.Host
	target  evidence.Connected
	facts   *evidence.Facts
	deploy  *evidence.Deployment
	node    *evidence.NodeStart
	log     *evidence.LogFile
	residue []mark[evidence.Leftovers]
	events  []moment // of its nodes, in the order of the trace
}

// moment is a node's event on the suite's clock.
type moment struct {
	said
	at  time.Time
	seq uint64
}

// mark is a payload and where it stands in the trace.
type mark[T any] struct {
	at   time.Time
	seq  uint64
	host string
	name evidence.Name
	data T
}

type probe struct {
	mark[evidence.Probe]
	result dialResult
}

type job struct {
	mark[evidence.Job]
	result jobResult
}

// tell reads the trace once. A payload that cannot be decoded is skipped here:
// its line is listed all the same, and the checkers judge it.
func tell(b *evidence.Bundle) *story {
	s := &story{bundle: b, names: map[string]string{}}
	if n := len(b.Events); n > 0 {
		s.from, s.to = b.Events[0].TS, b.Events[n-1].TS
	}
	for _, e := range b.Events {
		s.event(e)
	}
	s.setClocks()
	for _, e := range b.Events {
		s.lines = append(s.lines, s.line(e))
	}
	return s
}

func (s *story) event(e evidence.Event) {
	if e.Host != "" {
		s.host(e.Host)
	}
	switch e.Name {
	case evidence.RunStarted:
		if decode(e, &s.started) {
			for _, h := range s.started.Hosts {
				s.host(h.Name).said = h
			}
		}
	case evidence.LabUp:
		s.lab = decoded[evidence.LabFacts](e)
	case evidence.RunEnded:
		s.ended = decoded[evidence.Ended](e)
	case evidence.NetProbed:
		probe := decoded[evidence.NetworkProbe](e)
		s.diagnosed = s.diagnosed || probe != nil && probe.Diagnosed
	case evidence.NodeSaid:
		s.nodeSaid(e)
	case evidence.HostUp, evidence.HostFacts, evidence.Deployed, evidence.NodeUp, evidence.LogCollected, evidence.Residue:
		s.ofHost(e, s.host(e.Host))
	default:
		s.step(e)
	}
}

func (s *story) ofHost(e evidence.Event, h *host) {
	switch e.Name {
	case evidence.HostUp:
		decode(e, &h.target)
	case evidence.HostFacts:
		h.facts = decoded[evidence.Facts](e)
	case evidence.Deployed:
		h.deploy = decoded[evidence.Deployment](e)
	case evidence.NodeUp:
		if h.node = decoded[evidence.NodeStart](e); h.node != nil {
			s.names[h.node.PeerID] = h.name
		}
	case evidence.LogCollected:
		h.log = decoded[evidence.LogFile](e)
	case evidence.Residue:
		h.residue = marked(h.residue, e)
	}
}

func (s *story) step(e evidence.Event) {
	switch e.Name {
	case evidence.HoldStarted, evidence.HoldEnded:
		s.holds = marked(s.holds, e)
	case evidence.FaultDone:
		s.faults = marked(s.faults, e)
	case evidence.NodeExited:
		s.exits = marked(s.exits, e)
	case evidence.StepFailed, evidence.SuiteFailed:
		s.failed = marked(s.failed, e)
	case evidence.DialProbed:
		for _, m := range marked[evidence.Probe](nil, e) {
			p := probe{mark: m}
			json.Unmarshal(m.data.Result, &p.result) // a result that is none is shown empty
			s.probes = append(s.probes, p)
		}
	case evidence.JobDone:
		for _, m := range marked[evidence.Job](nil, e) {
			j := job{mark: m}
			json.Unmarshal(m.data.Result, &j.result)
			s.jobs = append(s.jobs, j)
		}
	}
}

func (s *story) nodeSaid(e evidence.Event) {
	m := moment{seq: e.Seq}
	if decode(e, &m.said) {
		h := s.host(e.Host)
		h.events = append(h.events, m)
	}
}

// setClocks moves the nodes' events to the suite's clock, by the offset that
// the preflight measured.
func (s *story) setClocks() {
	for _, h := range s.hosts {
		var offset time.Duration
		if h.facts != nil {
			offset = ms(h.facts.ClockOffsetMS)
		}
		for i := range h.events {
			h.events[i].at = h.events[i].Time.Add(-offset)
		}
	}
}

func (s *story) host(name string) *host {
	for _, h := range s.hosts {
		if h.name == name {
			return h
		}
	}
	h := &host{name: name, said: evidence.Host{Name: name}}
	s.hosts = append(s.hosts, h)
	return h
}

// byRole gives the first host of a role, or nil.
func (s *story) byRole(role string) *host {
	if i := slices.IndexFunc(s.hosts, func(h *host) bool { return h.said.Role == role }); i >= 0 {
		return s.hosts[i]
	}
	return nil
}

// hold gives the start of the last hold, and its end if there is one.
func (s *story) hold() (start, end *mark[evidence.Hold]) {
	for i := range s.holds {
		if s.holds[i].name == evidence.HoldStarted {
			start, end = &s.holds[i], nil
		} else {
			end = &s.holds[i]
		}
	}
	return start, end
}

func decode[T any](e evidence.Event, to *T) bool {
	var v T
	if json.Unmarshal(e.Data, &v) != nil {
		return false
	}
	*to = v
	return true
}

func decoded[T any](e evidence.Event) *T {
	v := new(T)
	if !decode(e, v) {
		return nil
	}
	return v
}

func marked[T any](list []mark[T], e evidence.Event) []mark[T] {
	m := mark[T]{at: e.TS, seq: e.Seq, host: e.Host, name: e.Name}
	if !decode(e, &m.data) {
		return list
	}
	return append(list, m)
}
