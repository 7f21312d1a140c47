package check

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/wire"
)

func TestTheEvidenceIsWhole(t *testing.T) {
	judgeClauses(t, evidence.Whole, passing, []clause{
		{"the reader found something", func(s *story) { s.problems = []string{"trace.jsonl:7: the chain is broken"} }, fail, "trace.jsonl:7: the chain is broken"},
		{"no end", func(s *story) { s.drop(evidence.RunEnded, "") }, inconclusive, "did not come to its end: the trace stops at line 199 (host.residue)"},
		{"interrupted", func(s *story) {
			s.items[len(s.items)-1].data = &evidence.Ended{How: "interrupted", Err: "signal"}
		}, inconclusive, "ended as interrupted (signal)"},
		{"the suite failed", func(s *story) { s.items[len(s.items)-1].data = &evidence.Ended{How: "failed"} }, inconclusive, "ended as failed"},
		{"two ends", func(s *story) { s.add(time.Hour, evidence.RunEnded, "", &evidence.Ended{How: "finished"}) }, inconclusive, "goes on after the end"},
		{"something after the end", func(s *story) { s.add(time.Hour, evidence.NodeStatus, donorName, &wire.Status{}) }, inconclusive, "goes on after the end"},
		{"something before the beginning", func(s *story) {
			s.insert(named(evidence.RunStarted), func() { s.add(0, evidence.NodeStatus, donorName, &wire.Status{}) })
		}, inconclusive, "does not begin with the start"},
		{"a second beginning", func(s *story) {
			s.insert(named(evidence.HoldStarted), func() { s.add(0, evidence.RunStarted, "", &evidence.Started{}) })
		}, fail, "starts a second time"},
		{"a line that is not what it says", func(s *story) {
			s.insert(named(evidence.HoldStarted), func() { s.add(0, evidence.NodeUp, donorName, json.RawMessage(`{"role":7}`)) })
		}, fail, "The trace cannot be read at line 54 (node.up)"},
		{"a line without data", func(s *story) {
			s.insert(named(evidence.HoldStarted), func() { s.add(0, evidence.NodeUp, donorName, json.RawMessage{}) })
		}, fail, "(node.up): it has no data"},
		{"a probe's result that is none", func(s *story) {
			s.each(func(it *item) bool {
				if it.name == evidence.DialProbed {
					it.result = json.RawMessage(`"nothing"`)
				}
				return true
			})
		}, fail, "(dial.probed): result"},
		{"a result that is none", func(s *story) {
			s.each(func(it *item) bool {
				if it.name == evidence.JobDone {
					it.result = json.RawMessage(`"nothing"`)
				}
				return true
			})
		}, fail, "(job.done): result"},
		{"a log was not collected", func(s *story) { s.drop(evidence.LogCollected, submitterName) }, inconclusive, "The log of laptop was not collected"},
		{"a log is not there", func(s *story) { s.noLog[submitterName] = true }, fail, "The log of laptop was collected and is not there"},
		{"a log is another one", func(s *story) { s.tweak[submitterName] = func(f *evidence.LogFile) { f.SHA256 = sha("another") } }, fail, "The log of laptop is not the one that was hashed"},
		{"a log is of another size", func(s *story) {
			s.tweak[submitterName] = func(f *evidence.LogFile) { f.Size++; f.Kept++ }
		}, fail, "The log of laptop is not the one that was hashed"},
		{"a log cut by the budget", func(s *story) { s.tweak[submitterName] = func(f *evidence.LogFile) { f.Kept-- } }, pass, "by its budget"},
		{"events were not hashed", func(s *story) { s.drop(evidence.EventsHashed, relayName) }, inconclusive, "The events of relay1 were not hashed"},
		{"events are other ones", func(s *story) { s.hashes[relayName] = func(f *evidence.LogFile) { f.SHA256 = sha("another") } }, fail, "The events of relay1 are not the ones"},
		{"the trace has fewer events than the host", func(s *story) {
			s.hashes[relayName] = func(f *evidence.LogFile) { f.SHA256 = sha("longer"); f.Size += 80 }
		}, fail, "The events of relay1 are not the ones"},
		{"a killed node's last line is torn", func(s *story) {
			s.hashes[relayName] = func(f *evidence.LogFile) { f.SHA256 = sha("longer"); f.Size += 80 }
			s.insert(named(evidence.HoldEnded), func() { s.add(time.Minute, evidence.FaultDone, relayName, &evidence.Fault{Fault: "kill"}) })
		}, inconclusive, "ends in a part of a line"},
	})
}

// TestAnEventThatIsNotTheNodesOwnIsSeen adds, changes and drops an event behind
// the back of the hash that the host computed.
func TestAnEventThatIsNotTheNodesOwnIsSeen(t *testing.T) {
	whole := passing().input(t)
	at := -1
	for i, e := range whole.Events {
		if e.Name == evidence.NodeSaid && e.Host == donorName {
			at = i
		}
	}
	for name, change := range map[string]func([]evidence.Event) []evidence.Event{
		"added":   func(es []evidence.Event) []evidence.Event { return append(es[:at:at], es[at-1:]...) },
		"dropped": func(es []evidence.Event) []evidence.Event { return append(es[:at:at], es[at+1:]...) },
		"changed": func(es []evidence.Event) []evidence.Event {
			es = append([]evidence.Event(nil), es...)
			es[at].Data = append(json.RawMessage(" "), es[at].Data...)
			return es
		},
	} {
		in := whole
		in.Events = change(whole.Events)
		for _, a := range Check(in).Assertions {
			if a.Name == evidence.Whole && a.Verdict != fail {
				t.Errorf("%s: %s: %s", name, a.Verdict, a.Observed)
			}
		}
	}
}
