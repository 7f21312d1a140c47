package check

import (
	"strings"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/wire"
)

const neighbourName = "desk"

// crowded is a passing run with a second donor behind the donor's address.
func crowded() *story {
	s := passing()
	_, id := identity(6)
	s.started().Hosts = append(s.started().Hosts, evidence.Host{Name: neighbourName, Role: "neighbour", Network: "campus"})
	expires := epoch.Add(2 * reservationLife)
	s.insert(named(evidence.DialProbed), func() {
		s.says(3*time.Second, neighbourName, wire.Event{Kind: wire.NodeStarted, Peer: id})
		s.add(3*time.Second, evidence.NodeUp, neighbourName, &evidence.NodeStart{Role: "neighbour", PeerID: id, Boot: "boot-" + neighbourName})
		s.dials(4*time.Second, neighbourName, "d00001", relayID, relayEnd, "wss", wire.OK, "")
		s.says(5*time.Second, relayName, wire.Event{Kind: wire.RelayReservation, Peer: id, Conn: "c6", Outcome: wire.OK, Expires: expires})
		s.says(5*time.Second, neighbourName, wire.Event{Kind: wire.ReservationMade, Relay: relayID, Conn: "c2", Expires: expires})
		s.says(5*time.Second, neighbourName, wire.Event{Kind: wire.ListenAddr, Addr: strings.Replace(circuitAddr, donorID, id, 1), Relay: relayID})
	})
	return s
}

func TestEveryNeighbourHoldsAReservationOfItsOwn(t *testing.T) {
	judgeClauses(t, evidence.Reservation, crowded, []clause{
		{"all there", func(*story) {}, pass, "desk holds a reservation at relay1"},
		{"none", func(s *story) { s.said(neighbourName, wire.ReservationMade, gone) }, fail, "The reservation of a neighbour: desk got no reservation, though there are relays of our own"},
		{"it never got out", func(s *story) {
			s.said(neighbourName, wire.ReservationMade, gone)
			s.said(neighbourName, wire.DialEnded, func(e *wire.Event) bool { e.Outcome, e.Failure = wire.Failed, "generic_timeout_error"; return true })
		}, fail, "desk got out to nobody"},
		{"one that the relay does not know", func(s *story) {
			s.said(relayName, wire.RelayReservation, func(e *wire.Event) bool { return e.Peer == donorID })
		}, fail, "relay1 has no record of that"},
		{"no address of it", func(s *story) { s.said(neighbourName, wire.ListenAddr, gone) }, inconclusive, "desk told of no circuit address"},
		{"the donor's is missing", func(s *story) { s.said(donorName, wire.ReservationMade, gone) }, inconclusive, "The reservation: not in the trace"},
	})
}
