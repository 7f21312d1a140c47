package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"time"

	"github.com/worldcompute/wce2e/e2e"
	"github.com/worldcompute/wce2e/e2e/lab"
	"github.com/worldcompute/wce2e/e2e/remote"
	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/inventory"
)

// performance is one acceptance run, or one diagnosis, from building its lab, if it has one, to the
// last line of its trace. Sealing the bundle is left to the caller.
type performance struct {
	inv        *inventory.Inventory
	builds     *builds
	source     evidence.Source
	ssh        string // an ssh_config for real hosts; empty: the user's and the system's
	keep       bool   // leave the nodes' files on the hosts
	root, area string // the bundle is made in a folder of area below root
	talk       teller
	found      bool           // other commands find the lab, as wce2e lab exec does
	explain    bool           // diagnose the donor's network when the run fails
	diagnosis  *e2e.Diagnosis // in place of the acceptance run; nil: it is one
	pcap       []string       // links of the lab that are recorded into a file beside the bundle

	// For a matrix:
	watch      func(evidence.Event) // told of the trace as it grows; nil: nobody is
	transports []string             // that donor and submitter speak; none: all
	introduce  introducer           // what donor and submitter start from, in a lab; nil: what the inventory lists, and its relays
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
		Inventory: p.inv, Source: p.source, Version: version, Keep: p.keep, Explain: p.explain, Transports: p.transports,
		// Over SSH, in a lab as elsewhere.
		Dial: func(ctx context.Context, h inventory.Host) (remote.Remote, error) {
			return remote.Dial(ctx, h.SSH, reach)
		},
		Binary: p.builds.get, Answers: answers, Talk: p.talk,
	}
	var l *lab.Lab
	if p.inv.Lab != nil {
		if l, err = p.bringUp(ctx); err != nil {
			return nil, results, err
		}
		defer func() { err = errors.Join(err, l.Close()) }()
		reach.SSHConfig, cfg.Lab, cfg.Network = l.SSHConfig, labFacts(p.inv.Lab), l
		if p.introduce != nil {
			cfg.Introduce = func(ctx context.Context, relays []string) ([]string, error) { return p.introduce(ctx, l, relays) }
		}
	}
	if bundle, err = evidence.Create(p.root, p.area, time.Now()); err != nil {
		return nil, results, err
	}
	if home, err := os.UserHomeDir(); err == nil {
		bundle.Hide(home) // of keys' paths, in errors
	}
	if len(p.pcap) > 0 {
		file := bundle.Dir() + ".pcapng"
		stop, perr := startPcap(l, p.pcap, file)
		if perr != nil {
			return nil, results, errors.Join(perr, os.RemoveAll(bundle.Dir())) // there is nothing in it yet
		}
		p.talk.Note("recording traffic into " + file)
		defer func() { err = errors.Join(err, stop()) }()
	}
	if p.watch != nil {
		bundle.Watch(p.watch)
	}
	p.talk.Also(bundle.RunLog())
	log := slog.New(slog.NewTextHandler(bundle.RunLog(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	reach.Log, cfg.Log, cfg.Bundle = log, log, bundle
	if p.diagnosis != nil {
		results, err = e2e.Diagnose(ctx, cfg, *p.diagnosis)
	} else {
		results, err = e2e.Run(ctx, cfg)
	}
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
	l, err := lab.Up(ctx, cfg)
	if err != nil || !p.found {
		return l, err
	}
	// So that one can look around while it runs. It runs as well without.
	if err := l.Register(p.inv.Name); err != nil {
		p.talk.Note(err.Error())
	}
	return l, nil
}

// introducer gives what nodes are told to start from, once the relays are up at
// these addresses.
type introducer func(ctx context.Context, l *lab.Lab, relays []string) ([]string, error)

// byAddress tells nodes where the relays are, and of nobody else: dials of the
// built-in list lead out of the lab.
func byAddress(_ context.Context, _ *lab.Lab, relays []string) ([]string, error) { return relays, nil }

// byName tells nodes nothing but a name, below which the lab's DNS has the relays.
func byName(zone string) introducer {
	const name = "relays"
	return func(ctx context.Context, l *lab.Lab, relays []string) ([]string, error) {
		return []string{"/dnsaddr/" + name + "." + zone}, l.Publish(ctx, name, relays...)
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
