package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/inventory"
	"github.com/worldcompute/wce2e/node/wire"
)

// Diagnosis is what Diagnose needs beside a Config. The zero Diagnosis is a
// thorough one of the donor.
type Diagnosis struct {
	Hosts   []string      // names of the inventory's; empty: the donor
	Observe time.Duration // how long the donor's daemon is watched; 0: the inventory's run.observe
	// Quick leaves out what takes patience: connections are not left silent, and
	// the daemon is watched beside the probes and only for a while.
	Quick bool
}

const (
	quickObserve = 17 * time.Second // a handshake that is swallowed takes 15 s, and is to be seen to end
	quickProbe   = time.Minute      // of a probe that takes 10 s, on a machine that has other things to do
	fullProbe    = 5 * time.Minute  // of one that takes a minute and a half
	answerFor    = 30 * time.Second // a probe that is cut short has this long to tell what it knows
	watchEvery   = 250 * time.Millisecond
)

// Diagnose finds out what is between hosts of the inventory and the relays, and
// returns the verdicts: of every host, whether a relay is reached from there and
// whether all that is in the way is explained. The error is as for Run.
//
//	        the same addresses, layer by layer
//	donor ──[ ? ]──► relay, bootstrap list ◄── submitter: the control
func Diagnose(ctx context.Context, cfg Config, d Diagnosis) (evidence.Results, error) {
	r := newRun(cfg)
	if len(d.Hosts) == 0 {
		d.Hosts = []string{r.donor().Name}
	}
	if d.Observe == 0 {
		d.Observe = r.inv.Run.Observe
	}
	r.kind, r.diagnosis = evidence.Diagnosing, d
	r.story = r.diagnosing()
	return r.carryOut(ctx)
}

// diagnosing is the story of a diagnosis.
func (r *run) diagnosing() []step {
	begin := []step{
		{"connect to the hosts, deploy, look at them", r.prepareAll},
		{"start the relays", r.startRelays},
	}
	probe := step{"try every address of the list, layer by layer", r.probeNetworks}
	if !r.diagnoses(r.donor()) {
		return append(begin, probe)
	}
	if r.diagnosis.Quick {
		return append(begin, step{probe.say + ", and watch the donor's daemon", r.probeAndWatch})
	}
	return append(begin, probe, step{fmt.Sprintf("watch the donor's daemon for %v", r.diagnosis.Observe), r.watchDonor})
}

func (r *run) diagnoses(h *host) bool { return slices.Contains(r.diagnosis.Hosts, h.Name) }

// prepareAll gets all hosts ready. One that is only there to be compared with may
// be missing: the diagnosis then says less.
func (r *run) prepareAll(ctx context.Context) error {
	return on(ctx, r.hosts, "prepare", func(h *host, ctx context.Context) error {
		err := h.prepare(ctx)
		if err == nil || h.Role == inventory.Relay || r.diagnoses(h) || ctx.Err() != nil {
			return err
		}
		h.unfit = true
		r.missed(h.Name, "prepare the control", err)
		return nil
	})
}

func (h *host) prepare(ctx context.Context) error {
	for _, do := range []func(*host, context.Context) error{(*host).connect, (*host).deploy, (*host).preflight} {
		if err := do(h, ctx); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) probeAndWatch(ctx context.Context) error {
	return inParallel([]func(context.Context) error{r.probeNetworks, r.watchDonor}, func(do func(context.Context) error) error { return do(ctx) })
}

// probeNetworks tries the same addresses from all hosts that are diagnosed, and
// from all that these are compared with.
func (r *run) probeNetworks(ctx context.Context) error {
	var hosts []*host
	for _, h := range r.hosts {
		if h.bin != "" && !h.unfit && (h.Role != inventory.Relay || r.diagnoses(h)) {
			hosts = append(hosts, h)
		}
	}
	return inParallel(hosts, func(h *host) error {
		err := h.probeNetwork(ctx)
		if err == nil || r.diagnoses(h) || ctx.Err() != nil {
			return err
		}
		r.missed(h.Name, "probe the control's network", err)
		return nil
	})
}

// probeNetwork has the host look at its network. What it says of a host that is
// diagnosed is shown as it comes.
func (h *host) probeNetwork(ctx context.Context) error {
	d := h.run.diagnosis
	argv := []string{h.bin, "node", "netcheck", "--json", "--dir", h.dir()}
	within := fullProbe
	if d.Quick {
		argv, within = append(argv, "--quick"), quickProbe
	}
	argv = append(argv, "--within", within.String())
	for _, target := range h.run.list {
		argv = append(argv, "--target", target)
	}
	live := io.Discard
	if h.run.diagnoses(h) {
		live = &lines{each: func(line string) { h.run.talk.Note(h.Name + ": " + line) }}
	}
	ctx, cancel := context.WithTimeout(ctx, within+answerFor)
	defer cancel()
	res, err := h.remote.ExecLive(ctx, argv, live)
	if err != nil {
		return fmt.Errorf("%s: probe the network: %w", h.Name, err)
	}
	if res.Code != 0 {
		return fmt.Errorf("%s: node netcheck: exit %d: %s", h.Name, res.Code, lastLine(res.Stderr))
	}
	var said struct {
		Report json.RawMessage `json:"report"`
	}
	if err := json.Unmarshal(res.Stdout, &said); err != nil {
		return fmt.Errorf("%s: node netcheck: its answer: %w", h.Name, err)
	}
	return h.run.note(evidence.NetProbed, h.Name, evidence.NetworkProbe{Diagnosed: h.run.diagnoses(h), Quick: d.Quick, Report: said.Report})
}

// watchDonor starts the donor's daemon as a run does, and watches it. That it does
// not start, or dies, is what a diagnosis is for: no failure of ours.
func (r *run) watchDonor(ctx context.Context) error {
	donor := r.donor()
	if err := donor.start(ctx, r.joinArgs(donor)); err != nil {
		r.missed(donor.Name, "start the daemon", err)
		return nil
	}
	observe := r.diagnosis.Observe
	if r.diagnosis.Quick {
		observe = min(observe, quickObserve)
	}
	began, told := time.Now(), 0
	faults := r.startFaults(ctx, "", "")
	defer faults.cancel()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		events := donor.node.said()
		for _, e := range events[told:] {
			if line := daemonLine(e); line != "" {
				r.talk.Note(donor.Name + ": daemon: " + line)
			}
		}
		told = len(events)
		enough := r.diagnosis.Quick && len(r.inv.Faults) == 0 && settled(events)
		if donor.node.ended() != nil || time.Since(began) >= observe || enough {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// settled tells whether a node has joined, and the dials that it had begun by then
// have ended: what they died of is what is of interest.
func settled(events []wire.Event) bool {
	open, joined := map[string]bool{}, false
	for _, e := range events {
		switch {
		case e.Kind == wire.ReservationMade:
			joined = true
		case e.Kind == wire.DialStarted && !joined:
			open[e.Dial] = true
		case e.Kind == wire.DialEnded:
			delete(open, e.Dial)
		}
	}
	return joined && len(open) == 0
}

// daemonLine tells of an event that a diagnosis is interested in; empty: of none.
func daemonLine(e wire.Event) string {
	switch e.Kind {
	case wire.DialEnded, wire.ResolveEnded:
		return strings.TrimSpace(fmt.Sprintf("%s %s: %s %s", e.Transport, e.Addr, e.Outcome, e.Failure))
	case wire.ReservationMade:
		return "reservation at " + e.Relay
	case wire.ReservationFailed, wire.ReservationLost:
		return fmt.Sprintf("no reservation at %s: %s %s", e.Relay, e.Failure, e.Err)
	}
	return ""
}

// explainFailure diagnoses the donor's network when the run is about to fail.
// That it cannot be done is told, and changes nothing.
func (r *run) explainFailure(ctx context.Context) error {
	donor := r.donor()
	if donor.bin == "" || donor.node == nil {
		return nil
	}
	results, err := r.judge()
	if err != nil || !failing(results) {
		return err
	}
	r.talk.Step("a claim does not pass: try every address of the list, layer by layer")
	r.diagnosis = Diagnosis{Hosts: []string{donor.Name}, Quick: true}
	if err := r.probeNetworks(ctx); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.missed(donor.Name, "diagnose", err)
	}
	return nil
}

// failing tells whether a claim fails that is about the network and can be judged
// before all is over, or whether the donor has not even joined.
func failing(results evidence.Results) bool {
	return slices.ContainsFunc(results.Assertions, func(a evidence.Assertion) bool {
		switch a.Name {
		case evidence.Reservation:
			return a.Verdict != evidence.Pass
		case evidence.HoldClaim, evidence.Circuit, evidence.JobClaim:
			return a.Verdict == evidence.Fail
		}
		return false
	})
}

// lines passes on whole lines of what is written to it.
type lines struct {
	each func(string)
	mu   sync.Mutex // guards rest
	rest []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	for {
		line, rest, whole := bytes.Cut(l.rest, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		l.each(string(line))
		l.rest = rest
	}
}
