package discovery

import (
	"bytes"
	"context"
	"math/rand/v2"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// provideFor is how long a provider is named that does not come back: three
	// times what a relay may miss.
	provideFor = 3 * time.Hour
	// provideSample is how many providers are named at once, by lot, so that an
	// answer keeps small and the donors spread over the relays.
	provideSample = 16
)

// providers is what a server of the DHT keeps for others: who relays in this
// mesh, and nothing else. The library's own store takes any key from anybody,
// without end.
type providers struct {
	key   []byte
	self  peer.ID
	rules policy
	known *table
	us    func() (peer.AddrInfo, bool) // where we relay, if we do
}

// AddProvider notes that a peer relays. The DHT has seen to it that the peer
// itself says so.
func (p *providers) AddProvider(_ context.Context, key []byte, info peer.AddrInfo) error {
	if !bytes.Equal(key, p.key) || info.ID == p.self {
		return nil
	}
	p.known.learn(known{AddrInfo: p.rules.of(info), source: DHT, teller: info.ID, heard: time.Now()})
	return nil
}

// GetProviders draws some of the relays.
func (p *providers) GetProviders(_ context.Context, key []byte) ([]peer.AddrInfo, error) {
	if !bytes.Equal(key, p.key) {
		return nil, nil
	}
	var out []peer.AddrInfo
	if us, ok := p.us(); ok {
		out = append(out, us)
	}
	all := p.known.best()
	for _, i := range rand.Perm(len(all)) {
		if len(out) == provideSample {
			break
		}
		if time.Since(all[i].heard) < provideFor {
			out = append(out, all[i].AddrInfo)
		}
	}
	return out, nil
}

// Close has nothing to let go of.
func (p *providers) Close() error { return nil }
