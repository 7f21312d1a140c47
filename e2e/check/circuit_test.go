package check

import (
	"strings"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/wire"
)

func TestACircuitIsRelayedOnBothEndsBetweenDifferentNetworks(t *testing.T) {
	after := func(change func(*wire.DialResult) bool) func(*story) {
		return func(s *story) {
			s.probed(evidence.CircuitDial, "", func(p *evidence.Probe, r *wire.DialResult) bool { return p.Phase != evidence.AfterHold || change(r) })
		}
	}
	atDonor := func(change func(*wire.Event) bool) func(*story) {
		return func(s *story) {
			s.said(donorName, wire.ConnOpened, func(e *wire.Event) bool { return e.Peer != afterID || change(e) })
		}
	}
	judgeClauses(t, evidence.Circuit, passing, []clause{
		{"none before", func(s *story) {
			s.probed(evidence.CircuitDial, "", func(p *evidence.Probe, _ *wire.DialResult) bool { return p.Phase != evidence.BeforeHold })
		}, inconclusive, "The circuit dial before the hold: not in the trace"},
		{"none after", after(func(*wire.DialResult) bool { return false }), inconclusive, "The circuit dial after the hold: not in the trace"},
		{"none after, since the donor lost its reservation", func(s *story) {
			after(func(*wire.DialResult) bool { return false })(s)
			s.insert(named(evidence.RunEnded), func() {
				s.add(time.Hour, evidence.StepFailed, donorName, &evidence.Failure{Step: "reservation"})
			})
		}, fail, "had lost its reservation and got no other in time"},
		{"one before said to be after", func(s *story) {
			after(func(*wire.DialResult) bool { return false })(s)
			s.probed(evidence.CircuitDial, "", func(p *evidence.Probe, _ *wire.DialResult) bool { p.Phase = evidence.AfterHold; return true })
		}, inconclusive, "was made at another time"},
		{"it failed", after(func(r *wire.DialResult) bool {
			r.Outcome, r.Failure, r.Err = wire.Failed, "relay_no_reservation", "NO_RESERVATION"
			return true
		}), fail, "could not reach tensor02 after the hold through relay1: relay_no_reservation (NO_RESERVATION)"},
		{"it was direct", after(func(r *wire.DialResult) bool { r.Path = wire.Direct; return true }), fail, "was direct, not relayed"},
		{"it was of unknown kind", after(func(r *wire.DialResult) bool { r.Path = ""; return true }), fail, "of unknown kind"},
		{"through another relay", after(func(r *wire.DialResult) bool { r.Relay = strangerID; return true }), fail, "while the address names relay1"},
		{"to another peer", after(func(r *wire.DialResult) bool { r.Peer = strangerID; return true }), fail, "while the address names"},
		{"to an address that the donor has not", after(func(r *wire.DialResult) bool {
			r.Addr = strings.Replace(r.Addr, "443", "444", 1)
			return true
		}), inconclusive, "was not to a circuit address of tensor02"},
		{"to a direct address", after(func(r *wire.DialResult) bool { r.Addr = "/ip4/45.1.0.2/tcp/4001/p2p/" + donorID; return true }), inconclusive, "was not to a circuit address"},
		{"the donor has no record", atDonor(gone), inconclusive, "tensor02 has no record of the connection made after the hold"},
		{"the donor's record is of a direct connection", atDonor(func(e *wire.Event) bool { e.Relay = ""; return true }), fail, "is of another one"},
		{"the donor's record is of another relay", atDonor(func(e *wire.Event) bool { e.Relay = strangerID; return true }), fail, "is of another one"},
		{"the donor dialled itself", atDonor(func(e *wire.Event) bool { e.Direction = "outbound"; return true }), fail, "is of another one"},
		{"the relay has no record", func(s *story) { s.said(relayName, wire.RelayCircuitOpened, gone) }, inconclusive, "relay1 has no record of the circuit"},
		{"the relay's circuit was to another peer", func(s *story) {
			s.said(relayName, wire.RelayCircuitOpened, func(e *wire.Event) bool { e.Target = strangerID; return true })
		}, inconclusive, "relay1 has no record of the circuit"},
		{"the same network", func(s *story) { s.started().Hosts[0].Network = "house" }, inconclusive, "on the same network, house"},
		{"no network named", func(s *story) { s.started().Hosts[0].Network = "" }, inconclusive, "does not say on which networks"},
		{"the same egress", func(s *story) {
			s.insert(named(evidence.DialProbed), func() {
				s.says(5*time.Second, submitterName, wire.Event{Kind: wire.ObservedAddr, Addr: "/ip4/45.1.0.2/tcp/999", Peer: strangerID})
			})
		}, inconclusive, "from the same place, 45.1.0.2"},
		{"egress in one IPv6 site", func(s *story) {
			s.insert(named(evidence.DialProbed), func() {
				s.says(5*time.Second, submitterName, wire.Event{Kind: wire.ObservedAddr, Addr: "/ip6/2a00:1:2:300::1/tcp/999", Peer: strangerID})
				s.says(5*time.Second, donorName, wire.Event{Kind: wire.ObservedAddr, Addr: "/ip6/2a00:1:2:3ff::1/tcp/999", Peer: strangerID})
			})
		}, inconclusive, "from the same place, 2a00:1:2:3ff::1"},
		{"egress in two IPv6 sites", func(s *story) {
			s.insert(named(evidence.DialProbed), func() {
				s.says(5*time.Second, submitterName, wire.Event{Kind: wire.ObservedAddr, Addr: "/ip6/2a00:1:2:300::1/tcp/999", Peer: strangerID})
				s.says(5*time.Second, donorName, wire.Event{Kind: wire.ObservedAddr, Addr: "/ip6/2a00:1:2:400::1/tcp/999", Peer: strangerID})
			})
		}, pass, "45.1.0.2, 2a00:1:2:400::1 for tensor02"},
		{"egress in different families", func(s *story) {
			six := func(e *wire.Event) bool {
				e.Addr = strings.Replace(e.Addr, "/ip4/45.1.0.2", "/ip6/2a00::1", 1)
				e.Remote = strings.Replace(e.Remote, "/ip4/45.1.0.2", "/ip6/2a00::1", 1)
				return true
			}
			s.said(donorName, wire.ObservedAddr, six)
			s.said(relayName, wire.ConnOpened, six)
		}, inconclusive, "they cannot be compared"},
		{"egress that is private", func(s *story) {
			private := func(e *wire.Event) bool {
				e.Addr = strings.Replace(e.Addr, "45.1.0.2", "100.64.1.1", 1)
				e.Remote = strings.Replace(e.Remote, "45.1.0.2", "10.0.0.1", 1)
				return true
			}
			s.said(donorName, wire.ObservedAddr, private)
			s.said(relayName, wire.ConnOpened, private)
		}, inconclusive, "Nobody saw a public address of tensor02"},
		{"made by another host", func(s *story) {
			s.each(func(it *item) bool {
				if p, ok := it.data.(*evidence.Probe); ok && p.Purpose == evidence.CircuitDial {
					it.host = relayName
				}
				return true
			})
		}, inconclusive, "The circuit dial: not in the trace"},
		{"tried twice, and the first one works", func(s *story) {
			s.insert(named(evidence.EventsHashed), func() {
				s.probes(holdEnds+time.Second, submitterName, evidence.Probe{Purpose: evidence.CircuitDial, Phase: evidence.AfterHold},
					wire.DialResult{Self: strangerID, Addr: circuitAddr, Outcome: wire.Failed})
			})
		}, pass, "After the hold laptop reached tensor02"},
		{"tried twice, and the second one works", func(s *story) {
			s.insert(func(it *item) bool {
				p, ok := it.data.(*evidence.Probe)
				return ok && p.Purpose == evidence.CircuitDial && p.Phase == evidence.AfterHold
			}, func() {
				s.probes(holdEnds+time.Second, submitterName, evidence.Probe{Purpose: evidence.CircuitDial, Phase: evidence.AfterHold},
					wire.DialResult{Self: strangerID, Addr: circuitAddr, Outcome: wire.Failed})
			})
		}, pass, "After the hold laptop reached tensor02"},
	})
}
