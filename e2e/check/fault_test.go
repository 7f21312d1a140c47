package check

import (
	"strings"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/wire"
)

// done adds what the suite did on purpose, in its place in the trace.
func (s *story) done(at time.Duration, host string, f evidence.Fault) {
	s.insert(func(it *item) bool { return it.at.After(epoch.Add(at)) }, func() { s.add(at, evidence.FaultDone, host, &f) })
}

// reserves adds a reservation that the donor makes at a time.
func (s *story) reserves(at time.Duration, renewal bool) {
	s.insert(func(it *item) bool { return it.at.After(epoch.Add(at)) }, func() {
		s.says(at, donorName, wire.Event{Kind: wire.ReservationMade, Relay: relayID, Conn: "c8", Renewal: renewal, Expires: epoch.Add(reservationLife)})
	})
}

// secondStart makes all that the relay says from a time on the second start's,
// which begins then.
func (s *story) secondStart(at time.Duration) {
	s.insert(func(it *item) bool { return it.at.After(epoch.Add(at)) }, func() {
		s.says(at, relayName, wire.Event{Kind: wire.NodeStarted, Peer: relayID})
		s.add(at, evidence.NodeUp, relayName, &evidence.NodeStart{Role: "relay", PeerID: relayID, Boot: "again"})
	})
	for _, it := range s.items {
		if e, ok := it.data.(*wire.Event); ok && it.host == relayName && !it.at.Before(epoch.Add(at)) {
			e.Boot = "again"
		}
	}
}

// restarted is a run whose relay is started anew in mid-hold.
func restarted() *story {
	s := passing()
	const at = 5 * time.Minute
	s.each(func(it *item) bool { // the held connection ends
		e, said := it.data.(*wire.Event)
		return !said || e.Conn != donorConn || it.at.Before(epoch.Add(at))
	})
	s.insert(func(it *item) bool { return it.at.After(epoch.Add(at)) }, func() {
		s.says(at-time.Second, relayName, wire.Event{Kind: wire.NodeStopped})
		s.says(at-time.Second, donorName, wire.Event{Kind: wire.ConnClosed, Conn: donorConn, Peer: relayID, Err: "EOF"})
		s.add(at-time.Second, evidence.FaultDone, relayName, &evidence.Fault{Fault: evidence.FaultRestart})
	})
	s.secondStart(at)
	s.reserves(at+3*time.Second, false)
	return s
}

func TestARestartedRelayFailsTheHoldAndNothingElse(t *testing.T) {
	for _, a := range Check(restarted().input(t)).Assertions {
		want := pass
		if a.Name == evidence.HoldClaim {
			want = fail
			for _, says := range []string{"(EOF)", "on purpose: after 4m29s restart of the node on relay1.", "4s after restart of the node on relay1, tensor02 made a reservation at relay1."} {
				if !strings.Contains(a.Observed, says) {
					t.Errorf("the hold does not say %q: %s", says, a.Observed)
				}
			}
		}
		if a.Verdict != want {
			t.Errorf("%s: %s, want %s: %s", a.Name, a.Verdict, want, a.Observed)
		}
	}
}

func TestAFaultIsToldAndTakesNoSide(t *testing.T) {
	roam := evidence.Fault{Fault: evidence.FaultRoam, To: "cafe", Addr: "45.3.0.2"}
	judgeClauses(t, evidence.HoldClaim, passing, []clause{
		{"a network that changes under a connection that lasts", func(s *story) {
			s.done(time.Minute, "", evidence.Fault{Fault: evidence.FaultReaddress, Network: "campus", Addr: "45.1.1.2"})
		}, pass, "on purpose: after 30s the router of campus given another address, seen at 45.1.1.2 from then on."},
		{"a donor that is started anew", func(s *story) {
			s.insert(named(evidence.HoldEnded), func() { s.says(5*time.Minute, donorName, wire.Event{Kind: wire.NodeStopped}) })
		}, fail, "The node of tensor02, which held the connection, stopped before the hold was over."},
		{"a reservation after it", func(s *story) {
			s.done(time.Minute, donorName, roam)
			s.reserves(62500*time.Millisecond, false)
		}, pass, "2.5s after tensor02 moved to the network cafe, seen at 45.3.0.2 from then on, tensor02 made a reservation at relay1."},
	})
	for name, spoil := range map[string]func(*story){
		"none":          func(s *story) {},
		"a renewal":     func(s *story) { s.reserves(62*time.Second, true) },
		"one before it": func(s *story) { s.reserves(59*time.Second, false) },
		"one after the next": func(s *story) {
			s.done(61*time.Second, "", evidence.Fault{Fault: evidence.FaultRebootRouter, Network: "campus"})
			s.reserves(65*time.Second, false)
		},
		"a clock never looked at": func(s *story) { s.reserves(62*time.Second, false); s.drop(evidence.HostFacts, donorName) },
	} {
		s := passing()
		s.done(time.Minute, donorName, roam)
		spoil(s)
		if a := verdictOn(t, evidence.HoldClaim, s); strings.Contains(a.Observed, "after tensor02 moved") {
			t.Errorf("%s: it is taken for the donor's return: %s", name, a.Observed)
		}
	}
}

func TestAReservationTellsWhatWasDoneBeforeIt(t *testing.T) {
	s := passing()
	s.done(3500*time.Millisecond, donorName, evidence.Fault{Fault: evidence.FaultLogin})
	a := verdictOn(t, evidence.Reservation, s)
	for _, says := range []string{"While tensor02 joined the suite did this on purpose: after 1.4s login of tensor02 at its captive portal.", "500ms after login"} {
		if a.Verdict != pass || !strings.Contains(a.Observed, says) {
			t.Errorf("%s, want %q: %s", a.Verdict, says, a.Observed)
		}
	}
	if a := verdictOn(t, evidence.HoldClaim, s); strings.Contains(a.Observed, "on purpose") {
		t.Errorf("the hold tells of what was before it: %s", a.Observed)
	}
}

func TestAHostIsWhereItWasMoved(t *testing.T) {
	moved := func(at time.Duration, host, to string) func(*story) {
		return func(s *story) { s.done(at, host, evidence.Fault{Fault: evidence.FaultRoam, To: to}) }
	}
	judgeClauses(t, evidence.Circuit, passing, []clause{
		{"elsewhere", moved(time.Minute, donorName, "cafe"), pass, "After the hold, tensor02 is on the network cafe, laptop on house."},
		{"the submitter, elsewhere", moved(time.Minute, submitterName, "cafe"), pass, "After the hold, tensor02 is on the network campus, laptop on cafe."},
		{"to each other", moved(time.Minute, donorName, "house"), inconclusive, "tensor02 and laptop are on the same network, house."},
		{"to each other before the hold", moved(15*time.Second, donorName, "house"), inconclusive, "are on the same network, house."},
		{"a relay", moved(time.Minute, relayName, "house"), pass, "tensor02 is on the network campus, laptop on house."},
		{"to each other and back", func(s *story) {
			moved(time.Minute, donorName, "house")(s)
			moved(2*time.Minute, donorName, "campus")(s)
		}, pass, "tensor02 is on the network campus, laptop on house."},
	})
}

func TestAStartThatWasKilledIsExcusedAndALaterOneIsNot(t *testing.T) {
	dialsAt := func(at time.Duration) func(*story) {
		return func(s *story) {
			s.insert(func(it *item) bool { return it.at.After(epoch.Add(at)) }, func() {
				s.says(at, relayName, wire.Event{Kind: wire.DialStarted, Dial: "d9", Addr: "/ip4/1.2.3.4/tcp/1"})
			})
			s.done(25*time.Second, relayName, evidence.Fault{Fault: evidence.FaultKill})
			s.secondStart(26 * time.Second)
		}
	}
	judgeClauses(t, evidence.Visibility, passing, []clause{
		{"a dial of the killed start", dialsAt(24 * time.Second), pass, "Under way when their node was killed, and so without an outcome: 1."},
		{"a dial of the start after it", dialsAt(27 * time.Second), fail, "has no outcome, though the node stopped in good order"},
	})
}
