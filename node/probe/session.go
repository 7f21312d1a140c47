package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	idpb "github.com/libp2p/go-libp2p/p2p/protocol/identify/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multistream"

	"github.com/worldcompute/wce2e/node/netcheck"
	"github.com/worldcompute/wce2e/node/traversal"
)

// stream is one of a connection that has many.
type stream interface {
	io.ReadWriteCloser
	CloseWrite() error
	SetDeadline(time.Time) error
	Reset() error
}

// mux is such a connection.
type mux interface {
	open(context.Context) (stream, error)
	accept() (stream, error)
	close()
}

// muxed is libp2p's own.
type muxed struct {
	network.MuxedConn
	end func()
}

func (m muxed) open(ctx context.Context) (stream, error) { return m.OpenStream(ctx) }
func (m muxed) accept() (stream, error)                  { return m.AcceptStream() }

func (m muxed) close() { m.end() }

// session is a connection to a peer that has proved who it is.
type session struct {
	*prober
	way
	mux     mux
	peer    peer.ID
	leaf    []byte // as in climber
	first   stream // of identify; nil: none was opened yet
	traffic func() (sent, received int64)
}

// newSession refuses every stream that the peer opens: it offers nothing.
func newSession(p *prober, w way, m mux, who peer.ID, leaf []byte) *session {
	go func() {
		for {
			s, err := m.accept()
			if err != nil {
				return
			}
			_ = s.Reset() // the refusal
		}
	}()
	return &session{prober: p, way: w, mux: m, peer: who, leaf: leaf}
}

func (s *session) close() { s.mux.close() }

// open opens a stream and agrees on a protocol.
func (s *session) open(ctx context.Context, id protocol.ID) (stream, error) {
	str, err := s.mux.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("open a stream of %s: %w", id, err)
	}
	err = within(ctx, str, func() error { return multistream.SelectProtoOrFail(id, str) })
	if err != nil {
		_ = str.Reset() // the cause is returned
		return nil, fmt.Errorf("open a stream of %s: %w", id, err)
	}
	return str, nil
}

// talk asks what a donor asks a relay, and tells whether something failed.
func (s *session) talk(ctx context.Context, t *transaction) bool {
	var speaks []string
	t.shared.Proto = string(identify.ID)
	err := s.watched(ctx, t, s.way, netcheck.Identify, s.prober.layer, func(ctx context.Context, r *netcheck.Record) (err error) {
		speaks, err = s.identify(ctx, r)
		return err
	})
	if err != nil {
		return true
	}
	t.shared.Proto = string(proto.ProtoIDv2Hop)
	err = t.step(ctx, netcheck.Reserve, s.prober.layer, func(ctx context.Context, r *netcheck.Record) error { return s.reserve(ctx, r, speaks) })
	return err != nil && netcheck.Classify(err) != netcheck.NoProtocol
}

// maxIdentify bounds what a peer says of itself, in bytes: the library's own bound.
const maxIdentify = 8 << 10

// identify reads what the peer says of itself, and of us.
func (s *session) identify(ctx context.Context, r *netcheck.Record) ([]string, error) {
	str := s.first
	if s.first = nil; str == nil {
		var err error
		if str, err = s.open(ctx, identify.ID); err != nil {
			return nil, err
		}
	}
	defer func() { _ = str.Reset() }()
	var said idpb.Identify
	err := within(ctx, str, func() error {
		in := util.NewDelimitedReader(str, maxIdentify)
		defer in.Close()
		return in.ReadMsg(&said)
	})
	if err != nil {
		return nil, fmt.Errorf("read what %s says of itself: %w", s.peer, err)
	}
	r.Facts.Peer, r.Facts.Agent = s.peer.String(), scrub(said.GetAgentVersion())
	if a, err := ma.NewMultiaddrBytes(said.GetObservedAddr()); err == nil {
		r.Facts.Observed = a.String()
	}
	if s.leaf != nil && slices.Contains(said.Protocols, string(traversal.StatementProtocol)) {
		s.stated(ctx, r)
	}
	return said.Protocols, nil
}

// stated asks whether the certificate that was seen outside is the peer's own. Who
// does not answer has said nothing about it.
func (s *session) stated(ctx context.Context, r *netcheck.Record) {
	str, err := s.open(ctx, traversal.StatementProtocol)
	if err != nil {
		return
	}
	defer func() { _ = str.Reset() }()
	var own [][]byte
	err = within(ctx, str, func() (err error) {
		own, err = traversal.StatementOver(str)
		return err
	})
	if err == nil {
		yes := slices.ContainsFunc(own, func(c []byte) bool { return bytes.Equal(c, s.leaf) })
		r.Facts.Stated = &yes
	}
}

// reserve asks for a reservation; the relay gives it back when we hang up.
func (s *session) reserve(ctx context.Context, r *netcheck.Record, speaks []string) error {
	if len(speaks) > 0 && !slices.Contains(speaks, string(proto.ProtoIDv2Hop)) {
		return fmt.Errorf("%s is no relay: %w", s.peer, multistream.ErrNotSupported[protocol.ID]{Protos: []protocol.ID{proto.ProtoIDv2Hop}})
	}
	str, err := s.open(ctx, proto.ProtoIDv2Hop)
	if err != nil {
		return err
	}
	defer func() { _ = str.Reset() }()
	return within(ctx, str, func() error {
		expires, err := traversal.ReserveOver(str, s.self, s.peer)
		if err == nil {
			r.Facts.Expires = &expires
		}
		return err
	})
}

// errEcho is a peer that answers a ping with something else.
var errEcho = errors.New("the answer is not what was sent")

// echo sends bytes by libp2p's ping, all at once, and waits until they are back, for
// as long as some come: whoever speaks libp2p answers it. size is rounded up to whole
// pings.
func (s *session) echo(ctx context.Context, size int) error {
	str, err := s.open(ctx, ping.ID)
	if err != nil {
		return err
	}
	defer func() { _ = str.Reset() }()
	stop := context.AfterFunc(ctx, func() { _ = str.Reset() })
	defer stop()
	if err := echoOver(str, size, s.prober.layer); err != nil {
		return errors.Join(ctx.Err(), err)
	}
	return nil
}

// pings sends one small message after another for some time, and returns how long
// each answer took.
func (s *session) pings(ctx context.Context, count int, during time.Duration) (took []time.Duration, err error) {
	str, err := s.open(ctx, ping.ID)
	if err != nil {
		return nil, err
	}
	defer func() { _ = str.Reset() }()
	stop := context.AfterFunc(ctx, func() { _ = str.Reset() })
	defer stop()
	for end := time.Now().Add(during); len(took) < count && time.Now().Before(end); {
		began := time.Now()
		if err := echoOver(str, ping.PingSize, s.prober.layer); err != nil {
			return took, errors.Join(ctx.Err(), err)
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}

// echoOver is an echo on a stream. It fails when nothing comes back for so long: how
// long it takes in all is how fast the network is.
func echoOver(str stream, size int, silence time.Duration) error {
	out := make([]byte, (size+ping.PingSize-1)/ping.PingSize*ping.PingSize)
	rand.Read(out) // never fails
	sent := make(chan error, 1)
	go func() {
		_, err := str.Write(out)
		sent <- err
	}()
	in := make([]byte, len(out))
	for n := 0; n < len(in); {
		if err := str.SetDeadline(time.Now().Add(silence)); err != nil {
			return errors.Join(err, str.Reset(), <-sent)
		}
		some, err := str.Read(in[n:])
		if n += some; err != nil && n < len(in) {
			_ = str.Reset() // ends the writing
			<-sent
			return err
		}
	}
	if err := <-sent; err != nil {
		return err
	}
	if !bytes.Equal(out, in) {
		return errEcho
	}
	return nil
}
