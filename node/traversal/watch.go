package traversal

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
)

// watch listens to the host until ctx ends: connections that close, and peers
// that say what they speak. stop waits until it has ended.
func (k *Keeper) watch(ctx context.Context) (stop func(), err error) {
	kinds := []any{new(event.EvtPeerIdentificationCompleted), new(event.EvtPeerProtocolsUpdated)}
	sub, err := k.Host.EventBus().Subscribe(kinds, eventbus.Name("traversal"), eventbus.BufSize(256))
	if err != nil {
		return nil, fmt.Errorf("subscribe to the host's events: %w", err)
	}
	closes := &network.NotifyBundle{DisconnectedF: k.disconnected}
	k.Host.Network().Notify(closes)
	done := make(chan struct{})
	go func() {
		defer close(done)
		k.listen(ctx, sub.Out())
	}()
	return func() {
		<-done
		_ = sub.Close()
		k.Host.Network().StopNotify(closes)
	}, nil
}

func (k *Keeper) listen(ctx context.Context, events <-chan any) {
	for {
		select {
		case <-ctx.Done():
			return
		case e, open := <-events:
			if !open {
				return
			}
			k.heard(e)
		}
	}
}

// heard learns from an event whether a peer is a relay.
func (k *Keeper) heard(e any) {
	switch e := e.(type) {
	case event.EvtPeerIdentificationCompleted:
		if slices.Contains(e.Protocols, protocol.ID(proto.ProtoIDv2Hop)) {
			k.setHop(e.Peer, hopYes)
		} else {
			k.setHop(e.Peer, hopNo)
		}
	case event.EvtPeerProtocolsUpdated:
		switch {
		case slices.Contains(e.Added, protocol.ID(proto.ProtoIDv2Hop)):
			k.setHop(e.Peer, hopYes)
		case slices.Contains(e.Removed, protocol.ID(proto.ProtoIDv2Hop)):
			k.setHop(e.Peer, hopNo)
		}
	}
}

func (k *Keeper) setHop(id peer.ID, to hopSupport) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, ok := k.candidates[id]
	if !ok {
		return
	}
	c.hopUntil = time.Time{} // the peer's own word stands until it says otherwise
	c.relayed = c.relayed || to == hopYes
	if c.hop != to {
		c.hop = to
		k.tellLocked()
	}
}

// noHop tells whether a request for a reservation failed because the peer is no
// relay. One that is overloaded, or just starting, cuts a stream off in the same
// way, while it goes on saying that it relays.
func (k *Keeper) noHop(id peer.ID, err error) bool {
	return unsupported(err) && !k.says(id, proto.ProtoIDv2Hop)
}

// says tells whether the peer speaks a protocol by its own word (identify).
func (k *Keeper) says(id peer.ID, p protocol.ID) bool {
	known, err := k.Host.Peerstore().SupportsProtocols(id, p)
	return err == nil && len(known) > 0
}

func (k *Keeper) hopOf(id peer.ID) hopSupport {
	k.mu.Lock()
	defer k.mu.Unlock()
	if c, ok := k.candidates[id]; ok {
		return c.hop
	}
	return hopUnknown
}

// closed is closed when the connection is.
func (k *Keeper) closed(conn network.Conn) <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	ch, ok := k.closing[conn]
	if !ok {
		ch = make(chan struct{})
		k.closing[conn] = ch
	}
	if conn.IsClosed() {
		k.closedLocked(conn)
	}
	return ch
}

func (k *Keeper) disconnected(_ network.Network, conn network.Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closedLocked(conn)
}

func (k *Keeper) closedLocked(conn network.Conn) {
	if ch, ok := k.closing[conn]; ok {
		close(ch)
		delete(k.closing, conn)
	}
}
