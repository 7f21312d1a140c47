package check

import (
	"strings"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/wire"
)

func TestNoDialIsSilent(t *testing.T) {
	ended := func(dial string, change func(*wire.Event) bool) func(*story) {
		return func(s *story) {
			s.said(donorName, wire.DialEnded, func(e *wire.Event) bool { return e.Dial != dial || change(e) })
		}
	}
	another := func(kind wire.Kind) func(*story) {
		return func(s *story) {
			s.insert(named(evidence.HoldStarted), func() {
				s.says(5*time.Second, donorName, wire.Event{Kind: kind, Dial: "d00003", Peer: relayID, Addr: relayEnd, Outcome: wire.OK})
			})
		}
	}
	judgeClauses(t, evidence.Visibility, passing, []clause{
		{"a dial without an outcome, and the node stopped in good order", ended("d00001", gone), fail, "d00001 to /ip4/45.9.0.10/udp/4001/quic-v1 has no outcome"},
		{"a second outcome", another(wire.DialEnded), fail, "has a second outcome"},
		{"a second start", another(wire.DialStarted), fail, "starts a second time"},
		{"an outcome without a start", func(s *story) { s.said(donorName, wire.DialStarted, gone) }, fail, "ended without having started"},
		{"an outcome that is none", ended("d00001", func(e *wire.Event) bool { e.Outcome = ""; return true }), fail, "no known outcome"},
		{"a failure without a word", ended("d00001", func(e *wire.Event) bool { e.Failure = ""; return true }), fail, "without a word for why"},
		{"a failure in a word of nobody's", ended("d00001", func(e *wire.Event) bool { e.Failure = "bad_luck"; return true }), fail, "a word of no vocabulary, bad_luck"},
		{"a failure without an error", ended("d00001", func(e *wire.Event) bool { e.Err = ""; return true }), fail, "without an error"},
		{"a dial given up without a reason", ended("d00002", func(e *wire.Event) bool { e.Err = ""; return true }), fail, "without an error"},
		{"a gap in the events", func(s *story) {
			s.input(t) // numbers the events
			s.rawSeq = true
			s.said(relayName, wire.RelayCircuitOpened, gone)
		}, fail, "event 7 follows event 4: what came between is not on record"},
		{"the first events are missing", func(s *story) {
			s.input(t)
			s.rawSeq = true
			s.said(relayName, wire.NodeStarted, gone)
		}, fail, "event 2 follows event 0"},
		{"no events of a node", func(s *story) {
			s.each(func(it *item) bool { _, said := it.data.(*wire.Event); return !said || it.host != relayName })
		}, inconclusive, "There are no events of relay1"},
		{"no events of a start of the node", func(s *story) {
			s.insert(named(evidence.HoldStarted), func() {
				s.add(time.Minute, evidence.NodeUp, donorName, &evidence.NodeStart{PeerID: donorID, Boot: "second"})
			})
		}, inconclusive, "no events of the start second"},
		{"no dial at all", func(s *story) {
			for _, h := range []string{donorName, submitterName} {
				s.said(h, wire.DialStarted, gone)
				s.said(h, wire.DialEnded, gone)
			}
		}, inconclusive, "No dial was seen at all"},
		{"the log does not tell of an outcome", func(s *story) {
			s.logs[donorName] = strings.ReplaceAll(string(s.input(t).Logs[donorName]), "d00001", "d00002")
		}, fail, "the log does not tell how the dial d00001"},
		{"the log tells of it at another level only", func(s *story) {
			s.logs[donorName] = strings.ReplaceAll(string(s.input(t).Logs[donorName]), " level=INFO ", " level=DEBUG ")
		}, fail, "the log does not tell how the dial d00001"},
		{"no log", func(s *story) { s.noLog[relayName] = true }, inconclusive, "There is no log of relay1"},
		{"the log was not collected", func(s *story) { s.drop(evidence.LogCollected, relayName) }, inconclusive, "There is no log of relay1"},
		{"a log cut by its budget is not compared", func(s *story) {
			s.logs[donorName] = "cut"
			s.tweak[donorName] = func(f *evidence.LogFile) { f.Size += 100 }
		}, pass, "The log of tensor02 is longer than the bundle's budget"},
	})
}

func TestANodeThatWasKilledIsExcusedForItsYoungDialsOnly(t *testing.T) {
	open := func(before time.Duration) func(*story) {
		return func(s *story) {
			s.insert(named(evidence.NodeExited), func() {
				s.says(holdBegins+5*time.Minute-before, donorName, wire.Event{Kind: wire.DialStarted, Dial: "d00010", Addr: "/ip4/45.9.0.10/tcp/4001"})
			})
		}
	}
	judgeClauses(t, evidence.Visibility, donorKilled, []clause{
		{"half a minute under way", open(30 * time.Second), pass, "without an outcome: 2"},
		{"under way for longer than any dial may be", open(2 * time.Minute), fail, "had no outcome after 2m1s"},
		{"nobody says that it was killed", func(s *story) { s.drop(evidence.NodeExited, "") }, inconclusive, "the record ends"},
		{"killed between the event and its line in the log", func(s *story) {
			s.insert(named(evidence.NodeExited), func() {
				s.says(holdBegins+5*time.Minute, donorName, wire.Event{Kind: wire.DialEnded, Dial: "d00009", Addr: "/ip4/45.9.0.10/tcp/4001", Outcome: wire.OK})
			})
			log := string(s.input(t).Logs[donorName])
			s.logs[donorName] = log[:strings.LastIndex(log[:len(log)-1], "\n")+1]
		}, pass, "the logs tell of 4 of them"},
	})
}
