package check

import (
	"testing"
	"time"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/wire"
)

func TestNothingStaysOnTheHostsButTheCachedBinary(t *testing.T) {
	const bin = "~/.wce2e/bin/wce2e"
	left := func(when string, change func(*evidence.Leftovers) bool) func(*story) {
		return func(s *story) {
			s.each(func(it *item) bool {
				l, ok := it.data.(*evidence.Leftovers)
				return !ok || it.host != relayName || l.When != when || change(l)
			})
		}
	}
	after := func(change func(*evidence.Leftovers)) func(*story) {
		return left("after", func(l *evidence.Leftovers) bool { change(l); return true })
	}
	drop := func(*evidence.Leftovers) bool { return false }
	judgeClauses(t, evidence.ResidueFree, passing, []clause{
		{"not listed before", left("before", drop), inconclusive, "What was on relay1 before the run was not listed"},
		{"not listed after", left("after", drop), inconclusive, "What was left on relay1 after the run was not listed"},
		{"listed too early", func(s *story) {
			var early *item
			s.each(func(it *item) bool {
				l, ok := it.data.(*evidence.Leftovers)
				if ok && it.host == relayName && l.When == "after" {
					early = it
					return false
				}
				return true
			})
			s.insert(named(evidence.HoldStarted), func() { s.items = append(s.items, early) })
		}, inconclusive, "before the run had done with it"},
		{"a dial was made from there afterwards", func(s *story) {
			s.insert(named(evidence.RunEnded), func() {
				s.probes(holdEnds+time.Minute, relayName, evidence.Probe{Purpose: evidence.RelayControl}, wire.DialResult{})
			})
		}, inconclusive, "before the run had done with it"},
		{"a job was sent from there afterwards", func(s *story) {
			s.insert(named(evidence.RunEnded), func() {
				s.add(holdEnds+time.Minute, evidence.JobDone, relayName, &evidence.Job{}).result = &wire.DispatchResult{}
			})
		}, inconclusive, "before the run had done with it"},
		{"a process", after(func(l *evidence.Leftovers) { l.Processes = []string{"4711 wce2e node run"} }), fail, "still a process of ours: 4711"},
		{"a listener", after(func(l *evidence.Leftovers) { l.Listeners = []string{"tcp 0.0.0.0:443"} }), fail, "still a listener of ours"},
		{"a process from an earlier run", func(s *story) {
			for _, when := range []string{"before", "after"} {
				left(when, func(l *evidence.Leftovers) bool { l.Processes = []string{"4711 wce2e node run"}; return true })(s)
			}
		}, inconclusive, "was there before this run"},
		{"a file", after(func(l *evidence.Leftovers) { l.Files["~/.wce2e/runs/r1/identity.key"] = sha("key") }), fail, "a file is left: ~/.wce2e/runs/r1/identity.key"},
		{"files that the operator asked to keep", func(s *story) {
			s.started().Keep = true
			after(func(l *evidence.Leftovers) {
				l.Files["~/.wce2e/runs/r1/identity.key"], l.Files["~/.wce2e/runs/r1/events.jsonl"] = sha("key"), sha("events")
			})(s)
		}, inconclusive, "On relay1 files of the run are left, kept on request: 2 of them."},
		{"files were to be kept, and a process stayed", func(s *story) {
			s.started().Keep = true
			after(func(l *evidence.Leftovers) { l.Processes = []string{"4711 wce2e node run"} })(s)
		}, fail, "still a process of ours: 4711"},
		{"files were to be kept, and the binary is another", func(s *story) {
			s.started().Keep = true
			after(func(l *evidence.Leftovers) { l.Files[bin] = sha("another") })(s)
		}, fail, "is not the one that was put there"},
		{"files were to be kept, and there are none", func(s *story) { s.started().Keep = true }, pass, "only the cached binary"},
		{"a file that is said to be allowed", after(func(l *evidence.Leftovers) {
			l.Files["~/.wce2e/miner"] = sha("miner")
			l.Allowed = append(l.Allowed, "~/.wce2e/miner")
		}), fail, "a file is left: ~/.wce2e/miner"},
		{"a binary that is not allowed to stay", func(s *story) {
			left("before", func(l *evidence.Leftovers) bool { l.Files = nil; return true })(s)
			after(func(l *evidence.Leftovers) { l.Allowed = nil })(s)
		}, fail, "a file is left: " + bin},
		{"another binary in its place", after(func(l *evidence.Leftovers) { l.Files[bin] = sha("another") }), fail, "is not the one that was put there"},
		{"an older file that has changed", func(s *story) {
			left("before", func(l *evidence.Leftovers) bool { l.Files["~/.wce2e/notes"] = sha("old"); return true })(s)
			after(func(l *evidence.Leftovers) { l.Files["~/.wce2e/notes"] = sha("new") })(s)
		}, fail, "a file is left: ~/.wce2e/notes"},
		{"an older file as it was", func(s *story) {
			for _, when := range []string{"before", "after"} {
				left(when, func(l *evidence.Leftovers) bool { l.Files["~/.wce2e/bin/older"] = sha("older"); return true })(s)
			}
		}, pass, "only the cached binary"},
		{"nothing at all", func(s *story) {
			s.each(func(it *item) bool {
				if l, ok := it.data.(*evidence.Leftovers); ok {
					l.Files = nil
				}
				return true
			})
		}, pass, "no file either"},
	})
}
