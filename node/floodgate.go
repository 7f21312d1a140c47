package node

import (
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	libp2prate "github.com/libp2p/go-libp2p/x/rate"
	manet "github.com/multiformats/go-multiaddr/net"
	"golang.org/x/time/rate"
)

// Each request to a relay costs it a signature, and a line in its events. A
// donor asks once in ten minutes, and a submitter once for each donor it talks
// to: these rates leave both alone. Per address, they are those of new
// connections, since a campus that lost its relay comes back all at once.
const (
	hopRate        = 8 // requests a second from one peer, after the burst
	hopRatePerIP   = relayConnRate
	hopBurstPerIP  = relayConnBurst
	turnAwayWithin = 5 * time.Second // for the answer to somebody who floods
)

// floodGate turns away peers and addresses that ask too often.
type floodGate struct {
	addresses *libp2prate.Limiter
	burst     int // of one peer

	mu    sync.Mutex // guards the field below
	peers map[peer.ID]*rate.Limiter
}

// newFloodGate lets a peer ask for all its circuits twice over, in one burst.
func newFloodGate(circuitsPerPeer int) *floodGate {
	return &floodGate{
		addresses: connRates(libp2prate.Limit{RPS: hopRatePerIP, Burst: hopBurstPerIP}),
		burst:     2 * circuitsPerPeer,
		peers:     map[peer.ID]*rate.Limiter{},
	}
}

// admits tells whether the far end of c may ask once more.
func (g *floodGate) admits(c network.Conn, now time.Time) bool {
	g.mu.Lock()
	limit, known := g.peers[c.RemotePeer()]
	if !known {
		limit = rate.NewLimiter(hopRate, g.burst)
		if !c.IsClosed() { // else forget has passed
			g.peers[c.RemotePeer()] = limit
		}
	}
	g.mu.Unlock()
	if !limit.AllowN(now, 1) {
		return false
	}
	ip, err := manet.ToIP(c.RemoteMultiaddr())
	if err != nil {
		return true // a circuit: the relay refuses it
	}
	addr, _ := netip.AddrFromSlice(ip)
	return g.addresses.Allow(addr.Unmap())
}

// forget drops a peer whose last connection has ended. How often it may come
// back, the resource manager decides.
func (g *floodGate) forget(p peer.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.peers, p)
}

// refusedRate is the reason that requests are counted under which were turned
// away unread.
const refusedRate = "rate"

// turnAwayHop answers a request unread.
func turnAwayHop(s network.Stream) {
	answer := &pb.HopMessage{
		Type:   pb.HopMessage_STATUS.Enum(),
		Status: pb.Status_RESOURCE_LIMIT_EXCEEDED.Enum(),
	}
	err := s.SetDeadline(time.Now().Add(turnAwayWithin))
	if err == nil {
		err = util.NewDelimitedWriter(s).WriteMsg(answer)
	}
	if err != nil {
		s.Reset()
		return
	}
	s.Close()
}
