package traversal

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"

	"github.com/worldcompute/wce2e/node/netcheck"
)

// negotiated is a stream whose first write carries the protocol's name along,
// so that a request and its answer take one round trip.
type negotiated struct {
	network.Stream
	lazy io.ReadWriteCloser
}

func (s negotiated) Read(b []byte) (int, error)  { return s.lazy.Read(b) }
func (s negotiated) Write(b []byte) (int, error) { return s.lazy.Write(b) }

// openStream opens a stream of one protocol on this very connection. The
// library's host.NewStream takes whichever connection to the peer it likes best.
func openStream(ctx context.Context, conn network.Conn, id protocol.ID) (negotiated, error) {
	s, err := conn.NewStream(network.WithAllowLimitedConn(ctx, string(id)))
	if err != nil {
		return negotiated{}, fmt.Errorf("open a stream of %s to %s: %w", id, conn.RemotePeer(), err)
	}
	if err := s.SetProtocol(id); err != nil {
		_ = s.Reset()
		return negotiated{}, fmt.Errorf("open a stream of %s to %s: %w", id, conn.RemotePeer(), err)
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = s.SetDeadline(deadline)
	}
	return negotiated{s, multistream.NewMSSelect(s, id)}, nil
}

// OpenStream opens a stream of one protocol on this very connection, for who does
// not want the library's choice.
func OpenStream(ctx context.Context, conn network.Conn, id protocol.ID) (network.Stream, error) {
	return openStream(ctx, conn, id)
}

// unsupported tells whether the far side does not speak the protocol. It says
// so, and then trips over the request that was sent along and resets the stream,
// which may overtake the word.
func unsupported(err error) bool {
	return netcheck.Classify(err) == netcheck.NoProtocol
}

// ctxCause prefers the reason why ctx ended to the error that its end caused.
func ctxCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w (%v)", context.Cause(ctx), err)
	}
	return err
}

// pause waits, or returns false when ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
