package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"

	"github.com/worldcompute/wce2e/e2e"
	"github.com/worldcompute/wce2e/e2e/check"
	"github.com/worldcompute/wce2e/e2e/lab"
	"github.com/worldcompute/wce2e/e2e/release"
	"github.com/worldcompute/wce2e/e2e/remote"
	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/evidence/report"
	"github.com/worldcompute/wce2e/inventory"
)

// stage is what a run or a diagnosis takes place on: builds, and a lab where the
// inventory has one.
type stage struct {
	talk   *talk
	builds *builds
	source evidence.Source
	reach  remote.Config
	lab    *lab.Lab           // nil: the hosts are real
	facts  *evidence.LabFacts // nil likewise
}

// setStage gets ready all that is needed before a bundle is begun.
func setStage(ctx context.Context, stderr io.Writer, inv *inventory.Inventory, sshConfig string) (*stage, error) {
	s := &stage{talk: newTalk(stderr), reach: remote.Config{SSHConfig: sshConfig}}
	s.builds = &builds{Builder: release.Builder{Log: s.talk.Step}}
	var err error
	if s.source, err = s.builds.Source(ctx); err != nil || inv.Lab == nil {
		return s, err
	}
	if s.lab, err = bringUp(ctx, inv, s.builds, s.talk); err != nil {
		return nil, err
	}
	s.reach.SSHConfig, s.facts = s.lab.SSHConfig, labFacts(inv.Lab)
	return s, nil
}

// Close takes the lab down.
func (s *stage) Close() error {
	if s.lab == nil {
		return nil
	}
	return s.lab.Close()
}

// config is for a run that fills the bundle.
func (s *stage) config(inv *inventory.Inventory, bundle *evidence.Writer) e2e.Config {
	s.talk.Also(bundle.RunLog())
	log := slog.New(slog.NewTextHandler(bundle.RunLog(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	reach := s.reach
	reach.Log = log
	return e2e.Config{
		Inventory: inv, Bundle: bundle, Lab: s.facts, Source: s.source, Version: version,
		// Over SSH, in a lab as elsewhere.
		Dial: func(ctx context.Context, h inventory.Host) (remote.Remote, error) {
			return remote.Dial(ctx, h.SSH, reach)
		},
		Binary: s.builds.get, Answers: answers, Talk: s.talk, Log: log,
	}
}

// bringUp builds the inventory's lab. Its bystanders run the release build of
// this platform, like every other host.
func bringUp(ctx context.Context, inv *inventory.Inventory, builds *builds, talk *talk) (*lab.Lab, error) {
	bin, _, err := builds.get(ctx, runtime.GOOS, runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	talk.Step(fmt.Sprintf("bring the lab up: %d hosts, %d networks", len(inv.Lab.Hosts)+inv.Lab.Bystanders, len(inv.Lab.Networks)))
	l, err := lab.Up(ctx, lab.Config{Lab: inv.Lab, Binary: bin})
	if err != nil {
		return nil, err
	}
	// So that one can look around while it runs. It runs as well without.
	if err := l.Register(inv.Name); err != nil {
		talk.Note(err.Error())
	}
	return l, nil
}

func labFacts(l *inventory.Lab) *evidence.LabFacts {
	facts := &evidence.LabFacts{Networks: map[string]string{}, Hosts: map[string]string{}, Latency: evidence.Duration(l.Latency)}
	for _, n := range l.Networks {
		facts.Networks[n.Name] = n.Profile
	}
	for _, h := range l.Hosts {
		facts.Hosts[h.Name] = h.Network
	}
	return facts
}

// seal renders the bundle, closes it, and looks for what must not be published.
func seal(w *evidence.Writer) error {
	b, err := evidence.Open(w.Dir())
	if err != nil {
		return fmt.Errorf("read the bundle back: %w", err)
	}
	files, err := render(b)
	if err != nil {
		return err
	}
	for name, content := range files {
		err = errors.Join(err, w.WriteFile(name, content))
	}
	err = errors.Join(err, w.Seal())
	leaks, serr := w.ScanSecrets()
	err = errors.Join(err, serr)
	for _, leak := range leaks {
		err = errors.Join(err, fmt.Errorf("the bundle must not be published as it is: %s", leak))
	}
	return err
}

// render gives the renderings of a bundle: the report, and of a diagnosis its page.
func render(b *evidence.Bundle) (map[string][]byte, error) {
	files, err := report.Render(b)
	if err != nil {
		return nil, fmt.Errorf("render the bundle: %w", err)
	}
	list := networks(b)
	if len(list) == 0 {
		return files, nil
	}
	page, err := report.RenderDiagnosis(b, list)
	if err != nil {
		return nil, fmt.Errorf("render the diagnosis: %w", err)
	}
	files[report.DiagnosisFile] = page
	return files, nil
}

// networks are the diagnoses of a bundle, computed anew.
func networks(b *evidence.Bundle) []report.Network {
	var list []report.Network
	for _, n := range check.Networks(check.Input{Events: b.Events}) {
		list = append(list, report.Network(n))
	}
	return list
}
