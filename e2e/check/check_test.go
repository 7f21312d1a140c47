package check

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/wire"
)

var update = flag.Bool("update", false, "write the golden files anew")

// told is Results as a reader meets them.
func told(r evidence.Results) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s\n", r.Overall, r.Label)
	for _, a := range r.Assertions {
		fmt.Fprintf(&b, "\n%s: %s\n  %s\n", a.Name, a.Verdict, strings.ReplaceAll(a.Observed, ". ", ".\n  "))
	}
	return b.String()
}

// TestTheVerdictsOfWholeRunsStayAsTheyAre holds what a reader is told to golden
// files: go test ./e2e/check -update writes them anew.
func TestTheVerdictsOfWholeRunsStayAsTheyAre(t *testing.T) {
	for _, run := range []struct {
		name string
		make func() *story
	}{
		{"passing", passing},
		{"smoke", smoke},
		{"relay-killed", relayKilled},
		{"donor-killed", donorKilled},
		{"open", openNetwork},
		{"blocked", blocked},
		{"no-relay", noRelay},
		{"strangers-relay", strangersRelay},
		{"both-in-the-house", bothInTheHouse},
		{"crashed", crashed},
	} {
		t.Run(run.name, func(t *testing.T) {
			got := told(Check(run.make().input(t)))
			file := filepath.Join("testdata", run.name+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// TestWholeRunsGetTheVerdictsTheyDeserve says of the same runs, without golden
// files, which claims pass, fail or stay open.
func TestWholeRunsGetTheVerdictsTheyDeserve(t *testing.T) {
	for _, run := range []struct {
		name  string
		make  func() *story
		label evidence.Label
		// of firewall, visibility, hold, reservation, circuit, job, residue,
		// evidence: p(ass), f(ail), i(nconclusive)
		verdicts string
	}{
		{"passing", passing, evidence.Accepted, "pppppppp"},
		{"smoke", smoke, evidence.Smoke, "pppppppp"},
		{"relay killed at half of the hold", relayKilled, evidence.NotAccepted, "ppfppppp"},
		{"donor killed", donorKilled, evidence.NotAccepted, "ppfpffpp"},
		{"open network", openNetwork, evidence.NotAccepted, "ippppppp"},
		{"blocked", blocked, evidence.NotAccepted, "ipffffpp"},
		{"no relay grants a reservation", noRelay, evidence.NotAccepted, "ipiiiipp"},
		{"a stranger's relay", strangersRelay, evidence.Accepted, "pppppppp"},
		{"both in the house", bothInTheHouse, evidence.NotAccepted, "ipppippp"},
		{"suite crashed", crashed, evidence.NotAccepted, "piipiiii"},
	} {
		t.Run(run.name, func(t *testing.T) {
			r := Check(run.make().input(t))
			got := ""
			for _, a := range r.Assertions {
				got += a.Verdict.String()[:1]
			}
			if got != run.verdicts || r.Label != run.label {
				t.Errorf("verdicts %s, %s; want %s, %s\n%s", got, r.Label, run.verdicts, run.label, told(r))
			}
		})
	}
}

func smoke() *story {
	s := passing()
	s.started().Hold = evidence.Duration(20 * time.Second)
	s.each(func(it *item) bool {
		if m, ok := it.data.(*evidence.Hold); ok {
			m.Planned = evidence.Duration(20 * time.Second)
		}
		return true
	})
	return s
}

// relayKilled: the held relay dies at half of the hold; the donor moves to
// another one of ours.
func relayKilled() *story {
	s := passing()
	const second = "relay2"
	_, secondID := identity(5)
	killed := holdBegins + 5*time.Minute
	at := func(since time.Duration) time.Time { return epoch.Add(since) }
	s.started().Hosts = append(s.started().Hosts, evidence.Host{Name: second, Role: "relay", Network: "core"})
	move := func(text string) string {
		return strings.ReplaceAll(strings.ReplaceAll(text, relayID, secondID), relayIP, "45.9.0.20")
	}
	s.each(func(it *item) bool {
		e, said := it.data.(*wire.Event)
		late := it.at.After(at(killed))
		switch {
		case said && it.host == relayName && late && e.Kind == wire.RelayCircuitOpened:
			it.host = second
			e.Boot = "boot-" + second
		case said && it.host == relayName && late:
			return false
		case said && it.host == donorName && late && e.Conn == donorConn:
			return false
		case said && late:
			e.Relay, e.Remote = move(e.Relay), move(e.Remote)
		case it.name == evidence.DialProbed && late:
			r := it.result.(*wire.DialResult)
			r.Addr, r.Relay = move(r.Addr), secondID
		case it.name == evidence.JobDone && late:
			it.result.(*wire.DispatchResult).Relay = secondID
		}
		return true
	})
	s.insert(func(it *item) bool { return it.at.After(at(killed)) }, func() {
		s.add(killed, evidence.FaultDone, relayName, &evidence.Fault{Fault: "kill"})
		s.says(killed, donorName, wire.Event{Kind: wire.ConnClosed, Conn: donorConn, Peer: relayID, Err: "EOF"})
		s.says(killed, donorName, wire.Event{Kind: wire.ReservationLost, Relay: relayID, Conn: donorConn})
		s.says(killed, donorName, wire.Event{Kind: wire.ReservationMade, Relay: secondID, Conn: "c8", Expires: epoch.Add(reservationLife)})
		s.says(killed, donorName, wire.Event{Kind: wire.ListenAddr, Relay: secondID, Addr: move(circuitAddr)})
		s.add(killed+time.Second, evidence.NodeExited, relayName, &evidence.Exit{Code: -1, Signal: "KILL"})
	})
	s.insert(named(evidence.NodeUp), func() {
		s.add(time.Second, evidence.HostFacts, second, &evidence.Facts{})
		s.add(time.Second, evidence.Residue, second, s.leftovers("before"))
		s.add(time.Second, evidence.Deployed, second, &evidence.Deployment{Path: "~/.wce2e/bin/wce2e", SHA256: binary})
		s.says(time.Second, second, wire.Event{Kind: wire.NodeStarted, Peer: secondID})
		s.add(time.Second, evidence.NodeUp, second, &evidence.NodeStart{Role: "relay", PeerID: secondID, Boot: "boot-" + second})
	})
	s.insert(named(evidence.RunEnded), func() {
		s.says(holdEnds+time.Minute, second, wire.Event{Kind: wire.NodeStopped})
		s.add(holdEnds+time.Minute, evidence.EventsHashed, second, &evidence.LogFile{})
		s.add(holdEnds+time.Minute, evidence.LogCollected, second, &evidence.LogFile{})
		s.add(holdEnds+time.Minute, evidence.Residue, second, s.leftovers("after"))
	})
	return s
}

// donorKilled: the donor's node dies at half of the hold, with a dial under way.
func donorKilled() *story {
	s := passing()
	killed := holdBegins + 5*time.Minute
	s.each(func(it *item) bool {
		late := it.at.After(epoch.Add(killed))
		_, said := it.data.(*wire.Event)
		if m, ok := it.data.(*evidence.Hold); ok && late {
			m.Cut = "the donor ended: signal KILL"
		}
		gone := said && it.host == donorName || it.name == evidence.DialProbed || it.name == evidence.JobDone
		return !late || !gone
	})
	s.insert(named(evidence.HoldEnded), func() {
		s.says(killed, donorName, wire.Event{Kind: wire.DialStarted, Dial: "d00009", Peer: relayID, Addr: "/ip4/45.9.0.10/tcp/4001"})
		s.add(killed+time.Second, evidence.NodeExited, donorName, &evidence.Exit{Code: -1, Signal: "KILL", Tail: "one\ntwo\nthree\nfour\n"})
	})
	return s
}

// openNetwork: the submitter gets through to the donor directly.
func openNetwork() *story {
	s := passing()
	s.probed(evidence.NegativeControl, "/tcp/4001", func(_ *evidence.Probe, r *wire.DialResult) bool {
		r.Outcome, r.Path, r.Failure, r.Err, r.Remote = wire.OK, wire.Direct, "", "", "/ip4/45.1.0.2/tcp/4001"
		return true
	})
	return s
}

// unreserved: the suite waited for a reservation in vain and went home.
func unreserved() *story {
	s := passing()
	for _, k := range []wire.Kind{wire.ReservationMade, wire.RelayPing, wire.ConnOpened, wire.ConnClosed, wire.ObservedAddr, wire.JobReceived, wire.JobEnded} {
		s.said(donorName, k, func(*wire.Event) bool { return false })
	}
	s.said(donorName, wire.ListenAddr, func(e *wire.Event) bool { return e.Relay == "" })
	for _, k := range []wire.Kind{wire.RelayReservation, wire.RelayCircuitOpened} {
		s.said(relayName, k, func(*wire.Event) bool { return false })
	}
	s.said(relayName, wire.ConnOpened, func(e *wire.Event) bool { return e.Peer != donorID })
	for _, n := range []evidence.Name{evidence.DialProbed, evidence.JobDone, evidence.HoldStarted, evidence.HoldEnded} {
		s.drop(n, "")
	}
	s.insert(named(evidence.EventsHashed), func() {
		s.add(time.Minute, evidence.StepFailed, donorName, &evidence.Failure{Step: "reservation", Err: "not in 5m0s"})
	})
	return s
}

func blocked() *story {
	s := unreserved()
	s.said(donorName, wire.DialEnded, func(e *wire.Event) bool {
		if e.Outcome == wire.OK {
			e.Outcome, e.Failure, e.Err = wire.Failed, "generic_timeout_error", "i/o timeout"
		}
		return true
	})
	return s
}

// noRelay: public relays only, and none of them grants a reservation.
func noRelay() *story {
	s := unreserved()
	s.started().Hosts = s.started().Hosts[:2]
	s.each(func(it *item) bool { return it.host != relayName })
	s.insert(named(evidence.StepFailed), func() {
		s.says(time.Minute, donorName, wire.Event{Kind: wire.ReservationFailed, Relay: relayID, Failure: "reservation_refused", Err: "RESERVATION_REFUSED"})
	})
	return s
}

// strangersRelay: the relay is not of the inventory; its voucher speaks for it.
func strangersRelay() *story {
	s := passing()
	s.started().Hosts = s.started().Hosts[:2]
	s.each(func(it *item) bool { return it.host != relayName })
	return s
}

func bothInTheHouse() *story {
	s := passing()
	s.started().Hosts[0].Network = "house"
	s.each(func(it *item) bool {
		e, ok := it.data.(*wire.Event)
		if ok {
			e.Addr = strings.ReplaceAll(e.Addr, donorIP, submitterIP)
			e.Remote = strings.ReplaceAll(e.Remote, donorIP, submitterIP)
		}
		return true
	})
	return s
}

// crashed: the suite died at the end of the hold. relay1 had said nothing for
// minutes, so that nobody knows whether its end of the connection still stood.
func crashed() *story {
	s := passing()
	end := epoch.Add(holdEnds + time.Second)
	s.each(func(it *item) bool { return it.at.Before(end) })
	return s
}

func TestAnEmptyTraceProvesNothing(t *testing.T) {
	for _, in := range []Input{
		{},
		{Events: []evidence.Event{{Seq: 1, Name: evidence.RunStarted, Data: []byte(`{}`)}}},
		{Events: []evidence.Event{{Seq: 1, Name: evidence.RunEnded, Data: []byte(`{"how":"finished"}`)}}},
	} {
		r := Check(in)
		if len(r.Assertions) != len(evidence.Claims) {
			t.Fatalf("%d assertions for %d claims", len(r.Assertions), len(evidence.Claims))
		}
		for i, a := range r.Assertions {
			if a.Name != evidence.Claims[i] || a.Verdict != evidence.Inconclusive || a.Pass || a.Observed == "" || a.Expected == "" {
				t.Errorf("%+v", a)
			}
		}
		if r.Overall != "partial" || r.Label != evidence.NotAccepted {
			t.Errorf("%s, %s", r.Overall, r.Label)
		}
	}
}

func TestACheckerThatPanicsKnowsNothing(t *testing.T) {
	f := judged(&history{}, nil, func(_ *history, f *finding) {
		f.see("All is well.")
		panic("out of luck")
	})
	if a := f.assertion(); a.Verdict != evidence.Inconclusive || !strings.Contains(a.Observed, "out of luck") {
		t.Errorf("%+v", a)
	}
	f = judged(&history{}, errors.New("out of paper"), func(_ *history, f *finding) { f.see("All is well.") })
	if a := f.assertion(); a.Verdict != evidence.Inconclusive || !strings.Contains(a.Observed, "out of paper") {
		t.Errorf("%+v", a)
	}
}

func TestAFindingThatFoundNothingIsInconclusive(t *testing.T) {
	if a := new(finding).assertion(); a.Verdict != evidence.Inconclusive || a.Pass || a.Observed != "Nothing was observed." || a.Because == nil {
		t.Errorf("%+v", a)
	}
}

func TestAFindingDoesNotRepeatItself(t *testing.T) {
	f := new(finding)
	for i := range 30 {
		f.fail("Dial %d.", i%20)
	}
	if a := f.assertion(); !strings.Contains(a.Observed, "Dial 7. (12 more like this.)") {
		t.Error(a.Observed)
	}
}

// TestNoHistoryMakesACheckerPanic cuts a run at every line and drops each kind
// of line in turn: every checker must answer for itself, and none may pass a
// run that is not whole.
func TestNoHistoryMakesACheckerPanic(t *testing.T) {
	whole := passing().input(t)
	see := func(what string, in Input) {
		r := Check(in)
		for _, a := range r.Assertions {
			if strings.Contains(a.Observed, "broke down") {
				t.Errorf("%s: %s: %s", what, a.Name, a.Observed)
			}
		}
		if r.Overall == "pass" {
			t.Errorf("%s: passed", what)
		}
	}
	for i := range whole.Events {
		in := whole
		in.Events = whole.Events[:i]
		see(fmt.Sprintf("cut after %d lines", i), in)
	}
	for _, name := range []evidence.Name{evidence.RunStarted, evidence.HostFacts, evidence.NodeUp, evidence.NodeSaid, evidence.DialProbed,
		evidence.JobDone, evidence.HoldStarted, evidence.HoldEnded, evidence.Residue, evidence.LogCollected, evidence.EventsHashed, evidence.RunEnded} {
		without, broken := whole, whole
		without.Events, broken.Events = nil, nil
		for _, e := range whole.Events {
			if e.Name != name {
				without.Events = append(without.Events, e)
			} else {
				e.Data = []byte(`{"ts":7,"planned":7,"purpose":7,"how":7,"hosts":7,"clock_offset_ms":"x","when":7,"size":"x","role":7,"phase":7}`)
			}
			broken.Events = append(broken.Events, e)
		}
		see("without "+string(name), without)
		see("with broken "+string(name), broken)
	}
}

func TestALabIsNeverAcceptedAsReal(t *testing.T) {
	s := passing()
	s.started().Lab = true
	if r := Check(s.input(t)); r.Label != evidence.AcceptedLab {
		t.Errorf("a lab's run is %s", r.Label)
	}
	s = passing()
	s.insert(named(evidence.HostFacts), func() { s.add(0, evidence.LabUp, "", &evidence.LabFacts{}) })
	if r := Check(s.input(t)); r.Label != evidence.AcceptedLab {
		t.Errorf("a lab's run that denies it is %s", r.Label)
	}
}

func TestTheLinesThatDecidedAreOfTheTrace(t *testing.T) {
	in := passing().input(t)
	for _, a := range Check(in).Assertions {
		for i, l := range a.Because {
			if l == 0 || l > uint64(len(in.Events)) || i > 0 && l <= a.Because[i-1] {
				t.Errorf("%s: because %v", a.Name, a.Because)
			}
		}
		if a.Name != evidence.Visibility && len(a.Because) == 0 {
			t.Errorf("%s passes because of nothing", a.Name)
		}
	}
}

func TestTheSameInputGetsTheSameVerdicts(t *testing.T) {
	in := relayKilled().input(t)
	want := fmt.Sprintf("%+v", Check(in))
	for range 20 {
		if got := fmt.Sprintf("%+v", Check(in)); got != want {
			t.Fatalf("got %s\nwant %s", got, want)
		}
	}
}
