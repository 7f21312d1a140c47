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
// it can be known from outside, and shows on the way that the path carries
// full-size packets: statementPad zeros, write side closed, one CBOR map back.
const StatementProtocol = protocol.ID("/worldcompute/statement/1.0.0")

const (
	// statementTimeout bounds one statement, a round trip: a path that has not
	// answered by then loses what is sent on it, or is a satellite with a queue.
	statementTimeout = 3 * time.Second
	// statementPad is more than fits one packet of an Ethernet, both ways.
	statementPad = 1600
	// maxStatement bounds what is read of one.
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
	if err := s.SetDeadline(time.Now().Add(statementTimeout)); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(s, maxStatement)); err != nil {
		return err
	}
	b, err := cbor.Marshal(statement{Certificates: certificates, Pad: make([]byte, statementPad)})
	if err != nil {
		return err
	}
	_, err = s.Write(b)
	return err
}

// askStatement asks the far end of conn.
func askStatement(ctx context.Context, conn network.Conn) (statement, error) {
	s, err := openStream(ctx, conn, StatementProtocol)
	if err != nil {
		return statement{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	said, err := exchangeStatement(s)
	if err != nil {
		_ = s.Reset()
		return statement{}, fmt.Errorf("ask %s for its certificates: %w", conn.RemotePeer(), ctxCause(ctx, err))
	}
	_ = s.Close()
	return said, nil
}

func exchangeStatement(s negotiated) (statement, error) {
	if _, err := s.Write(make([]byte, statementPad)); err != nil {
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
