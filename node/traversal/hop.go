package traversal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// reserveTimeout bounds one RESERVE: a round trip, and a relay that is busy.
	reserveTimeout = 10 * time.Second
	// maxHopMessage is the library's bound, on both sides.
	maxHopMessage = 4096
)

// reservation is what a relay granted.
type reservation struct {
	Expires time.Time      // by the relay's clock; by ours when beyond latestExpire
	granted time.Time      // by ours
	TTL     time.Duration  // from granted
	Addrs   []ma.Multiaddr // of the relay, as it says
	Voucher []byte         // the signed envelope; nil when the relay gave none
	Limit   time.Duration  // of one circuit; 0 means none
	Data    uint64         // bytes of one circuit, each way; 0 means none
}

// limited tells whether the relay cuts circuits after some time or some bytes.
func (r reservation) limited() bool { return r.Limit > 0 || r.Data > 0 }

// reserve asks the relay at the far end of conn for a reservation, over that
// connection and no other. The library's client.Reserve asks over whichever
// connection it finds, and throws the signed voucher away.
//
// A refusal is a *client.ReservationError, so that it is classified like the
// library's own. Spec: libp2p/specs relay/circuit-v2.md.
func reserve(ctx context.Context, conn network.Conn) (reservation, error) {
	ctx, cancel := context.WithTimeout(ctx, reserveTimeout)
	defer cancel()
	s, err := openStream(ctx, conn, proto.ProtoIDv2Hop)
	if err != nil {
		return reservation{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	answer, err := exchange(s)
	if err != nil {
		_ = s.Reset()
		return reservation{}, fmt.Errorf("ask %s for a reservation: %w", conn.RemotePeer(), ctxCause(ctx, err))
	}
	_ = s.Close()
	granted, err := readGrant(answer, conn)
	if err != nil {
		return reservation{}, fmt.Errorf("reservation on %s: %w", conn.RemotePeer(), err)
	}
	return granted, nil
}

// ReserveOver asks for a reservation on a stream on which the hop protocol has been
// agreed, and tells when it ends. A refusal is a *client.ReservationError.
func ReserveOver(s io.ReadWriter, self, relay peer.ID) (time.Time, error) {
	answer, err := exchange(s)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask %s for a reservation: %w", relay, err)
	}
	granted, err := readGrant(answer, pair{self, relay})
	if err != nil {
		return time.Time{}, fmt.Errorf("reservation on %s: %w", relay, err)
	}
	return granted.Expires, nil
}

// pair are two peers as the ends of a connection.
type pair struct{ self, other peer.ID }

func (p pair) LocalPeer() peer.ID  { return p.self }
func (p pair) RemotePeer() peer.ID { return p.other }

// exchange sends RESERVE and reads the relay's answer.
func exchange(s io.ReadWriter) (*pb.HopMessage, error) {
	ask := pb.HopMessage{Type: pb.HopMessage_RESERVE.Enum()}
	if err := util.NewDelimitedWriter(s).WriteMsg(&ask); err != nil {
		return nil, err
	}
	in := util.NewDelimitedReader(s, maxHopMessage)
	defer in.Close()
	var answer pb.HopMessage
	if err := in.ReadMsg(&answer); err != nil {
		return nil, err
	}
	return &answer, nil
}

// ends is who speaks with whom on a connection.
type ends interface {
	LocalPeer() peer.ID
	RemotePeer() peer.ID
}

// readGrant makes a reservation of the relay's answer, or the reason why not.
func readGrant(answer *pb.HopMessage, conn ends) (reservation, error) {
	if answer.GetType() != pb.HopMessage_STATUS {
		return reservation{}, malformed("the answer is no status message")
	}
	if status := answer.GetStatus(); status != pb.Status_OK {
		return reservation{}, &client.ReservationError{Status: status, Reason: "the relay refused"}
	}
	grant := answer.GetReservation()
	if grant == nil {
		return reservation{}, malformed("the answer has no reservation in it")
	}
	if err := checkVoucher(grant.GetVoucher(), conn.RemotePeer(), conn.LocalPeer()); err != nil {
		return reservation{}, malformed(err.Error())
	}
	r := reservation{
		Expires: time.Unix(int64(grant.GetExpire()), 0).UTC(),
		granted: time.Now(),
		Voucher: grant.GetVoucher(),
		Limit:   time.Duration(answer.GetLimit().GetDuration()) * time.Second,
		Data:    answer.GetLimit().GetData(),
	}
	r.TTL = lifetime(time.Until(r.Expires))
	if grant.GetExpire() > latestExpire {
		r.Expires = r.granted.Add(r.TTL).Truncate(time.Second).UTC()
	}
	for _, b := range grant.GetAddrs() {
		if a, err := ma.NewMultiaddrBytes(b); err == nil {
			r.Addrs = append(r.Addrs, a)
		}
	}
	return r, nil
}

func malformed(why string) error {
	return &client.ReservationError{Status: pb.Status_MALFORMED_MESSAGE, Reason: why}
}

// Bounds on what we believe of a lifetime: relays give an hour. Where it is
// outside of them, a clock is wrong, the relay's or ours, and the library would
// refuse the reservation; a donor with a wrong clock is still a donor.
const (
	shortestTTL = 30 * time.Second
	longestTTL  = 24 * time.Hour
	assumedTTL  = 20 * time.Minute
)

// latestExpire is the last second that RFC 3339, and so JSON, can write: the end
// of the year 9999. Relays that count milliseconds are far beyond. What is merely
// wrong is kept, since the voucher and the relay's own records say the same.
const latestExpire = 253402300799

func lifetime(left time.Duration) time.Duration {
	if left < shortestTTL || left > longestTTL {
		return assumedTTL
	}
	return left
}

// checkVoucher verifies the relay's signature under the reservation. No voucher
// is no error: the spec leaves it to the relay.
func checkVoucher(envelope []byte, relay, self peer.ID) error {
	if len(envelope) == 0 {
		return nil
	}
	env, rec, err := record.ConsumeEnvelope(envelope, proto.RecordDomain)
	if err != nil {
		return fmt.Errorf("voucher: %w", err)
	}
	voucher, ok := rec.(*proto.ReservationVoucher)
	if !ok {
		return fmt.Errorf("voucher: is a %T", rec)
	}
	signer, err := peer.IDFromPublicKey(env.PublicKey)
	switch {
	case err != nil:
		return fmt.Errorf("voucher: key of the signer: %w", err)
	case signer != voucher.Relay || signer != relay:
		return fmt.Errorf("voucher: signed by %s for relay %s, not by %s", signer, voucher.Relay, relay)
	case voucher.Peer != self:
		return fmt.Errorf("voucher: is for %s, not for us", voucher.Peer)
	}
	return nil
}

// refusalPause is the shortest wait before a relay is asked again that said no
// itself; 0 when it did not. Who is not welcome, or is not understood, will be
// neither in a minute.
func refusalPause(err error) time.Duration {
	var re *client.ReservationError
	if !errors.As(err, &re) {
		return 0
	}
	switch re.Status {
	case pb.Status_PERMISSION_DENIED, pb.Status_MALFORMED_MESSAGE, pb.Status_UNEXPECTED_MESSAGE:
		return idleBackoff
	}
	return refusedBackoff
}

// refused tells whether the relay itself said no, as opposed to the network.
func refused(err error) bool {
	var re *client.ReservationError
	return errors.As(err, &re)
}
