package check

import (
	"strings"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/wire"
)

// pinged changes or drops the donor's round trips by their time since the hold
// began.
func (s *story) pinged(change func(since time.Duration, e *wire.Event) bool) {
	s.said(donorName, wire.RelayPing, func(e *wire.Event) bool {
		return change(e.Time.Sub(epoch)-donorOffset-holdBegins, e)
	})
}

func (s *story) marks(name evidence.Name, change func(*evidence.Hold)) {
	s.each(func(it *item) bool {
		if it.name == name {
			change(it.data.(*evidence.Hold))
		}
		return true
	})
}

func TestAHoldIsProvenByRoundTripsOnOneConnection(t *testing.T) {
	judgeClauses(t, evidence.HoldClaim, passing, []clause{
		{"no hold", func(s *story) { s.drop(evidence.HoldStarted, "") }, inconclusive, "The hold: not in the trace"},
		{"no end of the hold", func(s *story) { s.drop(evidence.HoldEnded, "") }, inconclusive, "The end of the hold is not in the trace"},
		{"no connection named", func(s *story) { s.marks(evidence.HoldStarted, func(m *evidence.Hold) { m.Conn = "" }) }, inconclusive, "does not name the connection"},
		{"a connection that nobody knows", func(s *story) { s.marks(evidence.HoldStarted, func(m *evidence.Hold) { m.Conn = "c99" }) }, inconclusive, "no record of the connection c99"},
		{"a connection to somebody else", func(s *story) {
			s.said(donorName, wire.ConnOpened, func(e *wire.Event) bool {
				if e.Conn == donorConn {
					e.Peer = strangerID
				}
				return true
			})
		}, inconclusive, "not one to the relay"},
		{"another connection at the end", func(s *story) { s.marks(evidence.HoldEnded, func(m *evidence.Hold) { m.Conn = "c8" }) }, inconclusive, "ended with another"},
		{"held on another host", func(s *story) {
			s.each(func(it *item) bool {
				if it.name == evidence.HoldStarted {
					it.host = submitterName
				}
				return true
			})
		}, inconclusive, "not the donor's"},
		{"no round trips", func(s *story) { s.pinged(func(time.Duration, *wire.Event) bool { return false }) }, inconclusive, "No round trip was confirmed"},
		{"round trips on another connection", func(s *story) {
			s.pinged(func(_ time.Duration, e *wire.Event) bool { e.Conn = "c8"; return true })
		}, inconclusive, "No round trip was confirmed"},
		{"round trips to another relay", func(s *story) {
			s.pinged(func(_ time.Duration, e *wire.Event) bool { e.Relay = strangerID; return true })
		}, inconclusive, "No round trip was confirmed"},
		{"a second too short", func(s *story) {
			s.pinged(func(since time.Duration, _ *wire.Event) bool { return since < holdPlanned-time.Second })
		}, inconclusive, "proven for 9m55s of 10m0s only"},
		{"a gap of a minute without a word", func(s *story) {
			s.pinged(func(since time.Duration, _ *wire.Event) bool { return since < 4*time.Minute || since > 5*time.Minute })
		}, inconclusive, "proven for 5m0s of 10m0s only"},
		{"a minute in which the relay does not answer", func(s *story) {
			s.pinged(func(since time.Duration, e *wire.Event) bool {
				if since > 4*time.Minute && since < 5*time.Minute {
					e.Outcome = wire.Failed
				}
				return true
			})
		}, fail, "12 were not"},
		{"a plan shorter than the run's", func(s *story) {
			for _, n := range []evidence.Name{evidence.HoldStarted, evidence.HoldEnded} {
				s.marks(n, func(m *evidence.Hold) { m.Planned = evidence.Duration(time.Second) })
			}
			s.pinged(func(since time.Duration, _ *wire.Event) bool { return since < time.Minute })
		}, inconclusive, "of 10m0s only"},
		{"no plan", func(s *story) {
			s.started().Hold = 0
			s.marks(evidence.HoldStarted, func(m *evidence.Hold) { m.Planned = 0 })
		}, inconclusive, "does not say how long"},
		{"the connection closes meanwhile", func(s *story) {
			s.insert(named(evidence.HoldEnded), func() {
				s.says(5*time.Minute, donorName, wire.Event{Kind: wire.ConnClosed, Conn: donorConn, Peer: relayID, Err: "reset"})
			})
		}, fail, "before the hold was over (reset)"},
		{"the connection closes meanwhile, and the trace tells it late", func(s *story) {
			s.said(donorName, wire.ConnClosed, func(e *wire.Event) bool { e.Time = epoch.Add(5 * time.Minute); return true })
		}, fail, "before the hold was over"},
		{"the connection closes meanwhile, by a clock that was set since", func(s *story) {
			s.insert(named(evidence.HoldEnded), func() {
				s.says(time.Hour, donorName, wire.Event{Kind: wire.ConnClosed, Conn: donorConn, Peer: relayID})
			})
		}, fail, "before the hold was over."},
		{"the donor's node dies after the hold", func(s *story) {
			s.insert(named(evidence.EventsHashed), func() { s.add(holdEnds+time.Minute, evidence.NodeExited, donorName, &evidence.Exit{Code: 2}) })
		}, pass, "proven for 10m0s"},
		{"something else was broken on purpose", func(s *story) {
			s.insert(named(evidence.HoldEnded), func() { s.add(time.Minute, evidence.FaultDone, submitterName, &evidence.Fault{Fault: "stop"}) })
		}, pass, "on purpose: after 30s stop of the node on laptop"},
		{"the donor's node dies", func(s *story) {
			s.insert(named(evidence.HoldEnded), func() {
				s.add(5*time.Minute, evidence.NodeExited, donorName, &evidence.Exit{Code: 2, Tail: "panic: oh\n"})
			})
		}, fail, "exit status 2; its last lines: panic: oh"},
		{"the suite's lease lapses", func(s *story) {
			s.insert(named(evidence.HoldEnded), func() {
				s.add(5*time.Minute, evidence.NodeExited, donorName, &evidence.Exit{Signal: "KILL", Lease: true})
			})
		}, inconclusive, "lease had lapsed"},
		{"cut short", func(s *story) { s.marks(evidence.HoldEnded, func(m *evidence.Hold) { m.Cut = "interrupted" }) }, inconclusive, "cut short: interrupted"},
	})
}

func TestTheRelaysRecordMustAgreeWithTheHold(t *testing.T) {
	atRelay := func(kind wire.Kind, change func(*wire.Event) bool) func(*story) {
		return func(s *story) {
			s.said(relayName, kind, func(e *wire.Event) bool { return e.Conn != relayConn || change(e) })
		}
	}
	// A second connection from the donor, for as long as the first one.
	second := func(remote string) func(*story) {
		return func(s *story) {
			s.insert(named(evidence.DialProbed), func() {
				s.says(5*time.Second, relayName, wire.Event{Kind: wire.ConnOpened, Conn: "c44", Peer: donorID, Remote: remote, Transport: "wss"})
			})
		}
	}
	judgeClauses(t, evidence.HoldClaim, passing, []clause{
		{"no connection from the donor", atRelay(wire.ConnOpened, gone), inconclusive, "no record of one connection from tensor02"},
		{"a connection over another transport", atRelay(wire.ConnOpened, func(e *wire.Event) bool { e.Transport = "tcp"; return true }), inconclusive, "no record of one connection"},
		{"a WebSocket whose TLS ends before the relay", atRelay(wire.ConnOpened, func(e *wire.Event) bool { e.Transport = "ws"; return true }), pass, "relay1's own record"},
		{"it opened later", atRelay(wire.ConnOpened, func(e *wire.Event) bool { e.Time = e.Time.Add(time.Minute); return true }), inconclusive, "no record of one connection"},
		{"it closed earlier", atRelay(wire.ConnClosed, func(e *wire.Event) bool { e.Time = e.Time.Add(-time.Minute); return true }), inconclusive, "no record of one connection"},
		{"it was relayed itself", atRelay(wire.ConnOpened, func(e *wire.Event) bool { e.Relay = strangerID; return true }), inconclusive, "no record of one connection"},
		{"a second one that cannot be told apart", func(s *story) {
			second("/ip4/45.1.0.2/tcp/60000")(s)
			s.said(donorName, wire.ObservedAddr, gone)
		}, inconclusive, "2 connections from tensor02"},
		{"a second one, and the donor's address is known of another connection only", func(s *story) {
			second("/ip4/45.1.0.2/tcp/60000")(s)
			s.said(donorName, wire.ObservedAddr, func(e *wire.Event) bool { e.Conn = "c99"; return true })
		}, inconclusive, "2 connections from tensor02"},
		{"a second one from another port", second("/ip4/45.1.0.2/tcp/60000"), pass, "one connection from 45.1.0.2:50123"},
		{"no reservation on it", func(s *story) { s.said(relayName, wire.RelayReservation, gone) }, inconclusive, "no record of a reservation on that connection"},
		{"the relay refused", func(s *story) {
			s.said(relayName, wire.RelayReservation, func(e *wire.Event) bool { e.Outcome = wire.Failed; return true })
		}, inconclusive, "no record of a reservation on that connection"},
		{"clocks that were not compared", func(s *story) { s.drop(evidence.HostFacts, relayName) }, inconclusive, "clocks of tensor02 and relay1 were not compared"},
	})
}

func TestAStrangersRelayNeedsCircuitsAtBothEndsOfTheHold(t *testing.T) {
	circuitDial := func(phase evidence.Phase, change func(*wire.DialResult) bool) func(*story) {
		return func(s *story) {
			s.probed(evidence.CircuitDial, "", func(p *evidence.Probe, r *wire.DialResult) bool { return p.Phase != phase || change(r) })
		}
	}
	drop := func(*wire.DialResult) bool { return false }
	judgeClauses(t, evidence.HoldClaim, strangersRelay, []clause{
		{"none before", circuitDial(evidence.BeforeHold, drop), inconclusive, "made no circuit through it before the hold"},
		{"none after", circuitDial(evidence.AfterHold, drop), inconclusive, "made no circuit through it after the hold"},
		{"one that failed", circuitDial(evidence.AfterHold, func(r *wire.DialResult) bool { r.Outcome = wire.Failed; return true }), inconclusive, "made no circuit through it after"},
		{"one through another relay", circuitDial(evidence.AfterHold, func(r *wire.DialResult) bool { r.Relay = strangerID; return true }), inconclusive, "made no circuit through it after"},
		{"no submitter", func(s *story) { s.started().Hosts[1].Role = "onlooker" }, inconclusive, "names no submitter who could confirm"},
		{"a name in somebody's DNS makes no public relay", func(s *story) {
			s.insert(named(evidence.HoldStarted), func() {
				s.says(4*time.Second, donorName, wire.Event{Kind: wire.ResolveEnded, Addr: "/dnsaddr/relay.example.org", Addrs: []string{relayEnd + "/p2p/" + relayID}})
			})
		}, pass, "(a volunteer's relay) over wss"},
	})
}

func TestTheVerdictTellsWhoseRelayItWas(t *testing.T) {
	own := &host{Host: evidence.Host{Name: relayName}}
	for _, c := range []struct {
		own  *host
		peer string
		want string
	}{
		{own, relayID, "relay1 (a relay of our own)"},
		{nil, "QmcZf59bWwK5XFi76CZX8cbJ4BhTzzA3gU1ZjYZcYW3dwt", "(a public bootstrap relay)"},
		{nil, strangerID, "(a volunteer's relay)"},
	} {
		k := &kept{h: newHistory(Input{}), own: c.own}
		k.opened.Peer = c.peer
		if got := k.name(); !strings.HasSuffix(got, c.want) {
			t.Errorf("%s is called %q, want %q", c.peer, got, c.want)
		}
	}
}
