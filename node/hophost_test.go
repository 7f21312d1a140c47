package node

import (
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
)

// A donor whose router has forgotten its flows comes back by a new connection, and
// the relay does not know yet that the old one is dead.
func TestACircuitGoesByTheConnectionThatReservedLast(t *testing.T) {
	relayHost, donor := plainHost(t, libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0")), plainHost(t, libp2p.NoListenAddrs)
	info := peer.AddrInfo{ID: relayHost.ID(), Addrs: relayHost.Addrs()}
	if err := donor.Connect(short(t), info); err != nil {
		t.Fatal(err)
	}
	// A second one, past the swarm, which is content with the first.
	again, err := donor.Network().(*swarm.Swarm).TransportForDialing(info.Addrs[0]).Dial(short(t), info.Addrs[0], info.ID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Close() })
	conns := func() []network.Conn { return relayHost.Network().ConnsToPeer(donor.ID()) }
	await(t, "two connections", func() bool { return len(conns()) == 2 })

	watch := newHopWatch(newRecorder(io.Discard, discard()), volunteerLimits())
	h := hopHost{relayHost, watch}
	granted := uint64(time.Now().Add(time.Hour).Unix())
	for _, last := range append(conns(), conns()...) {
		watch.reserved(last, &pb.HopMessage{Status: pb.Status_OK.Enum(), Reservation: &pb.Reservation{Expire: &granted}})
		s, err := h.NewStream(short(t), donor.ID(), proto.ProtoIDv2Stop)
		if err != nil {
			t.Fatal(err)
		}
		if s.Conn() != last {
			t.Errorf("the stream goes by %s, and the reservation was made on %s", s.Conn().ID(), last.ID())
		}
		_ = s.Reset()
	}
}

func plainHost(t *testing.T, opts ...libp2p.Option) host.Host {
	t.Helper()
	h, err := libp2p.New(append(opts, libp2p.DisableMetrics())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}
