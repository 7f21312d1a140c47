package node

import (
	"context"
	"fmt"
	"sort"
	"sync"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/wire"
)

// The words for reachability.
const (
	reachPublic  = "public"
	reachPrivate = "private"
	reachUnknown = "unknown"
)

// selfImage is what the node learns about itself from others: the addresses it
// is seen at, and whether it can be dialled.
type selfImage struct {
	rec *recorder

	mu       sync.Mutex             // guards the fields below
	observed map[string]observation // by connection
	v1       network.Reachability   // AutoNAT: the node as a whole
	v2       event.EvtHostReachableAddrsChanged
	reach    string
}

// observation is our address as the far end of one connection sees it.
type observation struct {
	wire.Observation
	transport string
	sighting  sighting // not valid where the ends are no IP addresses
}

func newSelfImage(rec *recorder) *selfImage {
	return &selfImage{rec: rec, observed: map[string]observation{}, reach: reachUnknown}
}

// watch follows the library's events until ctx ends. addrsChanged is called
// when the addresses of interfaces may have changed.
func (s *selfImage) watch(ctx context.Context, h host.Host, addrsChanged func()) error {
	sub, err := h.EventBus().Subscribe([]any{
		new(event.EvtPeerIdentificationCompleted),
		new(event.EvtLocalReachabilityChanged),
		new(event.EvtHostReachableAddrsChanged),
		new(event.EvtLocalAddressesUpdated),
	}, eventbus.Name("node"), eventbus.BufSize(256))
	if err != nil {
		return fmt.Errorf("subscribe to libp2p's events: %w", err)
	}
	go func() {
		defer sub.Close()
		for {
			select {
			case <-ctx.Done():
				return
			case e := <-sub.Out():
				switch e := e.(type) {
				case event.EvtPeerIdentificationCompleted:
					s.observe(e.Conn, e.ObservedAddr)
				case event.EvtLocalReachabilityChanged:
					s.reachable(func() { s.v1 = e.Reachability })
				case event.EvtHostReachableAddrsChanged:
					s.reachable(func() { s.v2 = e })
				case event.EvtLocalAddressesUpdated:
					addrsChanged()
				}
			}
		}
	}()
	return nil
}

// observe notes our address as the far end of c sees it. Through a relay, it
// sees the relay.
func (s *selfImage) observe(c network.Conn, addr ma.Multiaddr) {
	if c == nil || addr == nil || has(addr, ma.P_CIRCUIT) || pathOf(c) == wire.Relayed {
		return
	}
	id := connID(c)
	seen := observation{Observation: wire.Observation{Addr: addr.String(), By: c.RemotePeer().String()}, transport: transportOf(c.RemoteMultiaddr())}
	seen.sighting, _ = sightingOf(c.LocalMultiaddr(), addr, c.RemoteMultiaddr())
	s.mu.Lock()
	known := s.observed[id] == seen
	closed := c.IsClosed() // then forget has passed, or will find nothing
	if !closed {
		s.observed[id] = seen
	}
	s.mu.Unlock()
	if !known && !closed {
		s.rec.Record(wire.Event{Kind: wire.ObservedAddr, Addr: seen.Addr, Peer: seen.By, Conn: id})
	}
}

// forget drops what was observed on a connection that has ended.
func (s *selfImage) forget(_ network.Network, c network.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.observed, connID(c))
}

// reachable takes a finding of AutoNAT in and records what follows.
func (s *selfImage) reachable(learn func()) {
	s.mu.Lock()
	learn()
	before := s.reach
	s.reach = s.judge()
	after := s.reach
	s.mu.Unlock()
	if after != before {
		s.rec.Record(wire.Event{Kind: wire.Reachability, Detail: after})
	}
}

// judge wants mu held. Version 2 of AutoNAT, which tests single addresses,
// outweighs version 1.
func (s *selfImage) judge() string {
	switch {
	case len(s.v2.Reachable) > 0:
		return reachPublic
	case len(s.v2.Unreachable) > 0:
		return reachPrivate
	case s.v1 == network.ReachabilityPublic:
		return reachPublic
	case s.v1 == network.ReachabilityPrivate:
		return reachPrivate
	}
	return reachUnknown
}

func (s *selfImage) reachability() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reach
}

// nat is the kind of NAT that we are behind. WebSocket connections leave from
// ports of their own, and tell nothing.
func (s *selfImage) nat() wire.NATStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	by := map[string][]sighting{}
	for _, o := range s.observed {
		if o.sighting.local.IsValid() {
			by[o.transport] = append(by[o.transport], o.sighting)
		}
	}
	return wire.NATStatus{UDP: mapping(by["quic-v1"]), TCP: mapping(by["tcp"])}
}

// observations are the addresses that peers see us at, in a stable order.
func (s *selfImage) observations() []wire.Observation {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]wire.Observation, 0, len(s.observed))
	for _, o := range s.observed {
		out = append(out, o.Observation)
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Addr != out[j].Addr {
			return out[i].Addr < out[j].Addr
		}
		return out[i].By < out[j].By
	})
	return out
}
