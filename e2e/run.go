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
	Version   string // of the suite, for metadata.json
	Keep      bool   // leave the nodes' files on the hosts; they are then listed as residue

	// Dial reaches a host. The hosts of a lab and real ones come the same way.
	Dial func(ctx context.Context, h inventory.Host) (remote.Remote, error)
	// Binary gives the release build for a platform: its path here and its SHA-256.
	Binary func(ctx context.Context, goos, goarch string) (path, sha256 string, err error)
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

// teardownTimeout bounds the end of a run, whatever state the hosts are in:
// stopping takes 10 s per node, in parallel, and fetching logs some more.
const teardownTimeout = 90 * time.Second

// Run carries out the run and returns its verdicts. The error, if any, is the
// suite's own failure, not the mesh's; the verdicts are there all the same,
// made from what had been seen until then.
func Run(ctx context.Context, cfg Config) (evidence.Results, error) {
	r := newRun(cfg)
	err := r.begin()
	if err == nil {
		err = r.play(ctx)
	}
	err = errors.Join(err, r.tearDown(ctx))
	err = errors.Join(err, r.end(ctx, err))
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
	hosts []*host // in the order of the inventory
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
		Fixture: r.inv.Job.Fixture, Source: r.cfg.Source,
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

// play is the story of a run, from the first connection to the last job.
func (r *run) play(ctx context.Context) error {
	r.talk.Step("connect to the hosts")
	if err := r.connect(ctx); err != nil {
		return err
	}
	r.talk.Step("deploy")
	if err := r.each(ctx, "deploy", (*host).deploy); err != nil {
		return err
	}
	if err := r.each(ctx, "preflight", (*host).preflight); err != nil {
		return err
	}
	r.talk.Step("start the nodes")
	if err := r.startNodes(ctx); err != nil {
		return err
	}
	r.talk.Step("wait for the donor's reservation")
	if !r.reserved(ctx, r.inv.Run.Observe) {
		return context.Cause(ctx)
	}
	r.talk.Step("controls: is there a firewall, and do the dials work that must")
	r.controls(ctx)
	r.talk.Step("dial and send a job through the relay")
	r.useCircuit(ctx, evidence.BeforeHold)
	r.talk.Step(fmt.Sprintf("hold the relay connection for %v", r.inv.Run.Hold))
	r.hold(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r.talk.Step("dial and send a job through the relay again")
	if r.reserved(ctx, reservedAgain) {
		r.useCircuit(ctx, evidence.AfterHold)
	}
	return context.Cause(ctx)
}

// connect reaches all hosts at once and reports every one that it could not.
func (r *run) connect(ctx context.Context) error {
	return r.each(ctx, "connect", (*host).connect)
}

// tearDown stops what we started and fetches what it said, whatever happened.
func (r *run) tearDown(ctx context.Context) error {
	r.talk.Step("collect the logs and tear down")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), teardownTimeout)
	defer cancel()
	err := r.each(ctx, "collect", (*host).collect)
	for _, h := range r.hosts {
		if h.remote != nil {
			err = errors.Join(err, h.remote.Close())
		}
	}
	return err
}

// end closes the trace.
func (r *run) end(ctx context.Context, err error) error {
	ended := evidence.Ended{How: "finished"}
	switch {
	case ctx.Err() != nil:
		ended.How, ended.Err = "interrupted", context.Cause(ctx).Error()
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
	b, err := evidence.Open(r.out.Dir())
	if err != nil {
		return evidence.Results{}, fmt.Errorf("read the bundle back: %w", err)
	}
	results := check.Check(check.Input{Events: b.Events, Logs: b.Logs, Problems: b.Problems, Answers: r.cfg.Answers})
	return results, errors.Join(
		r.writeJSON("results.json", results),
		r.writeJSON("metadata.json", r.metadata()),
	)
}

func (r *run) writeJSON(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return r.out.WriteFile(name, append(b, '\n'))
}

// note appends one observation to the trace.
func (r *run) note(name evidence.Name, host string, data any) error {
	if _, err := r.out.Append(name, host, data); err != nil {
		return fmt.Errorf("write %s to the trace: %w", name, err)
	}
	return nil
}

// missed records a step that the mesh did not let us do. The run goes on.
func (r *run) missed(host, step string, err error) {
	r.talk.Note(fmt.Sprintf("%s: %v", step, err))
	r.log.Warn("step failed", "host", host, "step", step, "err", err)
	if werr := r.note(evidence.StepFailed, host, evidence.Failure{Step: step, Err: err.Error()}); werr != nil {
		r.log.Error("trace", "err", werr)
	}
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

func (r *run) relays() []*host {
	var hs []*host
	for _, h := range r.hosts {
		if h.Role == inventory.Relay {
			hs = append(hs, h)
		}
	}
	return hs
}

// each does one thing on all hosts at once and joins what went wrong.
func (r *run) each(ctx context.Context, what string, do func(*host, context.Context) error) error {
	return inParallel(r.hosts, func(h *host) error {
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
