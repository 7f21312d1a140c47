package traversal

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// StatementProtocol is how a node tells who connected to it by which certificate
// it can be known from outside, and how both find out whether the path carries
// full-size packets. The request is any number of bytes, its write side closed;
// the answer is one CBOR map, with as many bytes of padding as came.
const StatementProtocol = protocol.ID("/worldcompute/statement/1.0.0")

const (
	// statementTimeout bounds one statement, a round trip: a path that has not
	// answered by then loses what is sent on it, or is a satellite with a queue.
	statementTimeout = 3 * time.Second
	// answerTimeout bounds serving one.
	answerTimeout = 10 * time.Second
	// fullSize is more than fits one packet of an Ethernet.
	fullSize = 1600
	// maxPad and maxStatement bound what is read of a request and of an answer.
	maxPad       = 4 << 10
	maxStatement = 16 << 10
)

// statement is what a node says of itself.
type statement struct {
	Certificates [][]byte `cbor:"certificates"` // SHA-256 of those that its listeners show
	Pad          []byte   `cbor:"pad"`
}

// ServeStatement answers whoever asks. certificates are asked for each time.
func ServeStatement(h host.Host, certificates func() [][]byte) {
	h.SetStreamHandler(StatementProtocol, func(s network.Stream) {
		if err := answerStatement(s, certificates()); err != nil {
			_ = s.Reset()
			return
		}
		_ = s.Close()
	})
}

func answerStatement(s network.Stream, certificates [][]byte) error {
	if err := s.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	pad, err := io.Copy(io.Discard, io.LimitReader(s, maxPad))
	if err != nil {
		return err
	}
	b, err := cbor.Marshal(statement{Certificates: certificates, Pad: make([]byte, pad)})
	if err != nil {
		return err
	}
	_, err = s.Write(b)
	return err
}

// askStatement asks the far end of conn, with so many bytes of padding both ways.
func askStatement(ctx context.Context, conn network.Conn, pad int, within time.Duration) (statement, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	s, err := openStream(ctx, conn, StatementProtocol)
	if err != nil {
		return statement{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	said, err := exchangeStatement(s, pad)
	if err != nil {
		_ = s.Reset()
		return statement{}, fmt.Errorf("ask %s for its certificates: %w", conn.RemotePeer(), ctxCause(ctx, err))
	}
	_ = s.Close()
	return said, nil
}

// StatementOver asks, on a stream on which StatementProtocol has been agreed, for
// the SHA-256 of the certificates that the other end shows.
func StatementOver(s HalfCloser) ([][]byte, error) {
	said, err := exchangeStatement(s, 0)
	return said.Certificates, err
}

// HalfCloser is a stream whose write side can be closed by itself.
type HalfCloser interface {
	io.ReadWriter
	CloseWrite() error
}

func exchangeStatement(s HalfCloser, pad int) (statement, error) {
	// Written even when it is empty: the protocol's name goes out with it.
	if _, err := s.Write(make([]byte, pad)); err != nil {
		return statement{}, err
	}
	if err := s.CloseWrite(); err != nil {
		return statement{}, err
	}
	b, err := io.ReadAll(io.LimitReader(s, maxStatement))
	if err != nil {
		return statement{}, err
	}
	var said statement
	if err := cbor.Unmarshal(b, &said); err != nil {
		return statement{}, fmt.Errorf("read the statement: %w", err)
	}
	return said, nil
}
