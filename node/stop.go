package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/worldcompute/wce2e/node/wire"
)

// stop ends what start has brought up so far, in reverse, and leaves the books
// closed: no dial open, no connection open, node.stopped as the last event.
func (n *node) stop(why string) error {
	if n.rec != nil {
		n.rec.Record(wire.Event{Kind: wire.NodeStopping, Detail: why})
		n.rec.stopping.Store(true)
	}
	deadline, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var errs []error
	if n.api != nil {
		errs = append(errs, n.api.close(stopAPI))
	}
	errs = append(errs, n.metrics.close())
	n.cancel(errStopped)
	if !within(deadline, stopTraversal, n.keeping.Wait) {
		errs = append(errs, fmt.Errorf("stop node: traversal did not end within %s", stopTraversal))
	}
	if n.jobs != nil {
		for _, v := range wire.Versions { // no more of them
			n.host.RemoveStreamHandler(protocol.ID(v.Protocol()))
		}
	}
	if n.runner != nil {
		ctx, cancel := context.WithTimeout(deadline, stopJobs)
		errs = append(errs, n.runner.Close(ctx))
		cancel()
	}
	if n.jobs != nil {
		n.jobs.farewell(deadline)
	}
	ended := make(chan error, 1)
	if within(deadline, stopServices, func() { ended <- n.closeServices() }) {
		errs = append(errs, <-ended)
	} else {
		errs = append(errs, fmt.Errorf("stop node: the relay or the search for relays did not end within %s", stopServices))
	}
	if n.addrs != nil {
		n.addrs.close()
	}
	if n.host != nil && !within(deadline, stopTimeout, func() { n.host.Close() }) {
		errs = append(errs, errors.New("stop node: the libp2p host did not end in time"))
	}
	return errors.Join(append(errs, n.closeBooks())...)
}

// closeServices ends what others use of this node besides jobs.
func (n *node) closeServices() error {
	err := n.relay.close()
	if n.discovery != nil {
		err = errors.Join(err, n.discovery.Close())
	}
	return err
}

// closeBooks writes the last events.
func (n *node) closeBooks() error {
	var errs []error
	if n.rec != nil {
		n.rec.abortDials(errStopped)
		if n.relay != nil {
			n.relay.watch.closeRest()
		}
		if n.conns != nil {
			n.conns.closeRest(errStopped.Error())
		}
		n.rec.Record(wire.Event{Kind: wire.NodeStopped})
	}
	if n.events != nil {
		errs = append(errs, n.events.Close())
	}
	if n.lock != nil {
		errs = append(errs, n.lock.Close())
	}
	return errors.Join(errs...)
}

// within runs f, and goes on without it when it takes longer than d or than
// ctx allows.
func within(ctx context.Context, d time.Duration, f func()) bool {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}
