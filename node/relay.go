package node

import (
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/wire"
)

// What a relay gives. A circuit has no limit of time or data: whatever the
// limit, it would cut a job in two without a reason that either side can see,
// and a limited connection is one that libraries will not open streams on
// unasked. What bounds a relay is its memory (relayLimits) and these numbers.
const (
	reservationTTL  = time.Hour // the library's; donors renew in time
	maxReservations = 16384     // all together, and from one address: campuses sit behind one
	maxCircuits     = 256       // open at once, per peer, as source or target
	relayBuffer     = 64 << 10  // bytes, per direction; the library's 2 KiB halve the throughput
)

// relayService is the circuit v2 relay of a node that runs with Relay.
type relayService struct {
	*relay.Relay
	watch *hopWatch
}

func startRelay(h host.Host, rec *recorder) (*relayService, error) {
	watch := newHopWatch(rec)
	h.Network().Notify(watch.notifiee())
	r, err := relay.New(hopHost{h, watch},
		relay.WithResources(relay.Resources{
			ReservationTTL:        reservationTTL,
			MaxReservations:       maxReservations,
			MaxReservationsPerIP:  maxReservations,
			MaxReservationsPerASN: maxReservations,
			MaxCircuits:           maxCircuits,
			BufferSize:            relayBuffer,
		}),
		// The announcer has chosen already. A relay of a private mesh must
		// name its private addresses: clients in Rust refuse a reservation
		// without any.
		relay.WithReservationAddressFilter(func(ma.Multiaddr) bool { return true }))
	if err != nil {
		return nil, fmt.Errorf("start relay: %w", err)
	}
	return &relayService{r, watch}, nil
}

// held are the reservations that stand.
func (r *relayService) held() []wire.Held {
	if r == nil {
		return nil
	}
	return r.watch.reservations(time.Now())
}
