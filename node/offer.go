package node

import (
	"cmp"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
)

// hysteresis is how long something must be so before it is acted on. The zero
// value waits as below.
//
// A donor that others can reach from anywhere offers itself as a relay, and
// takes the offer back when they no longer can. Both wait, since one test is a
// guess: a relay that comes and goes costs its clients a move each time, and one
// that cannot be reached holds addresses that lead nowhere.
type hysteresis struct {
	up   time.Duration // publicly reachable all the while; 0 means a minute
	down time.Duration // unreachable all the while; 0 means two: AutoNAT has by then tested more than once
}

func (h hysteresis) patience(up bool) time.Duration {
	if up {
		return cmp.Or(h.up, time.Minute)
	}
	return cmp.Or(h.down, 2*time.Minute)
}

// offerRelay has a donor relay for others as long as AutoNAT v2 finds one of
// its addresses to be publicly reachable, until the node stops. It goes on
// serving jobs, and holding reservations of its own.
func (n *node) offerRelay() error {
	if n.cfg.Relay || n.cfg.NoRelay {
		return nil
	}
	sub, err := n.host.EventBus().Subscribe(new(event.EvtHostReachableAddrsChanged), eventbus.Name("relay offer"))
	if err != nil {
		return fmt.Errorf("offer a relay: %w", err)
	}
	public := make(chan string)
	n.keeping.Go(func() {
		defer sub.Close()
		defer close(public)
		for {
			select {
			case <-n.ctx.Done():
				return
			case e := <-sub.Out():
				public <- firstReachable(e.(event.EvtHostReachableAddrsChanged))
			}
		}
	})
	n.keeping.Go(func() { n.cfg.offer.follow(public, n.relayWhile) })
	return nil
}

// firstReachable is an address that AutoNAT has confirmed; empty when it has
// confirmed none.
func firstReachable(e event.EvtHostReachableAddrsChanged) string {
	if len(e.Reachable) == 0 {
		return ""
	}
	return e.Reachable[0].String()
}

// relayWhile starts to relay where there is a reachable address, and stops where
// there is none.
func (n *node) relayWhile(reachable string) {
	var err error
	if reachable != "" {
		err = n.relay.start("AutoNAT reached this donor at " + reachable)
	} else {
		err = n.relay.stop("AutoNAT no longer reaches this donor")
	}
	n.discovery.Changed()
	if err != nil {
		n.log.Warn("the offer to relay cannot be changed", "err", err)
	}
}

// follow calls serve with the latest of what comes through public, once it has
// been of one kind (an address, or none) for long enough, and until public is
// closed. It starts out with none.
func (h hysteresis) follow(public <-chan string, serve func(reachable string)) {
	serving, latest := false, ""
	var settled <-chan time.Time // nil: things are as they should be
	for {
		select {
		case addr, open := <-public:
			if !open {
				return
			}
			up, was := addr != "", latest != ""
			latest = addr
			switch {
			case up == serving:
				settled = nil
			case up != was:
				settled = time.After(h.patience(up))
			}
		case <-settled:
			serving, settled = latest != "", nil
			serve(latest)
		}
	}
}
