package traversal

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	protobuf "google.golang.org/protobuf/proto"

	"github.com/worldcompute/wce2e/node/netcheck"
)

// voucher is a reservation voucher signed by key.
func voucher(t testing.TB, key crypto.PrivKey, relay, donor peer.ID) []byte {
	t.Helper()
	env, err := record.Seal(&proto.ReservationVoucher{Relay: relay, Peer: donor, Expiration: time.Now().Add(time.Hour)}, key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := env.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// answering makes h answer every RESERVE with the message that make gives.
func answering(h host.Host, make func(donor peer.ID) *pb.HopMessage) {
	h.SetStreamHandler(proto.ProtoIDv2Hop, func(s network.Stream) {
		defer s.Close()
		in := util.NewDelimitedReader(s, maxHopMessage)
		defer in.Close()
		var ask pb.HopMessage
		if err := in.ReadMsg(&ask); err != nil || ask.GetType() != pb.HopMessage_RESERVE {
			_ = s.Reset()
			return
		}
		if answer := make(s.Conn().RemotePeer()); answer != nil {
			_ = util.NewDelimitedWriter(s).WriteMsg(answer)
		}
	})
}

// granted is a relay's word that it grants a reservation.
func granted(left time.Duration) *pb.HopMessage {
	return &pb.HopMessage{Type: pb.HopMessage_STATUS.Enum(), Status: pb.Status_OK.Enum(),
		Reservation: &pb.Reservation{Expire: protobuf.Uint64(uint64(time.Now().Add(left).Unix()))}}
}

func TestRelaysAnswersAreChecked(t *testing.T) {
	t.Parallel()
	server, donor := newHost(t, loopback), newHost(t)
	key := server.Peerstore().PrivKey(server.ID())
	grant := func(voucher []byte, left time.Duration) *pb.HopMessage {
		return &pb.HopMessage{Type: pb.HopMessage_STATUS.Enum(), Status: pb.Status_OK.Enum(),
			Reservation: &pb.Reservation{Expire: protobuf.Uint64(uint64(time.Now().Add(left).Unix())), Voucher: voucher},
			Limit:       &pb.Limit{Duration: protobuf.Uint32(120), Data: protobuf.Uint64(1 << 17)}}
	}
	for name, c := range map[string]struct {
		answer func(donor peer.ID) *pb.HopMessage
		ttl    time.Duration // of what is granted; 0: nothing is
		err    string
		fails  netcheck.Failure
	}{
		"a reservation":                 {func(d peer.ID) *pb.HopMessage { return grant(voucher(t, key, server.ID(), d), time.Hour) }, time.Hour, "", ""},
		"one without a voucher":         {func(peer.ID) *pb.HopMessage { return grant(nil, time.Hour) }, time.Hour, "", ""},
		"one by a clock that is behind": {func(peer.ID) *pb.HopMessage { return grant(nil, -time.Hour) }, assumedTTL, "", ""},
		"one by a clock that is ahead":  {func(peer.ID) *pb.HopMessage { return grant(nil, 1000*time.Hour) }, assumedTTL, "", ""},
		"somebody else's voucher":       {func(peer.ID) *pb.HopMessage { return grant(voucher(t, key, server.ID(), server.ID()), time.Hour) }, 0, "not for us", netcheck.ReservationMalformed},
		"a voucher signed by us": {func(d peer.ID) *pb.HopMessage {
			return grant(voucher(t, donor.Peerstore().PrivKey(d), server.ID(), d), time.Hour)
		}, 0, "signed by", netcheck.ReservationMalformed},
		"a voucher of another relay": {func(d peer.ID) *pb.HopMessage {
			return grant(voucher(t, donor.Peerstore().PrivKey(d), d, d), time.Hour)
		}, 0, "signed by", netcheck.ReservationMalformed},
		"a voucher that is nonsense":     {func(peer.ID) *pb.HopMessage { return grant([]byte("cat"), time.Hour) }, 0, "voucher", netcheck.ReservationMalformed},
		"a status without a reservation": {func(peer.ID) *pb.HopMessage { m := grant(nil, 0); m.Reservation = nil; return m }, 0, "no reservation", netcheck.ReservationMalformed},
		"another kind of message":        {func(peer.ID) *pb.HopMessage { return &pb.HopMessage{Type: pb.HopMessage_CONNECT.Enum()} }, 0, "no status", netcheck.ReservationMalformed},
		"a refusal": {func(peer.ID) *pb.HopMessage {
			return &pb.HopMessage{Type: pb.HopMessage_STATUS.Enum(), Status: pb.Status_PERMISSION_DENIED.Enum()}
		}, 0, "PERMISSION_DENIED", netcheck.ReservationDenied},
		"an end without an answer": {func(peer.ID) *pb.HopMessage { return nil }, 0, "EOF", netcheck.EOF},
	} {
		answering(server, c.answer)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		conn := connected(t, ctx, donor, server)
		r, err := reserve(ctx, conn)
		cancel()
		if c.err == "" {
			if err != nil || (r.TTL-c.ttl).Abs() > 2*time.Second || r.Limit != 2*time.Minute || r.Data != 1<<17 {
				t.Errorf("%s: %+v, %v", name, r, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.err) || netcheck.Classify(err) != c.fails {
			t.Errorf("%s: %v (%s)", name, err, netcheck.Classify(err))
		}
	}
}

func TestExpiryThatCannotBeWrittenDownIsReplaced(t *testing.T) {
	t.Parallel()
	for name, expire := range map[string]uint64{
		"milliseconds":       uint64(time.Now().Add(time.Hour).UnixMilli()),
		"the year 10000":     latestExpire + 1,
		"no number of ours":  1 << 63,
		"the largest number": 1<<64 - 1,
	} {
		r, err := readGrant(&pb.HopMessage{Type: pb.HopMessage_STATUS.Enum(), Status: pb.Status_OK.Enum(),
			Reservation: &pb.Reservation{Expire: &expire}}, fixedEnds{"relay"})
		if err != nil || r.TTL != assumedTTL || (time.Until(r.Expires)-assumedTTL).Abs() > 2*time.Second {
			t.Errorf("%s: %s, %v", name, r.Expires, err)
		}
	}
	wrong := uint64(time.Now().Add(-48 * time.Hour).Unix())
	r, err := readGrant(&pb.HopMessage{Type: pb.HopMessage_STATUS.Enum(), Status: pb.Status_OK.Enum(),
		Reservation: &pb.Reservation{Expire: &wrong}}, fixedEnds{"relay"})
	if err != nil || r.TTL != assumedTTL || r.Expires.Unix() != int64(wrong) {
		t.Errorf("an expiry by a wrong clock, as the voucher has it: %s, %v", r.Expires, err)
	}
}

func connected(t *testing.T, ctx context.Context, from, to host.Host) network.Conn {
	t.Helper()
	if err := from.Connect(ctx, peer.AddrInfo{ID: to.ID(), Addrs: to.Addrs()}); err != nil {
		t.Fatal(err)
	}
	return from.Network().ConnsToPeer(to.ID())[0]
}

func TestPeerThatIsNoRelaySaysSo(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := reserve(ctx, connected(t, ctx, newHost(t), newHost(t, loopback)))
	if !unsupported(err) || refused(err) {
		t.Errorf("%v", err)
	}
}

func TestRelayThatDoesNotAnswerIsNotWaitedForForEver(t *testing.T) {
	t.Parallel()
	server := newHost(t, loopback)
	server.SetStreamHandler(proto.ProtoIDv2Hop, func(network.Stream) {})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	conn := connected(t, ctx, newHost(t), server)
	ctx, cancel = context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := reserve(ctx, conn)
	if took := time.Since(began); err == nil || took > time.Second || netcheck.Classify(err) != netcheck.Timeout {
		t.Errorf("after %s: %v (%s)", took, err, netcheck.Classify(err))
	}
}

// What a relay sends is foreign: it may be refused, it must not break us.
func FuzzGrant(f *testing.F) {
	key, pub, err := crypto.GenerateEd25519Key(nil)
	if err != nil {
		f.Fatal(err)
	}
	relay, err := peer.IDFromPublicKey(pub)
	if err != nil {
		f.Fatal(err)
	}
	for _, m := range []*pb.HopMessage{
		{Type: pb.HopMessage_STATUS.Enum(), Status: pb.Status_OK.Enum(), Reservation: &pb.Reservation{
			Expire: protobuf.Uint64(1 << 40), Voucher: voucher(f, key, relay, relay), Addrs: [][]byte{{4, 11, 0, 0, 1, 6, 1, 187}}}},
		{Type: pb.HopMessage_STATUS.Enum(), Status: pb.Status_NO_RESERVATION.Enum()},
	} {
		b, err := protobuf.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m pb.HopMessage
		if protobuf.Unmarshal(b, &m) != nil {
			return
		}
		r, err := readGrant(&m, fixedEnds{relay})
		if err == nil && (r.TTL < shortestTTL || r.TTL > longestTTL) {
			t.Errorf("a lifetime of %s was believed", r.TTL)
		}
		if _, err := r.Expires.MarshalJSON(); err != nil {
			t.Errorf("it expires at a time that cannot be written down: %v", err)
		}
	})
}

// fixedEnds is a connection of a peer with itself.
type fixedEnds struct{ id peer.ID }

func (c fixedEnds) RemotePeer() peer.ID { return c.id }
func (c fixedEnds) LocalPeer() peer.ID  { return c.id }
