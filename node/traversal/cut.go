package traversal

import (
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
)

// Some firewalls let a handshake through, look at what follows, and cut the flow.
// Such a transport wins every race and never brings a reservation, so the others
// have to be given a turn without it.

const (
	// cutAge is up to which age the end of a connection on which the peer never said
	// what it speaks is taken for such a cut.
	cutAge = 5 * time.Second
	// cutMemory is how long a transport is left out for it.
	cutMemory = 10 * time.Minute
)

// cut is which transports to a peer were cut, and when the last one was.
type cut struct {
	transports []string
	last       time.Time
}

// learnCut looks at the end of a connection that lived for so long.
func (c *candidate) learnCut(conn network.Conn, lived time.Duration) {
	transport := TransportName(conn.RemoteMultiaddr())
	if lived > cutAge || !conn.IsClosed() || c.keeper.hopOf(c.id) != hopUnknown || slices.Contains(c.cut.transports, transport) {
		return
	}
	c.cut = cut{append(c.cut.transports, transport), time.Now()}
	c.keeper.log().Info("a connection was cut after its handshake", "relay", c.id.String(), "transport", transport)
}

// among are the addresses to leave out: none when they are all there are, since
// then something else is the reason.
func (c *cut) among(addrs []ma.Multiaddr) []ma.Multiaddr {
	if time.Since(c.last) > cutMemory {
		*c = cut{}
	}
	out := slices.DeleteFunc(slices.Clone(addrs), func(a ma.Multiaddr) bool { return !slices.Contains(c.transports, TransportName(a)) })
	if len(out) == len(addrs) {
		*c = cut{}
		return nil
	}
	return out
}
