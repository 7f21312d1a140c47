package node

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/worldcompute/wce2e/node/wire"
)

// What every relay of ours gives. A circuit has no limit of time or data:
// whatever the limit, it would cut a job in two without a reason that either
// side can see, and a limited connection is one that libraries will not open
// streams on unasked. What bounds a relay is its memory (relayMemory), and the
// numbers of wire.RelayLimits.
const (
	reservationTTL = time.Hour // the library's; donors renew in time
	relayBuffer    = 64 << 10  // bytes, per direction; the library's 2 KiB halve the throughput
	donorMemory    = 128 << 10 // bytes that a donor with a reservation takes, and some more (docs/running-a-relay.md#sizing)
)

// Peer IDs are free, addresses are not: as source, one address (IPv6: one /56) may
// have a quarter of the circuits that the memory carries, or one, if it is less.
const addressShare = 4

// volunteerLimits are those of a node that runs as a relay: whole campuses sit
// behind one address, and 1,000 donors of one must fit.
func volunteerLimits() wire.RelayLimits {
	return wire.RelayLimits{
		Reservations:           int(min(16384, relayMemory()/donorMemory)), // in the half that is not given out
		ReservationsPerAddress: 4096,
		CircuitsPerPeer:        256,
		CircuitsPerAddress:     int(max(1, relayMemory()/circuitMemory/addressShare)),
		MemoryBytes:            relayMemory(),
	}
}

// donorLimits are those of a donor that relays beside its own work: a small
// share of a machine that is lent for something else.
func donorLimits() wire.RelayLimits {
	return wire.RelayLimits{
		Reservations:           128, // below donorConnsLow: the connection manager keeps them
		ReservationsPerAddress: 64,
		CircuitsPerPeer:        16,
		CircuitsPerAddress:     donorRelayMemory / (2 * relayBuffer) / addressShare, // windows are not counted there
		MemoryBytes:            donorRelayMemory,
	}
}

// relayService is the circuit v2 relay of a node. It serves from start to stop,
// and can be started again; what it has counted, it keeps.
type relayService struct {
	host      host.Host
	rec       *recorder
	volunteer bool // the node's purpose is to be a relay
	limits    wire.RelayLimits
	watch     *hopWatch

	mu    sync.Mutex   // guards the fields below
	relay *relay.Relay // nil: not serving
	since time.Time
	why   string
}

// newRelayService is one that does not serve yet. circuitRate is in bytes a
// second, 0 for any.
func newRelayService(h host.Host, rec *recorder, volunteer bool, circuitRate int64) *relayService {
	limits := donorLimits()
	if volunteer {
		limits = volunteerLimits()
	}
	limits.CircuitBytesPerSecond = circuitRate
	watch := newHopWatch(rec, limits)
	h.Network().Notify(watch.notifiee())
	return &relayService{host: h, rec: rec, volunteer: volunteer, limits: limits, watch: watch}
}

// start begins to relay for others. On one that serves it does nothing.
func (s *relayService) start(why string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.relay != nil {
		return nil
	}
	r, err := relay.New(hopHost{s.host, s.watch},
		relay.WithResources(relay.Resources{
			ReservationTTL:       reservationTTL,
			MaxReservations:      s.limits.Reservations,
			MaxReservationsPerIP: s.limits.ReservationsPerAddress,
			// The library asks this of IPv6 only, where one machine has more
			// addresses than can be counted.
			MaxReservationsPerASN: s.limits.Reservations / 2,
			MaxCircuits:           s.limits.CircuitsPerPeer,
			BufferSize:            relayBuffer,
		}),
		relay.WithReservationAddressFilter(toldToClients(s.volunteer)))
	if err != nil {
		return fmt.Errorf("start relay: %w", err)
	}
	s.relay, s.since, s.why = r, time.Now().UTC(), why
	s.rec.Record(wire.Event{Kind: wire.RelayServing, Outcome: wire.OK, Detail: "relaying for others: " + why})
	return nil
}

// stop ends it. Reservations are forgotten: peers hear that the protocol is
// gone and look elsewhere. Circuits that stand go on.
func (s *relayService) stop(why string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.relay == nil {
		return nil
	}
	err := s.relay.Close()
	s.relay = nil
	s.watch.forgetAll()
	s.rec.Record(wire.Event{Kind: wire.RelayServing, Outcome: wire.Aborted, Detail: "no longer relaying for others: " + why})
	if err != nil {
		return fmt.Errorf("stop relay: %w", err)
	}
	return nil
}

// close ends the service with its node.
func (s *relayService) close() error {
	if s == nil {
		return nil
	}
	return s.stop(errStopped.Error())
}

// counts are what the relay gives and has given, and whether it serves now.
func (s *relayService) counts() (wire.Serving, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.watch.counts()
	out.Since, out.Why, out.Limits = s.since, s.why, s.limits
	return out, s.relay != nil
}

// serving is the same; nil when it does not serve.
func (s *relayService) serving() *wire.Serving {
	if s == nil {
		return nil
	}
	out, serving := s.counts()
	if !serving {
		return nil
	}
	return &out
}

// held are the reservations that stand.
func (s *relayService) held() []wire.Held {
	if s == nil {
		return nil
	}
	return s.watch.reservations(time.Now())
}

// toldToClients chooses which of a relay's own addresses its clients are told. A
// circuit through another relay is none of them: nobody dials a circuit through
// a circuit. A volunteer's addresses the announcer has chosen already, and they
// may be private, in a private mesh: clients in Rust refuse a reservation
// without any. Those of a donor's own network are nobody's business.
func toldToClients(volunteer bool) relay.ReservationAddressFilterFunc {
	return func(a ma.Multiaddr) bool { return !has(a, ma.P_CIRCUIT) && (volunteer || manet.IsPublicAddr(a)) }
}

// minCircuitRate, in bytes a second, passes one relayBuffer in 4 s: liveness
// checks of the connection inside time out later than that.
const minCircuitRate = 16 << 10

func checkCircuitRate(rate int64) error {
	if rate != 0 && rate < minCircuitRate {
		return fmt.Errorf("circuit rate of %d bytes a second: at least %d can carry a job, and 0 means any", rate, minCircuitRate)
	}
	return nil
}

// checkRelay tells what is wrong with the settings of a relay.
func (c Config) checkRelay() error {
	var errs []error
	if c.Relay && c.NoRelay {
		errs = append(errs, errors.New("relay: to be one and not to be one contradict each other"))
	}
	if !c.Relay && (c.ACME.Domain != "" || c.HTTP) {
		errs = append(errs, errors.New("relay: a domain and port 80 are for relays only"))
	}
	if c.HTTP && len(c.Listen) > 0 {
		errs = append(errs, errors.New("relay: port 80 comes beside the default addresses: among others, write /ip4/0.0.0.0/tcp/80/ws"))
	}
	return errors.Join(append(errs, checkCircuitRate(c.MaxCircuitRate))...)
}

// serveRelay makes the node able to relay, and a relay begin.
func (n *node) serveRelay() error {
	n.relay = newRelayService(n.host, n.rec, n.cfg.Relay, n.cfg.MaxCircuitRate)
	if !n.cfg.Relay {
		return nil
	}
	return n.relay.start("it was started as a relay")
}
