package probe

import (
	"testing"

	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/traversal/proxy"
)

// Hosts whose ways stood in different orders look further into the same ones.
func TestTheFirstOfTheListIsLookedIntoWhicheverWasQuickest(t *testing.T) {
	at := func(target int, addr string) way {
		return way{target: target, lead: lead{addr: ma.StringCast(addr)}, transport: "tcp", security: noise.ID}
	}
	first := at(1, "/ip4/11.0.0.1/tcp/4001")
	narrow, proxied, byTLS := first, first, first
	narrow.segment, proxied.by, byTLS.security = smallSegment, &proxy.Proxy{URL: "http://proxy:3128"}, libp2ptls.ID
	others := []way{narrow, proxied, byTLS, at(0, "/ip6/2a00::1/tcp/4001"), at(1, "/ip4/11.0.0.2/tcp/4001"), at(2, "/ip4/10.0.0.1/tcp/4001")}
	for i, other := range others {
		for _, order := range [][]way{{first, other}, {other, first}} {
			p := &prober{recorder: &recorder{}, stood: map[string]way{}}
			for _, w := range order {
				p.stands(t.Context(), w)
			}
			if got := p.stood["tcp"]; got.lead.String() != first.lead.String() || got.segment != 0 || got.by != nil || got.security != noise.ID {
				t.Errorf("beside way %d, %+v is looked into", i, got)
			}
		}
	}
}
