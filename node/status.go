package node

import (
	"os"
	"sort"

	"github.com/worldcompute/wce2e/node/wire"
)

// status is the node as it is now.
func (n *node) status() wire.Status {
	role := "donor"
	if n.cfg.Relay {
		role = "relay"
	}
	return wire.Status{
		PeerID:       n.host.ID().String(),
		Name:         n.cfg.Name,
		Version:      n.cfg.Version,
		Boot:         n.rec.boot,
		PID:          os.Getpid(),
		StartedAt:    n.started,
		Role:         role,
		ListenAddrs:  strs(n.addrs.interfaces()),
		Addrs:        strs(n.addrs.withSelf(n.host.Addrs())),
		CircuitAddrs: strs(n.addrs.withSelf(n.keeper.CircuitAddrs())),
		Observed:     n.self.observations(),
		Reachability: n.self.reachability(),
		NAT:          n.self.nat(),
		Bootstrap:    n.cfg.bootstrap(),
		Portal:       n.around.portalSeen(),
		Way:          n.keeper.Way(),
		Tried:        n.rec.tried.list(),
		Relays:       orEmpty(n.keeper.Relays()),
		Peers:        n.peers(),
		Reservations: n.relay.held(),
		Serving:      n.relay.serving(),
		Jobs:         n.jobs.jobCounts(),
		Dials:        n.rec.dialCounts(),
	}
}

// peers are the open connections, oldest first.
func (n *node) peers() []wire.PeerStatus {
	out := []wire.PeerStatus{}
	for _, c := range n.host.Network().Conns() {
		out = append(out, wire.PeerStatus{
			PeerID:    c.RemotePeer().String(),
			Conn:      connID(c),
			Path:      pathOf(c),
			Direction: direction(c),
			Local:     c.LocalMultiaddr().String(),
			Remote:    c.RemoteMultiaddr().String(),
			Transport: transportOf(c.RemoteMultiaddr()),
			Since:     c.Stat().Opened.UTC(),
		})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Since.Before(out[j].Since) })
	return out
}

// orEmpty makes null an empty list in JSON.
func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
