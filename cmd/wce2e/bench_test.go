package main

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/inventory"
	"github.com/worldcompute/wce2e/node/wire"
)

// BenchmarkRun makes whole acceptance runs in the lab (links of 10 ms: 40 ms of
// round trip between the donor and a relay) and prints medians of what the
// README tells. Use -benchtime=10x.
func BenchmarkRun(b *testing.B) {
	for _, profile := range []string{"open", "institutional"} {
		b.Run(profile, func(b *testing.B) {
			inv := edit(b, string(inventory.Default), "hold: 20s", "hold: 1s", "campus: {profile: institutional}", "campus: {profile: "+profile+"}")
			var reserved, cold, first, warm, overhead []float64
			for b.Loop() {
				began := time.Now()
				got := acceptance(b, inv)
				overhead = append(overhead, time.Since(began).Seconds()-1)
				reserved = append(reserved, untilReserved(b, got.bundle))
				before, after := jobOf(b, got.bundle, evidence.BeforeHold), jobOf(b, got.bundle, evidence.AfterHold)
				cold = append(cold, before.ConnectMS+before.RoundTripMS)
				first = append(first, before.RoundTripMS)
				warm = append(warm, after.RoundTripMS)
			}
			b.ReportMetric(median(reserved), "ms-to-reservation")
			b.ReportMetric(median(cold), "ms-job-cold")
			b.ReportMetric(median(first), "ms-job-first")
			b.ReportMetric(median(warm), "ms-job-warm")
			b.ReportMetric(median(overhead), "s-beside-hold")
			b.ReportMetric(0, "ns/op") // says nothing here
		})
	}
}

// untilReserved is the time from the donor's start to its reservation, in
// milliseconds, by its own clock.
func untilReserved(b *testing.B, bundle *evidence.Bundle) float64 {
	var started time.Time
	for _, e := range nodeEvents(b, bundle, "tensor02") {
		switch e.Kind {
		case wire.NodeStarted:
			started = e.Time
		case wire.ReservationMade:
			return e.Time.Sub(started).Seconds() * 1000
		}
	}
	b.Fatal("the donor made no reservation")
	return 0
}

func jobOf(b *testing.B, bundle *evidence.Bundle, phase evidence.Phase) wire.DispatchResult {
	for _, e := range bundle.Events {
		if e.Name != evidence.JobDone {
			continue
		}
		var job evidence.Job
		var result wire.DispatchResult
		if err := json.Unmarshal(e.Data, &job); err != nil {
			b.Fatal(err)
		}
		if err := json.Unmarshal(job.Result, &result); err != nil {
			b.Fatal(err)
		}
		if job.Phase == phase {
			return result
		}
	}
	b.Fatalf("no job %s the hold", phase)
	return wire.DispatchResult{}
}

func median(xs []float64) float64 {
	slices.Sort(xs)
	return xs[len(xs)/2]
}
