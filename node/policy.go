package node

import (
	"fmt"

	"github.com/libp2p/go-libp2p/core/peer"
)

// allowAny in Config.Allow lets everybody submit.
const allowAny = "any"

// policy says who may submit jobs: a donor runs code for strangers only when
// its owner has said for which. The zero policy lets nobody.
type policy struct {
	any   bool
	peers map[peer.ID]bool
}

func newPolicy(allow []string) (policy, error) {
	p := policy{peers: map[peer.ID]bool{}}
	for _, s := range allow {
		if s == allowAny {
			p.any = true
			continue
		}
		id, err := peer.Decode(s)
		if err != nil {
			return policy{}, fmt.Errorf("allow %q: neither a peer ID nor %q", s, allowAny)
		}
		p.peers[id] = true
	}
	return p, nil
}

// refuse is the reason why a peer may not submit; nil when it may.
func (p policy) refuse(id peer.ID) error {
	if p.any || p.peers[id] {
		return nil
	}
	return fmt.Errorf("refused by this donor's policy: peer %s is not in its allow-list (node run --allow)", id)
}
