package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"time"

	"github.com/worldcompute/wce2e/e2e"
	"github.com/worldcompute/wce2e/e2e/lab"
	"github.com/worldcompute/wce2e/e2e/remote"
	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/inventory"
)

// performance is one acceptance run, from building its lab, if it has one, to the
// last line of its trace. Sealing the bundle is left to the caller.
type performance struct {
	inv        *inventory.Inventory
	builds     *builds
	source     evidence.Source
	ssh        string // an ssh_config for real hosts; empty: the user's and the system's
	keep       bool   // leave the nodes' files on the hosts
	root, area string // the bundle is made in a folder of area below root
	talk       teller

	// For a matrix:
	watch      func(evidence.Event) // told of the trace as it grows; nil: nobody is
	transports []string             // that donor and submitter speak; none: all
	byName     bool                 // nodes know the relays by a name only, which the lab's DNS knows
	deployed   bool                 // the lab's hosts have the binary from the start, as of an earlier run
}

// teller is an e2e.Talk that can write what it says to another place, too.
type teller interface {
	e2e.Talk
	Also(io.Writer)
}

// perform carries out the run. Without a bundle nothing was begun; with one,
// there are results, and the error, if any, is the suite's own failure.
func (p performance) perform(ctx context.Context) (bundle *evidence.Writer, results evidence.Results, err error) {
	reach := remote.Config{SSHConfig: p.ssh}
	cfg := e2e.Config{
		Inventory: p.inv, Source: p.source, Version: version, Keep: p.keep, Transports: p.transports,
		// Over SSH, in a lab as elsewhere.
		Dial: func(ctx context.Context, h inventory.Host) (remote.Remote, error) {
			return remote.Dial(ctx, h.SSH, reach)
		},
		Binary: p.builds.get, Answers: answers, Talk: p.talk,
	}
	if p.inv.Lab != nil {
		l, err := p.bringUp(ctx)
		if err != nil {
			return nil, results, err
		}
		defer func() { err = errors.Join(err, l.Close()) }()
		reach.SSHConfig, cfg.Lab = l.SSHConfig, labFacts(p.inv.Lab)
		if p.byName {
			cfg.Introduce = publish(l, p.inv.Lab.Zone)
		}
	}
	if bundle, err = evidence.Create(p.root, p.area, time.Now()); err != nil {
		return nil, results, err
	}
	if p.watch != nil {
		bundle.Watch(p.watch)
	}
	p.talk.Also(bundle.RunLog())
	log := slog.New(slog.NewTextHandler(bundle.RunLog(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	reach.Log, cfg.Log, cfg.Bundle = log, log, bundle
	results, err = e2e.Run(ctx, cfg)
	return bundle, results, err
}

// bringUp builds the inventory's lab. Its bystanders run the release build of
// this platform, like every other host.
func (p performance) bringUp(ctx context.Context) (*lab.Lab, error) {
	bin, sum, err := p.builds.get(ctx, runtime.GOOS, runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	p.talk.Step(fmt.Sprintf("bring the lab up: %d hosts, %d networks", len(p.inv.Lab.Hosts)+p.inv.Lab.Bystanders, len(p.inv.Lab.Networks)))
	cfg := lab.Config{Lab: p.inv.Lab, Binary: bin}
	if p.deployed {
		cfg.Share = map[string]string{e2e.BinaryPath(sum): bin}
	}
	return lab.Up(ctx, cfg)
}

// relaysName is under which the lab's DNS knows the relays.
const relaysName = "relays"

// publish tells nodes the name of the relays in place of their addresses.
func publish(l *lab.Lab, zone string) func(context.Context, []string) ([]string, error) {
	return func(ctx context.Context, relays []string) ([]string, error) {
		return []string{"/dnsaddr/" + relaysName + "." + zone}, l.Publish(ctx, relaysName, relays...)
	}
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
