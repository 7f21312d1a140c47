package probe

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"net"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	webtransport "github.com/libp2p/go-libp2p/p2p/transport/webtransport"
	"github.com/quic-go/quic-go"

	"github.com/worldcompute/wce2e/node/netcheck"
)

// quicIdle is how long a standing QUIC connection may be silent; silences that are
// probed are shorter, since the other end's own limit is 30 s in libp2p.
const quicIdle = 30 * time.Second

// reachQUIC shakes hands by QUIC: libp2p's TLS is in it, and the muxer.
func (p *prober) reachQUIC(ctx context.Context, t *transaction, w way) (s *session, failed netcheck.Operation, err error) {
	t.shared.Proto = "quic-v1"
	err = p.watched(ctx, t, w, netcheck.QUIC, p.layer, func(ctx context.Context, r *netcheck.Record) (err error) {
		s, err = p.dialQUIC(ctx, t, w, r)
		return err
	})
	return s, netcheck.QUIC, err
}

func (p *prober) dialQUIC(ctx context.Context, t *transaction, w way, r *netcheck.Record) (*session, error) {
	to, err := net.ResolveUDPAddr("udp", hostport(w.lead.addr))
	if err != nil {
		return nil, err
	}
	if err := hasRoute(to.String()); err != nil {
		return nil, err
	}
	socket, err := newCountedUDP(udpOf(to), nil)
	if err != nil {
		return nil, err
	}
	t.traffic = socket.traffic
	over := &quic.Transport{Conn: socket}
	hangUp := func() { _ = over.Close(); _ = socket.Close() } // nothing is lost
	config, keys := p.identity.ConfigForPeer(w.lead.peer)
	deadline, _ := ctx.Deadline()
	conn, err := over.Dial(ctx, to, config, &quic.Config{
		Versions: []quic.Version{quic.Version1}, HandshakeIdleTimeout: time.Until(deadline), MaxIdleTimeout: quicIdle,
	})
	if err != nil {
		hangUp()
		if wrong := new(sec.ErrPeerIDMismatch); errors.As(err, wrong) {
			r.Facts.Peer = wrong.Actual.String()
		}
		return nil, late(ctx, err)
	}
	key := <-keys // the handshake has verified it
	who, err := peer.IDFromPublicKey(key)
	if err != nil {
		hangUp()
		return nil, err
	}
	r.Facts.Peer = who.String()
	return newSession(p, w, quicMux{conn, hangUp}, who, nil), nil
}

// late gives a handshake that ran out of our time the name it has when it runs out
// of its own.
func late(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) && errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w (%v)", &quic.IdleTimeoutError{}, err)
	}
	return err
}

func udpOf(to *net.UDPAddr) string {
	if to.IP.To4() != nil {
		return "udp4"
	}
	return "udp6"
}

// quicMux has streams of QUIC itself.
type quicMux struct {
	conn   *quic.Conn
	hangUp func()
}

func (m quicMux) open(ctx context.Context) (stream, error) {
	s, err := m.conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	return quicStream{s}, nil
}

func (m quicMux) accept() (stream, error) {
	s, err := m.conn.AcceptStream(context.Background()) // ends with the connection
	if err != nil {
		return nil, err
	}
	return quicStream{s}, nil
}

func (m quicMux) close() {
	_ = m.conn.CloseWithError(0, "")
	m.hangUp()
}

// quicStream speaks of a reset as libp2p does.
type quicStream struct{ *quic.Stream }

func (s quicStream) CloseWrite() error { return s.Stream.Close() }

func (s quicStream) Reset() error {
	s.CancelRead(0)
	s.CancelWrite(0)
	return nil
}

func (s quicStream) Read(b []byte) (int, error) {
	n, err := s.Stream.Read(b)
	return n, ofStream(err)
}

func (s quicStream) Write(b []byte) (int, error) {
	n, err := s.Stream.Write(b)
	return n, ofStream(err)
}

func ofStream(err error) error {
	if e := new(quic.StreamError); errors.As(err, &e) {
		return &network.StreamError{ErrorCode: network.StreamErrorCode(min(e.ErrorCode, math.MaxUint32)), Remote: e.Remote, TransportError: err}
	}
	return err
}

// reachWebTransport dials by the library's transport as a whole: it has no seams.
func (p *prober) reachWebTransport(ctx context.Context, t *transaction, w way) (s *session, failed netcheck.Operation, err error) {
	t.shared.Proto = "webtransport"
	err = p.watched(ctx, t, w, netcheck.QUIC, p.layer, func(ctx context.Context, r *netcheck.Record) (err error) {
		s, err = p.dialWebTransport(ctx, t, w)
		if err == nil {
			r.Facts.Peer = s.peer.String()
		}
		return late(ctx, err)
	})
	return s, netcheck.QUIC, err
}

func (p *prober) dialWebTransport(ctx context.Context, t *transaction, w way) (*session, error) {
	if err := hasRoute(hostport(w.lead.addr)); err != nil {
		return nil, err
	}
	var keys [2][32]byte
	rand.Read(keys[0][:]) // never fails
	rand.Read(keys[1][:])
	sockets, err := quicreuse.NewConnManager(quic.StatelessResetKey(keys[0]), quic.TokenGeneratorKey(keys[1]), quicreuse.DisableReuseport(),
		quicreuse.OverrideListenUDP(func(network string, local *net.UDPAddr) (net.PacketConn, error) {
			c, err := newCountedUDP(network, local)
			if err == nil {
				t.traffic = c.traffic
			}
			return c, err
		}))
	if err != nil {
		return nil, err
	}
	wt, err := webtransport.New(p.key, nil, sockets, nil, nil)
	if err != nil {
		return nil, errors.Join(err, sockets.Close())
	}
	conn, err := wt.Dial(ctx, w.lead.addr, w.lead.peer)
	if err != nil {
		return nil, errors.Join(err, sockets.Close())
	}
	return newSession(p, w, muxed{conn, func() { _ = conn.Close(); _ = sockets.Close() }}, conn.RemotePeer(), nil), nil
}
