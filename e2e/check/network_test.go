package check

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/netcheck"
	"github.com/worldcompute/wce2e/node/wire"
)

// recorded is what a host saw behind one of the lab's firewalls.
func recorded(t *testing.T, profile string) json.RawMessage {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../node/netcheck/testdata/reports", profile+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// diagnosis is a whole one of the donor, which is behind a profile; the submitter
// is behind another, or saw nothing.
func diagnosis(t *testing.T, donor, control string) *story {
	s := passing()
	s.each(func(it *item) bool {
		switch it.name {
		case evidence.DialProbed, evidence.JobDone, evidence.HoldStarted, evidence.HoldEnded:
			return false
		}
		return true
	})
	s.started().Kind, s.started().Diagnosed = evidence.Diagnosing, []string{donorName}
	s.looks(t, donorName, donor, true)
	if control != "" {
		s.looks(t, submitterName, control, false)
	}
	return s
}

// looks puts a look at a network before the teardown.
func (s *story) looks(t *testing.T, host, profile string, diagnosed bool) {
	s.saw(host, recorded(t, profile), diagnosed)
}

func (s *story) saw(host string, report json.RawMessage, diagnosed bool) {
	it := s.add(20*time.Second, evidence.NetProbed, host, &evidence.NetworkProbe{Diagnosed: diagnosed, Quick: true, Report: report})
	for i, other := range s.items {
		if other.at.After(it.at) {
			copy(s.items[i+1:], s.items[i:len(s.items)-1])
			s.items[i] = it
			return
		}
	}
}

func TestAWayOutIsExplainedOnlyByComparison(t *testing.T) {
	for _, c := range []struct {
		donor, control string
		verdict        evidence.Verdict
		label          evidence.Label
		says           string
	}{
		{"institutional", "open", evidence.Pass, evidence.Explained, "udp_blocked"},
		{"dartmouth", "open", evidence.Pass, evidence.Explained, "multistream_blocked"},
		{"blocked", "open", evidence.Fail, evidence.Explained, "all_blocked"},
		{"blocked", "", evidence.Inconclusive, evidence.Unexplained, "unexplained"},
	} {
		t.Run(c.donor+" and "+c.control, func(t *testing.T) {
			r := Check(diagnosis(t, c.donor, c.control).input(t))
			if len(r.Assertions) != 3 || r.Assertions[0].Name != evidence.WayOut(donorName) {
				t.Fatalf("claims: %s", told(r))
			}
			a := r.Assertions[0]
			if a.Verdict != c.verdict || r.Label != c.label || !strings.Contains(a.Observed, c.says) {
				t.Errorf("want %s, %s, and a word of %s:\n%s", c.verdict, c.label, c.says, told(r))
			}
			for _, a := range r.Assertions[1:] {
				if a.Verdict != evidence.Pass {
					t.Errorf("%s: %s", a.Name, a.Observed)
				}
			}
		})
	}
}

// A NAT is in the way of neighbours. Where the relays are dead, it is not why.
func TestNoNATIsBlamedForARelayThatIsNotReached(t *testing.T) {
	timeout := netcheck.Timeout
	lead := "/ip4/11.0.0.1/tcp/4001"
	dead := netcheck.Record{Transaction: 1, Operation: netcheck.Connect, Transport: "tcp", Lead: lead, Addr: "11.0.0.1:4001", Failure: &timeout}
	mapped := netcheck.Record{ID: 1, Transaction: 2, Target: -1, Operation: netcheck.Mapping, Addr: "12.0.0.1:3478", Facts: netcheck.Facts{Observed: "2.0.0.1:50000"}}
	again := mapped
	again.ID, again.Addr = 2, "13.0.0.1:3478"
	neighbour := netcheck.Record{ID: 3, Transaction: 3, Target: -1, Operation: netcheck.Hairpin, Addr: "2.0.0.1:50001", Failure: &timeout}
	report := netcheck.Report{Version: netcheck.ReportVersion, Local: netcheck.Local{Addrs: []string{"192.168.1.2/24"}, Routes: []string{"ip4"}},
		Targets: []netcheck.Target{{Addr: lead, Leads: []string{lead}}}}
	s := diagnosis(t, "open", "")
	s.each(func(it *item) bool { return it.name != evidence.NetProbed })
	for host, records := range map[string][]netcheck.Record{donorName: {dead, mapped, again, neighbour}, submitterName: {dead}} {
		report.Records = records
		text, err := json.Marshal(report)
		if err != nil {
			t.Fatal(err)
		}
		s.saw(host, text, host == donorName)
	}
	r := Check(s.input(t))
	if a := r.Assertions[0]; a.Verdict != evidence.Inconclusive || !strings.Contains(a.Observed, string(netcheck.NATNoHairpin)) {
		t.Errorf("%s", told(r))
	}
}

func TestAHostOfTheSameNetworkIsNoControl(t *testing.T) {
	s := diagnosis(t, "blocked", "open")
	s.started().Hosts[1].Network = s.started().Hosts[0].Network
	if r := Check(s.input(t)); r.Assertions[0].Verdict != evidence.Inconclusive {
		t.Error(told(r))
	}
}

func TestADiagnosisWithoutALookIsNothing(t *testing.T) {
	s := diagnosis(t, "open", "open")
	s.each(func(it *item) bool { return it.name != evidence.NetProbed })
	if r := Check(s.input(t)); r.Assertions[0].Verdict != evidence.Inconclusive || r.Label != evidence.Unexplained {
		t.Error(told(r))
	}
}

func TestWhatBecameOfTheDaemonIsReadFromTheTrace(t *testing.T) {
	daemon := func(change func(*story)) netcheck.Daemon {
		s := diagnosis(t, "institutional", "open")
		change(s)
		list := Networks(s.input(t))
		if len(list) != 1 || list[0].Report.Daemon == nil {
			t.Fatalf("diagnosed: %+v", list)
		}
		return *list[0].Report.Daemon
	}
	if d := daemon(func(*story) {}); !d.Started || !d.Joined || d.Way != "wss" || d.Ended || d.Silent != 0 || d.Dials == 0 || d.Lived <= 0 {
		t.Errorf("of one that joined: %+v", d)
	}
	if d := daemon(func(s *story) {
		s.add(30*time.Second, evidence.NodeExited, donorName, &evidence.Exit{Code: 2, Tail: "one\npanic: two\n"})
	}); !d.Ended || d.Exit != 2 || d.Said != "panic: two" {
		t.Errorf("of one that died: %+v", d)
	}
	if d := daemon(func(s *story) {
		s.add(30*time.Second, evidence.NodeExited, donorName, &evidence.Exit{Signal: "TERM", Lease: true, Tail: "bye\n"})
	}); d.Ended || d.Exit != 0 || d.Said != "" {
		t.Errorf("of one whose supervisor ended it, since the suite was gone: %+v", d)
	}
	stalled := daemon(func(s *story) {
		s.dials(4*time.Second, donorName, "s1", strangerID, "/ip4/45.9.0.11/tcp/4001", "tcp", wire.Failed, string(netcheck.SecurityTimeout))
		s.says(5*time.Second, donorName, wire.Event{Kind: wire.DialStarted, Dial: "s2", Peer: strangerID, Addr: "/ip4/45.9.0.11/tcp/4001", Transport: "tcp"})
		s.says(5*time.Second, donorName, wire.Event{Kind: wire.DialStarted, Dial: "s3", Peer: strangerID, Transport: "circuit"})
	})
	if plain := daemon(func(*story) {}); stalled.Stalled != 1 || stalled.Silent != 1 || stalled.Dials != plain.Dials+2 {
		t.Errorf("of one whose dials stalled: %+v", stalled)
	}
}

func TestADiagnosisOfNobodyExplainsNothing(t *testing.T) {
	for _, names := range [][]string{nil, {"nowhere"}} {
		s := diagnosis(t, "open", "open")
		s.started().Diagnosed = names
		results := Check(s.input(t))
		if results.Label == evidence.Explained || results.Verdict() == evidence.Pass {
			t.Errorf("%v: %s, %s", names, results.Label, results.Verdict())
		}
	}
}
