package node

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/traversal"
	"github.com/worldcompute/wce2e/node/traversal/discovery"
	"github.com/worldcompute/wce2e/node/wire"
)

const (
	// seekAfter is how long reservations without limits have to be lacking before
	// other relays than those of the list are asked for, and seekEvery how often,
	// seekIdle while there are some with limits.
	seekAfter = 2 * time.Second
	seekEvery = 10 * time.Second
	seekIdle  = 5 * time.Minute
)

// wantReservations is how many relays a donor is reachable through at once: when
// one goes, nobody notices.
const wantReservations = 2

// makeKeeper makes what gets this node out and keeps it reachable.
func (n *node) makeKeeper() error {
	n.keeper = &traversal.Keeper{
		Host: n.host, Bootstrap: n.cfg.bootstrap(), Want: wantReservations,
		Record: n.recordTraversal, ConnID: connID, Log: n.log,
		Changed:  func() { n.addrs.relaysChanged() },
		Resolver: n.around.names, SecondOpinion: n.around.names.Encrypted(), Memory: n.around,
		Outer: outerOf, RefuseInspected: n.cfg.RefuseInspected, Narrow: n.around.narrow.Store,
	}
	if n.cfg.Relay {
		n.keeper.Want = -1
	}
	if n.cfg.NoBootstrap {
		n.keeper.Memory = nil // nobody is nobody
	}
	traversal.ServeStatement(n.host, n.certs.Hashes)
	return nil
}

// recordTraversal records what the keeper tells. A relay that was reached and
// would not do is among what was tried.
func (n *node) recordTraversal(ev wire.Event) {
	n.rec.Record(ev)
	if ev.Kind == wire.ReservationFailed && !ev.Renewal {
		n.rec.tried.note(wire.Attempt{Addr: ev.Remote, Peer: ev.Relay, At: time.Now().UTC(), Outcome: wire.Failed, Failure: ev.Failure})
	}
}

// join starts to look for relays, and never stops.
func (n *node) join() error {
	n.keeping.Go(func() { n.around.watch(n.ctx, n.keeper) })
	n.keeping.Go(func() { n.around.watchPortal(n.ctx, n.keeper) })
	n.keeping.Go(n.seek)
	n.keeping.Go(func() {
		if err := n.keeper.Run(n.ctx); err != nil && n.ctx.Err() == nil {
			n.failed <- fmt.Errorf("join the mesh: %w", err)
		}
	})
	return nil
}

// discover starts to look for relays beyond the list, and to announce this node
// where it is one.
func (n *node) discover() error {
	d, err := discovery.Start(n.ctx, discovery.Config{
		Host: n.host, Mesh: n.cfg.Private, PrivateAddrs: n.cfg.Private != "", Dir: n.cfg.Dir, Log: n.log,
		Found: func(info peer.AddrInfo, source string) {
			n.rec.Record(wire.Event{Kind: wire.RelayFound, Peer: info.ID.String(), Addrs: strs(info.Addrs), Detail: source})
			if !n.cfg.NoBootstrap {
				n.keeper.Found(n.ctx, info)
			}
		},
		Serving: func() ([]ma.Multiaddr, bool) {
			_, serving := n.relay.counts()
			return n.host.Addrs(), serving
		},
	})
	if err != nil {
		return err
	}
	n.discovery = d
	n.keeper.Reserved = func(id peer.ID, way ma.Multiaddr) {
		d.Remember(peer.AddrInfo{ID: id, Addrs: n.host.Peerstore().Addrs(id)}, way)
	}
	n.keeper.Refused = func(ctx context.Context, conn network.Conn) {
		d.Forget(conn.RemotePeer())
		if err := d.Exchange(ctx, conn); err != nil {
			n.log.Debug("a relay that refused us names no others", "relay", conn.RemotePeer().String(), "err", err)
		}
	}
	return nil
}

// seek asks for relays while none of the list will have us.
func (n *node) seek() {
	for sleep(n.ctx, seekAfter) {
		if n.keeper.Lacking() < seekAfter {
			continue
		}
		n.discovery.Seek()
		wait := seekEvery
		if n.keeper.Stranded() == 0 {
			wait = seekIdle
		}
		if !sleep(n.ctx, wait) {
			return
		}
	}
}
