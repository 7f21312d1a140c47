package node

import (
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/wire"
)

// portMapping is the library's, which asks a home router for ports (UPnP), and
// tells what it was given: who has such a port is reachable by it from anywhere.
type portMapping struct {
	basichost.NATManager
	rec *recorder

	mu   sync.Mutex // guards the field below
	told map[string]bool
}

// newPortMapping is for libp2p.NATManager.
func newPortMapping(rec *recorder) func(network.Network) basichost.NATManager {
	return func(n network.Network) basichost.NATManager {
		return &portMapping{NATManager: basichost.NewNATManager(n), rec: rec, told: map[string]bool{}}
	}
}

// GetMapping is asked for every listen address, again and again.
func (p *portMapping) GetMapping(listen ma.Multiaddr) ma.Multiaddr {
	outside := p.NATManager.GetMapping(listen)
	if outside != nil && p.isNews(outside.String()) {
		p.rec.Record(wire.Event{Kind: wire.PortMapped, Addr: outside.String()})
	}
	return outside
}

func (p *portMapping) isNews(addr string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.told[addr]
	p.told[addr] = true
	return !known
}
