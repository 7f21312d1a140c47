package node

import (
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/worldcompute/wce2e/node/wire"
)

func TestARefusalIsHeardWhileALargeJobIsStillBeingSent(t *testing.T) {
	n := startNode(t, Config{})
	donor := startNode(t, Config{})
	task := padded(t, 4<<20) // much more than a stream takes unread
	for name, then := range map[string]func(network.Stream){
		"a donor that reads no further":    func(network.Stream) {},
		"a donor that closes for reading":  func(s network.Stream) { s.CloseRead() },
		"a donor that reads past the rest": func(s network.Stream) { io.Copy(io.Discard, s) },
	} {
		donor.host.SetStreamHandler(protocol.ID(wire.V11.Protocol()), func(s network.Stream) {
			stream := jobStream{s, wire.V11, nil}
			p, err := stream.pack(failedTask("", time.Now(), &busyError{1}))
			if err == nil {
				err = stream.write(p)
			}
			if err == nil {
				err = s.CloseWrite()
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			then(s)
		})
		for _, transport := range []string{"tcp", "quic-v1"} {
			r, _ := ask(t, n, donor.addr(transport), wire.AnyPath, patience, task)
			if r.Status != string(wire.TaskFailed) || !strings.Contains(r.Error, "this donor is busy") {
				t.Errorf("%s, %s: %s %q", name, transport, r.Status, r.Error)
			}
		}
	}
}

// slowStream is that of a submitter with a line of 1 Mbit/s, who sends so many
// bytes.
type slowStream struct {
	network.Stream
	left     int
	deadline time.Time
	reset    bool
}

func (s *slowStream) Read(b []byte) (int, error) {
	n := min(len(b), s.left)
	took := time.Duration(n) * 8 * time.Microsecond
	if until := time.Until(s.deadline); until < took {
		time.Sleep(until)
		return 0, os.ErrDeadlineExceeded
	}
	time.Sleep(took)
	if s.left -= n; n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (s *slowStream) SetReadDeadline(t time.Time) error  { s.deadline = t; return nil }
func (s *slowStream) SetWriteDeadline(t time.Time) error { return nil }
func (s *slowStream) Write(b []byte) (int, error)        { return len(b), nil }
func (s *slowStream) CloseWrite() error                  { return nil }
func (s *slowStream) Close() error                       { return nil }
func (s *slowStream) Reset() error                       { s.reset = true; return nil }
func (s *slowStream) Conn() network.Conn                 { return remoteConn{} }

func TestALargeJobIsReadPastOnASlowLineTooButNotAnyNumberAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &jobServer{log: slog.New(slog.DiscardHandler), drains: make(chan struct{}, maxDrains)}
		turnAway := func() (reset bool, took time.Duration) {
			stream, began := &slowStream{left: 16 << 20}, time.Now()
			s.turnAway(jobStream{stream, wire.V11, nil}, failedTask("", began, &busyError{1}))
			return stream.reset, time.Since(began)
		}
		if reset, took := turnAway(); reset {
			t.Errorf("it was reset after %s", took)
		}
		if len(s.drains) != 0 {
			t.Error("its place is not given back")
		}
		for range cap(s.drains) {
			s.drains <- struct{}{}
		}
		if reset, took := turnAway(); !reset || took != drainTimeout {
			t.Errorf("one more than may be: reset %t after %s", reset, took)
		}
	})
}
