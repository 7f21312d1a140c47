package traversal

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
)

// A path that is dead is noticed at most deadAfter after its last sign of life,
// and suspected after pingEvery + pingTimeout, when another relay is asked
// already. The muxers' own keepalives take 39 s (yamux) and 44 s (QUIC).
const (
	pingEvery   = 5 * time.Second
	pingTimeout = 3 * time.Second
	deadAfter   = 10 * time.Second
	// hurriedDead is deadAfter once this machine's network has changed: most
	// likely the connection belongs to the old one, and is dead.
	hurriedDead = 3 * time.Second
	// pingStreamAge is how long one stream is used: the library's answering
	// side ends it after 30 s. A stream per ping would double the bytes.
	pingStreamAge = 28 * time.Second
)

var (
	// errDead is a path on which nothing came back for deadAfter.
	errDead = errors.New("no answer to pings")
	// errNoPing is a relay that does not speak ping. That is an answer, and no
	// reason to leave it: the muxer's keepalive watches the path then.
	errNoPing = errors.New("the relay speaks no ping, the muxer's keepalive must do")
	errWrong  = errors.New("the answer is not what was sent")
)

// pinger proves, again and again, that a connection still carries data.
type pinger struct {
	conn   network.Conn
	every  time.Duration // between the starts of two pings; 0 means pingEvery
	dead   time.Duration // of silence ends it; 0 means deadAfter
	report func(rtt time.Duration, err error)
	hurry  func() <-chan struct{} // closed when the path has become doubtful; nil: never is
	speaks func() bool            // whether the peer says that it answers pings

	stream negotiated // nil Stream: none is open
	opened time.Time
}

// run pings until ctx ends (nil), the path is dead (an error), or the peer turns
// out not to speak ping (nil, once that is reported). Every ping is reported, a
// failed one too. Only silence counts against the path: who says no is there.
func (p *pinger) run(ctx context.Context) error {
	defer p.end()
	every, dead := cmp.Or(p.every, pingEvery), cmp.Or(p.dead, deadAfter)
	alive := time.Now()
	for {
		began, hurry := time.Now(), p.hurries()
		rtt, err := p.ping(ctx, patience(dead-time.Since(alive)))
		if ctx.Err() != nil {
			return nil
		}
		if unsupported(err) && !p.speaks() {
			p.report(0, fmt.Errorf("%w: %w", errNoPing, err))
			return nil
		}
		p.report(rtt, err)
		if err == nil || answered(p.conn, err) {
			alive = time.Now()
			if pauseUnless(ctx, hurry, every-time.Since(began)) {
				alive = time.Now().Add(hurriedDead - dead)
			}
			if ctx.Err() != nil {
				return nil
			}
			continue
		}
		if silence := time.Since(alive); silence >= dead-time.Second {
			return fmt.Errorf("%w for %s: %w", errDead, silence.Round(time.Second/10), err)
		}
		// A failure that came quickly must not become a loop that spins.
		if !pause(ctx, time.Second-time.Since(began)) {
			return nil
		}
	}
}

// hurries is closed when there is a hurry from now on; nil never is.
func (p *pinger) hurries() <-chan struct{} {
	if p.hurry == nil {
		return nil
	}
	return p.hurry()
}

// pauseUnless waits, and tells whether it ended early since there is a hurry.
func pauseUnless(ctx context.Context, hurry <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-hurry:
		return true
	case <-ctx.Done():
	case <-t.C:
	}
	return false
}

// patience is how long the next ping may take, so that a silent path is given
// up in time.
func patience(left time.Duration) time.Duration {
	return min(pingTimeout, max(time.Second, left))
}

// answered tells whether a ping failed otherwise than by silence: the far side
// ended the stream, or answered nonsense, or our own limits left no room for it.
func answered(conn network.Conn, err error) bool {
	if conn.IsClosed() {
		return false
	}
	var reset *network.StreamError
	return errors.As(err, &reset) && reset.Remote || errors.Is(err, io.EOF) || errors.Is(err, errWrong) ||
		unsupported(err) || errors.Is(err, network.ErrResourceLimitExceeded)
}

// ping is one round trip. A stream that the far side has ended since the last
// one is replaced once.
func (p *pinger) ping(ctx context.Context, timeout time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if p.stream.Stream != nil && time.Since(p.opened) > pingStreamAge {
		p.end()
	}
	used := p.stream.Stream != nil
	rtt, err := p.roundTrip(ctx)
	if err != nil {
		p.end()
		if used && !isTimeout(err) && ctx.Err() == nil {
			rtt, err = p.roundTrip(ctx)
		}
	}
	if err != nil {
		p.end()
		return 0, fmt.Errorf("ping %s: %w", p.conn.RemotePeer(), err)
	}
	return rtt, nil
}

// Dead asks a connection for one sign of life, and tells whether none came in time.
// Who answers that it speaks no ping is there.
func Dead(ctx context.Context, conn network.Conn, timeout time.Duration) bool {
	p := pinger{conn: conn}
	defer p.end()
	_, err := p.ping(ctx, timeout)
	return err != nil && ctx.Err() == nil && !answered(conn, err)
}

func (p *pinger) roundTrip(ctx context.Context) (time.Duration, error) {
	if p.stream.Stream == nil {
		s, err := openStream(ctx, p.conn, ping.ID)
		if err != nil {
			return 0, err
		}
		p.stream, p.opened = s, time.Now()
	}
	s := p.stream
	deadline, _ := ctx.Deadline()
	_ = s.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { _ = s.SetDeadline(time.Now()) })
	defer stop()
	out, in := make([]byte, ping.PingSize), make([]byte, ping.PingSize)
	if _, err := rand.Read(out); err != nil {
		return 0, err
	}
	began := time.Now()
	if _, err := s.Write(out); err != nil {
		return 0, err
	}
	if _, err := io.ReadFull(s, in); err != nil {
		return 0, err
	}
	if !bytes.Equal(out, in) {
		return 0, errWrong
	}
	return time.Since(began), nil
}

// end gives the stream back.
func (p *pinger) end() {
	if p.stream.Stream != nil {
		_ = p.stream.Reset()
		p.stream = negotiated{}
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}
