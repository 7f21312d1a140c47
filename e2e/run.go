// Package e2e is the acceptance run: it puts nodes on the machines of an
// inventory, lets a donor join from behind its firewall, sends it a job through
// a relay, holds the connection, sends another, and leaves a bundle of evidence.
//
//	     suite ──SSH──┬──────────────┬──────────────┐
//	                  ▼              ▼              ▼
//	donor ─[firewall]─► relay ◄──────────── submitter
//	  ▲                 circuit + job            │
//	  └─────────[ direct: must fail ]────────────┘
//
// Every observation goes into the bundle as it is made. Verdicts are made from
// the bundle alone, by e2e/check.
package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/worldcompute/wce2e/e2e/check"
	"github.com/worldcompute/wce2e/e2e/remote"
	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/inventory"
)

// Config is what a run needs from outside. Inventory, Bundle, Dial, Binary and
// Answers must be set.
type Config struct {
	Inventory *inventory.Inventory
	Bundle    *evidence.Writer // begun by the caller; Run appends, and leaves sealing to the caller
	Lab       *evidence.LabFacts
	Source    evidence.Source
	Version   string  // of the suite, for metadata.json
	Keep      bool    // leave the nodes' files on the hosts; they are then listed as residue
	Network   Network // nil: what lies between the hosts is not ours to break
	// Transports are the only ones that donor and submitter speak, as words of
	// `node run --transport`. None: all.
	Transports []string

	// Explain has the donor's network diagnosed, quickly and into the same bundle, when
	// the donor does not join or a claim about its network fails. It changes no verdict.
	Explain bool

	// Dial reaches a host. The hosts of a lab and real ones come the same way.
	Dial func(ctx context.Context, h inventory.Host) (remote.Remote, error)
	// Binary gives the release build for a platform: its path here and its SHA-256.
	Binary func(ctx context.Context, goos, goarch string) (path, sha256 string, err error)
	// Introduce gives what donor and submitter are told to start from, once our own
	// relays are up: a name for their addresses, say. nil: those addresses, and what
	// the inventory lists.
	Introduce func(ctx context.Context, relays []string) ([]string, error)
	// Answers recomputes what a fixture's answer must be, for the verdicts.
	Answers check.Answers

	Talk Talk         // nil means silence
	Log  *slog.Logger // nil means discard
}

// Talk is how a run tells a person what it is doing.
type Talk interface {
	// Step begins the next step of the story.
	Step(text string)
	// Note says something about the step.
	Note(text string)
	// Holding is called about once a second during the hold. note is short.
	Holding(done, total time.Duration, note string)
}

// teardownTimeout bounds each phase of the end of a run, whatever state the hosts
// are in: stopping takes 10 s per node, in parallel, and fetching logs some more.
const teardownTimeout = 90 * time.Second

// Run carries out the run and returns its verdicts. The error, if any, is the
// suite's own failure, not the mesh's; the verdicts are there all the same,
// made from what had been seen until then.
func Run(ctx context.Context, cfg Config) (evidence.Results, error) {
	r := newRun(cfg)
	r.story = r.acceptance()
	if cfg.Explain {
		r.after = r.explainFailure
	}
	return r.carryOut(ctx)
}

// carryOut tells a story from its beginning to its end, and judges it.
func (r *run) carryOut(ctx context.Context) (evidence.Results, error) {
	ctx, r.abort = context.WithCancelCause(ctx)
	defer r.abort(nil)
	err := r.begin()
	if err == nil {
		err = r.play(ctx)
	}
	if err == nil && r.after != nil {
		err = r.after(ctx)
	}
	interrupted := ctx.Err() != nil
	if interrupted && err == nil {
		err = context.Cause(ctx)
	}
	err = errors.Join(err, r.tearDown(ctx))
	err = errors.Join(err, r.end(interrupted, err))
	results, werr := r.verdicts()
	return results, errors.Join(err, werr)
}

// run is one acceptance run under way.
type run struct {
	cfg   Config
	inv   *inventory.Inventory
	out   *evidence.Writer
	talk  Talk
	log   *slog.Logger
	began time.Time
	id    string
	hosts []*host                 // in the order of the inventory
	abort context.CancelCauseFunc // ends the run: its evidence can no longer be written

	list      []string // the addresses that nodes start from; nil until our relays are up
	story     []step
	after     func(context.Context) error // of the story, with the nodes still there; nil: nothing
	kind      evidence.Kind
	diagnosis Diagnosis // what is diagnosed, if anything is
}

// step is one of a story.
type step struct {
	say string
	do  func(context.Context) error
}

func newRun(cfg Config) *run {
	r := &run{cfg: cfg, inv: cfg.Inventory, out: cfg.Bundle, talk: cfg.Talk, log: cfg.Log, began: time.Now().UTC()}
	if r.talk == nil {
		r.talk = silence{}
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.id = r.began.Format("20060102T150405Z") + "-" + randomHex(3)
	for _, h := range r.inv.Hosts {
		r.hosts = append(r.hosts, &host{Host: h, run: r, log: r.log.With("host", h.Name)})
	}
	return r
}

// begin writes what is known before any host is touched.
func (r *run) begin() error {
	started := evidence.Started{
		RunID: r.id, Inventory: r.inv.Name, Area: r.inv.Area, Lab: r.cfg.Lab != nil,
		Hold: evidence.Duration(r.inv.Run.Hold), Observe: evidence.Duration(r.inv.Run.Observe),
		Fixture: r.inv.Job.Fixture, Source: r.cfg.Source, Keep: r.cfg.Keep,
		Kind: r.kind, Diagnosed: r.diagnosis.Hosts,
	}
	for _, h := range r.inv.Hosts {
		started.Hosts = append(started.Hosts, evidence.Host{Name: h.Name, Role: string(h.Role), Network: h.Network, ExpectBlocked: h.ExpectBlocked})
	}
	if err := r.out.WriteFile("inventory.yaml", r.inv.Scrub()); err != nil {
		return err
	}
	if err := r.note(evidence.RunStarted, "", started); err != nil {
		return err
	}
	if r.cfg.Lab == nil {
		return nil
	}
	return r.note(evidence.LabUp, "", *r.cfg.Lab)
}

// acceptance is the story of a run, from the first connection to the last job.
func (r *run) acceptance() []step {
	return []step{
		{"connect to the hosts", r.onAll("connect", (*host).connect)},
		{"deploy", r.onAll("deploy", (*host).deploy)},
		{"look at the hosts", r.onAll("preflight", (*host).preflight)},
		{"start the nodes", r.startNodes},
		{"wait for the donor's reservation", r.join},
		{"controls: is there a firewall, and do the dials work that must", r.controls},
		{"dial and send a job through the relay", func(ctx context.Context) error { return r.useCircuit(ctx, evidence.BeforeHold) }},
		{fmt.Sprintf("hold the relay connection for %v", r.inv.Run.Hold), r.hold},
		{"dial and send a job through the relay again", func(ctx context.Context) error {
			r.mappedPorts(ctx)
			return r.useCircuit(ctx, evidence.AfterHold)
		}},
	}
}

// play tells the story. It ends early when there is nothing left to tell, or when
// ctx is done.
func (r *run) play(ctx context.Context) error {
	for _, step := range r.story {
		r.talk.Step(step.say)
		err := step.do(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, errMissed) {
			return nil // it is in the trace: the verdicts will tell
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// errMissed ends the story without being an error of ours: the mesh did not let
// us go on, which has been written down.
var errMissed = errors.New("a step was missed")

// tearDown stops what we started and fetches what it said, whatever happened.
func (r *run) tearDown(ctx context.Context) error {
	r.talk.Step("collect the logs and tear down")
	ctx = context.WithoutCancel(ctx)
	phase := func(hosts []*host, what string, do func(*host, context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, teardownTimeout) // a host that hangs takes no time from the others
		defer cancel()
		return on(ctx, hosts, what, do)
	}
	// The relays last: what they do while they stop is no part of the donor's story.
	var relays, others []*host
	for _, h := range r.hosts {
		if h.Role == inventory.Relay {
			relays = append(relays, h)
		} else {
			others = append(others, h)
		}
	}
	err := errors.Join(
		phase(others, "collect", (*host).collect),
		phase(relays, "collect", (*host).collect),
		// Two of our hosts may be one machine: look when all have been cleaned.
		phase(r.hosts, "look for leftovers", (*host).leftBehind),
	)
	for _, h := range r.hosts {
		if h.remote != nil {
			err = errors.Join(err, h.remote.Close())
		}
	}
	return err
}

// end closes the trace.
func (r *run) end(interrupted bool, err error) error {
	ended := evidence.Ended{How: "finished"}
	switch {
	case interrupted:
		ended.How, ended.Err = "interrupted", err.Error()
	case err != nil:
		ended.How, ended.Err = "failed", err.Error()
		if werr := r.note(evidence.SuiteFailed, "", evidence.Failure{Step: "run", Err: ended.Err}); werr != nil {
			return werr
		}
	}
	return r.note(evidence.RunEnded, "", ended)
}

// verdicts judges what the bundle holds and writes results.json and metadata.json.
func (r *run) verdicts() (evidence.Results, error) {
	results, err := r.judge()
	if err != nil {
		return results, err
	}
	for _, a := range results.Assertions {
		r.log.Info("verdict", "claim", a.Name, "verdict", a.Verdict, "observed", a.Observed)
	}
	r.log.Info("verdict", "overall", results.Overall, "label", results.Label)
	return results, errors.Join(
		r.writeJSON("results.json", results),
		r.writeJSON("metadata.json", r.metadata()),
	)
}

// judge judges what the bundle holds by now.
func (r *run) judge() (evidence.Results, error) {
	b, err := evidence.Open(r.out.Dir())
	if err != nil {
		return evidence.Results{}, fmt.Errorf("read the bundle back: %w", err)
	}
	return check.Check(check.Input{Events: b.Events, Logs: b.Logs, Problems: b.Problems, Answers: r.cfg.Answers}), nil
}

func (r *run) writeJSON(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return r.out.WriteFile(name, append(b, '\n'))
}

// note appends one observation to the trace. A trace that cannot be written ends
// the run by itself: its error may be left to abort.
func (r *run) note(name evidence.Name, host string, data any) error {
	if _, err := r.out.Append(name, host, data); err != nil {
		err = fmt.Errorf("write %s to the trace: %w", name, err)
		r.abort(err)
		return err
	}
	return nil
}

// missed records a step that the mesh did not let us do.
func (r *run) missed(host, step string, err error) {
	r.talk.Note(fmt.Sprintf("%s: %v", step, err))
	r.log.Warn("step failed", "host", host, "step", step, "err", err)
	r.note(evidence.StepFailed, host, evidence.Failure{Step: step, Err: err.Error()})
}

// byRole gives the first host of a role. The inventory has been checked: there
// is a donor and a submitter.
func (r *run) byRole(role inventory.Role) *host {
	for _, h := range r.hosts {
		if h.Role == role {
			return h
		}
	}
	return nil
}

func (r *run) donor() *host     { return r.byRole(inventory.Donor) }
func (r *run) submitter() *host { return r.byRole(inventory.Submitter) }

func (r *run) relays() []*host     { return r.allOf(inventory.Relay) }
func (r *run) neighbours() []*host { return r.allOf(inventory.Neighbour) }

func (r *run) allOf(role inventory.Role) []*host {
	var hs []*host
	for _, h := range r.hosts {
		if h.Role == role {
			hs = append(hs, h)
		}
	}
	return hs
}

// onAll is a step that does one thing on all hosts at once.
func (r *run) onAll(what string, do func(*host, context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error { return on(ctx, r.hosts, what, do) }
}

// on does one thing on several hosts at once and joins what went wrong.
func on(ctx context.Context, hosts []*host, what string, do func(*host, context.Context) error) error {
	return inParallel(hosts, func(h *host) error {
		if err := do(h, ctx); err != nil {
			return fmt.Errorf("%s: %s: %w", h.Name, what, err)
		}
		return nil
	})
}

type silence struct{}

func (silence) Step(string)                                  {}
func (silence) Note(string)                                  {}
func (silence) Holding(time.Duration, time.Duration, string) {}
