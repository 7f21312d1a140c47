package check

import (
	"testing"
	"time"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/wire"
)

func TestAFirewallIsShownByItsControlsOnly(t *testing.T) {
	negative := func(part string, change func(*wire.DialResult)) func(*story) {
		return func(s *story) {
			s.probed(evidence.NegativeControl, part, func(_ *evidence.Probe, r *wire.DialResult) bool { change(r); return true })
		}
	}
	judgeClauses(t, evidence.Firewall, passing, []clause{
		{"no negative control", func(s *story) { s.probed(evidence.NegativeControl, "", noProbe) }, inconclusive, "no failed dial from laptop"},
		{"no negative control of one transport", func(s *story) { s.probed(evidence.NegativeControl, "quic-v1", noProbe) }, inconclusive, "quic-v1 (ip4): no failed dial"},
		{"a direct dial that succeeds", negative("quic-v1", func(r *wire.DialResult) { r.Outcome = wire.OK }), inconclusive, "No firewall was traversed: laptop reached tensor02 directly at 45.1.0.2:4001 over quic-v1"},
		{"a direct dial that connects and dies", negative("/tcp/4001", func(r *wire.DialResult) { r.Remote = "/ip4/45.1.0.2/tcp/4001" }), inconclusive, "No firewall was traversed"},
		{"a direct dial to the mapping's port that succeeds", negative("/tcp/50123", func(r *wire.DialResult) { r.Outcome = wire.OK }), inconclusive, "No firewall was traversed"},
		{"a port that the router has lent", func(s *story) {
			s.probes(50*time.Second, submitterName, evidence.Probe{Purpose: evidence.MappedPort, Phase: evidence.AfterHold, Transport: "tcp"}, wire.DialResult{
				Self: strangerID, Addr: "/ip4/45.1.0.2/tcp/38071/p2p/" + donorID, Peer: donorID, Outcome: wire.OK, Path: wire.Direct, Remote: "/ip4/45.1.0.2/tcp/38071"})
		}, inconclusive, "has lent it a port, and laptop reached it there, at 45.1.0.2:38071"},
		{"a dial that was given up", negative("/tcp/4001", func(r *wire.DialResult) { r.Outcome = wire.Aborted }), inconclusive, "tcp (ip4): no failed dial"},
		{"somebody else answers", negative("/tcp/4001", func(r *wire.DialResult) { r.Failure = "peer_id_mismatch" }), inconclusive, "tcp (ip4): no failed dial"},
		{"the dialler's own fault", negative("/tcp/4001", func(r *wire.DialResult) { r.Failure = "permission_denied" }), inconclusive, "tcp (ip4): no failed dial"},
		{"a dial to another peer", negative("/tcp/4001", func(r *wire.DialResult) { r.Peer = strangerID }), inconclusive, "tcp (ip4): no failed dial"},
		{"a dial to an address that is not the donor's egress", negative("/tcp/4001", func(r *wire.DialResult) {
			r.Addr = "/ip4/45.77.0.1/tcp/4001/p2p/" + donorID
		}), inconclusive, "tcp (ip4): no failed dial"},
		{"a dial to a port that the donor does not listen on", negative("/tcp/4001", func(r *wire.DialResult) {
			r.Addr = "/ip4/45.1.0.2/tcp/4999/p2p/" + donorID
		}), inconclusive, "tcp (ip4): no failed dial"},
		{"a dial that is not of the transport it says", negative("/tcp/4001", func(r *wire.DialResult) {
			r.Addr = "/ip4/45.1.0.2/tcp/4001/ws/p2p/" + donorID
		}), inconclusive, "tcp (ip4): no failed dial"},
		{"a dial that says it is of another transport", func(s *story) {
			s.probed(evidence.NegativeControl, "/tcp/4001", func(p *evidence.Probe, _ *wire.DialResult) bool { p.Transport = "quic-v1"; return true })
		}, inconclusive, "tcp (ip4): no failed dial"},
		{"the local control was relayed", func(s *story) {
			s.probed(evidence.LocalControl, "/tcp/", func(_ *evidence.Probe, r *wire.DialResult) bool { r.Path = wire.Relayed; return true })
		}, inconclusive, "tcp: no positive control"},
		{"an identity that was in use", negative("/tcp/4001", func(r *wire.DialResult) { r.Self = submitterID }), inconclusive, "an identity that was in use before"},
		{"an identity used twice", negative("", func(r *wire.DialResult) { r.Self = strangerID }), inconclusive, "an identity that was in use before"},
		{"no identity", negative("/tcp/4001", func(r *wire.DialResult) { r.Self = "" }), inconclusive, "an identity that was in use before"},
		{"the dial was made elsewhere", func(s *story) {
			s.each(func(it *item) bool {
				if p, ok := it.data.(*evidence.Probe); ok && p.Purpose == evidence.NegativeControl {
					it.host = relayName
				}
				return true
			})
		}, inconclusive, "no failed dial from laptop"},
		{"after a hole punch, by the order of the trace", func(s *story) {
			s.insert(named(evidence.DialProbed), func() {
				s.says(time.Hour, donorName, wire.Event{Kind: wire.HolePunch, Outcome: wire.OK, Peer: strangerID})
			})
		}, inconclusive, "after a hole punch"},
		{"after a hole punch, by the clock", func(s *story) {
			s.insert(named(evidence.HoldStarted), func() {
				s.says(9*time.Second, donorName, wire.Event{Kind: wire.HolePunch, Outcome: wire.OK, Peer: strangerID})
			})
		}, inconclusive, "after a hole punch"},
		{"after a hole punch that the submitter tells of", func(s *story) {
			s.insert(named(evidence.DialProbed), func() {
				s.says(9*time.Second, submitterName, wire.Event{Kind: wire.HolePunch, Outcome: wire.OK, Peer: donorID})
			})
		}, inconclusive, "after a hole punch"},
		{"no positive control at the donor", func(s *story) { s.probed(evidence.LocalControl, "tcp", noProbe) }, inconclusive, "tcp: no positive control: nothing shows that tensor02 accepts"},
		{"the donor does not accept locally either", func(s *story) {
			s.probed(evidence.LocalControl, "quic-v1", func(_ *evidence.Probe, r *wire.DialResult) bool { r.Outcome = wire.Failed; return true })
		}, inconclusive, "quic-v1: no positive control: nothing shows that tensor02 accepts"},
		{"the local control is of another port", func(s *story) {
			s.probed(evidence.LocalControl, "/tcp/", func(_ *evidence.Probe, r *wire.DialResult) bool {
				r.Addr = "/ip4/127.0.0.1/tcp/4002/p2p/" + donorID
				return true
			})
		}, inconclusive, "tcp: no positive control"},
		{"the local control met somebody else", func(s *story) {
			s.probed(evidence.LocalControl, "/tcp/", func(_ *evidence.Probe, r *wire.DialResult) bool { r.Peer = strangerID; return true })
		}, inconclusive, "tcp: no positive control"},
		{"the submitter reached no relay over a transport", func(s *story) { s.probed(evidence.RelayControl, "/tcp/", noProbe) }, inconclusive, "tcp: no positive control: laptop reached no relay"},
		{"the submitter's dial to a relay failed", func(s *story) {
			s.probed(evidence.RelayControl, "quic-v1", func(_ *evidence.Probe, r *wire.DialResult) bool { r.Outcome = wire.Failed; return true })
		}, inconclusive, "quic-v1: no positive control: laptop reached no relay"},
		{"the submitter's control was of another IP version", func(s *story) {
			s.probed(evidence.RelayControl, "/tcp/", func(_ *evidence.Probe, r *wire.DialResult) bool {
				r.Addr = "/ip6/2a00::10/tcp/4001/p2p/" + relayID
				return true
			})
		}, inconclusive, "tcp: no positive control: laptop reached no relay"},
		{"the submitter's control was the donor itself", func(s *story) {
			s.probed(evidence.RelayControl, "/tcp/", func(_ *evidence.Probe, r *wire.DialResult) bool { r.Peer = donorID; return true })
		}, inconclusive, "tcp: no positive control: laptop reached no relay"},
		{"the donor listens over IPv6 too, and nobody tried", func(s *story) {
			s.insert(named(evidence.DialProbed), func() {
				s.says(5*time.Second, donorName, wire.Event{Kind: wire.ListenAddr, Addr: "/ip6/2a00:1::5/tcp/4001/p2p/" + donorID})
				s.says(5*time.Second, donorName, wire.Event{Kind: wire.ObservedAddr, Addr: "/ip6/2a00:1::5/tcp/4001", Peer: strangerID})
				_, self := identity(77)
				s.probes(5*time.Second, submitterName, evidence.Probe{Purpose: evidence.RelayControl, Transport: "tcp"},
					wire.DialResult{Self: self, Outcome: wire.OK, Peer: relayID, Addr: "/ip6/2a00:9::10/tcp/4001/p2p/" + relayID})
			})
		}, inconclusive, "tcp (ip6): no failed dial"},
		{"the donor tells of no listen address", func(s *story) { s.said(donorName, wire.ListenAddr, gone) }, inconclusive, "no address that it listens on"},
		{"nobody saw where the donor comes from", func(s *story) {
			s.said(donorName, wire.ObservedAddr, gone)
			s.said(relayName, wire.ConnOpened, gone)
		}, inconclusive, "Nobody saw a public address of tensor02"},
		{"both leave at the same place", func(s *story) {
			s.insert(named(evidence.DialProbed), func() {
				s.says(5*time.Second, submitterName, wire.Event{Kind: wire.ObservedAddr, Addr: "/ip4/45.1.0.2/tcp/999", Peer: strangerID})
			})
		}, inconclusive, "from the same place"},
		{"no submitter's node", func(s *story) { s.drop(evidence.NodeUp, submitterName) }, inconclusive, "No node came up on the submitter"},
	})
}

func TestWhatTheOperatorExpectsToBeBlockedIsTried(t *testing.T) {
	expect := func(word string, change func(*wire.DialResult) bool) func(*story) {
		return func(s *story) {
			s.probed(evidence.ExpectBlocked, "", func(p *evidence.Probe, r *wire.DialResult) bool { return p.Blocked != word || change(r) })
		}
	}
	judgeClauses(t, evidence.Firewall, passing, []clause{
		{"it is not blocked", expect("udp", func(r *wire.DialResult) bool { r.Outcome = wire.OK; return true }), fail, "udp is not blocked"},
		{"it is not blocked, and nor is anything", func(s *story) {
			s.probed(evidence.NegativeControl, "", func(_ *evidence.Probe, r *wire.DialResult) bool { r.Outcome = wire.OK; return true })
			s.probed(evidence.ExpectBlocked, "", func(_ *evidence.Probe, r *wire.DialResult) bool { r.Outcome = wire.OK; return true })
		}, inconclusive, "No firewall was traversed"},
		{"it was not tried", expect("udp", func(*wire.DialResult) bool { return false }), inconclusive, "nothing shows that udp is blocked"},
		{"the dial was given up", expect("udp", func(r *wire.DialResult) bool { r.Outcome = wire.Aborted; return true }), inconclusive, "nothing shows that udp is blocked"},
		{"the dial connected and died", expect("udp", func(r *wire.DialResult) bool { r.Remote = "/ip4/45.9.0.10/udp/4001/quic-v1"; return true }), inconclusive, "nothing shows that udp is blocked"},
		{"the host itself forbade the dial", expect("tcp-high-ports", func(r *wire.DialResult) bool { r.Failure = "permission_denied"; return true }), inconclusive, "nothing shows that tcp-high-ports is blocked"},
		{"a low port was tried", expect("tcp-high-ports", func(r *wire.DialResult) bool { r.Addr = "/ip4/45.9.0.10/tcp/443/p2p/" + relayID; return true }), inconclusive, "nothing shows that tcp-high-ports is blocked"},
		{"an IP version that the donor has not", expect("tcp-high-ports", func(r *wire.DialResult) bool { r.Addr = "/ip6/2a00::1/tcp/4001/p2p/" + relayID; return true }), inconclusive, "nothing shows that tcp-high-ports is blocked"},
		{"nobody else reaches that peer either", expect("udp", func(r *wire.DialResult) bool { r.Peer = strangerID; return true }), inconclusive, "udp: no positive control"},
		{"another host tried", func(s *story) {
			s.each(func(it *item) bool {
				if p, ok := it.data.(*evidence.Probe); ok && p.Purpose == evidence.ExpectBlocked {
					it.host = relayName
				}
				return true
			})
		}, inconclusive, "nothing shows that udp is blocked"},
		{"a word that nobody can try", func(s *story) { s.started().Hosts[0].ExpectBlocked = []string{"telepathy"} }, inconclusive, `how to try "telepathy"`},
		{"nothing but inbound", func(s *story) { s.started().Hosts[0].ExpectBlocked = []string{"inbound"} }, pass, "tcp: laptop could not reach"},
	})
}
