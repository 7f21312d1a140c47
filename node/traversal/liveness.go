package traversal

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
)

// A path that is dead is noticed at most deadAfter after its last sign of life,
// and suspected after pingEvery + pingTimeout, when another relay is asked
// already. The muxers' own keepalives take 39 s (yamux) and 44 s (QUIC).
const (
	pingEvery   = 4 * time.Second
	pingTimeout = 3 * time.Second
	deadAfter   = 10 * time.Second
	// pingStreamAge is how long one stream is used: the library's answering
	// side ends it after 30 s. A stream per ping would double the bytes.
	pingStreamAge = 20 * time.Second
)

// errDead is a path on which nothing came back for deadAfter.
var errDead = errors.New("no answer to pings")

// pinger proves, again and again, that a connection still carries data.
type pinger struct {
	conn   network.Conn
	every  time.Duration // between the starts of two pings; 0 means pingEvery
	report func(rtt time.Duration, err error)

	stream negotiated // nil Stream: none is open
	opened time.Time
}

// run pings until ctx ends (nil) or the path is dead (an error). Every ping is
// reported, a failed one too.
func (p *pinger) run(ctx context.Context) error {
	defer p.end()
	every := p.every
	if every == 0 {
		every = pingEvery
	}
	alive := time.Now()
	for {
		began := time.Now()
		rtt, err := p.ping(ctx, patience(time.Since(alive)))
		if ctx.Err() != nil {
			return nil
		}
		p.report(rtt, err)
		if err == nil {
			alive = time.Now()
			if !pause(ctx, every-time.Since(began)) {
				return nil
			}
			continue
		}
		if silence := time.Since(alive); silence >= deadAfter-time.Second {
			return fmt.Errorf("%w for %s: %w", errDead, silence.Round(time.Second/10), err)
		}
		// A failure that came quickly must not become a loop that spins.
		if !pause(ctx, time.Second-time.Since(began)) {
			return nil
		}
	}
}

// patience is how long the next ping may take, so that a silent path is given
// up after deadAfter.
func patience(silence time.Duration) time.Duration {
	return min(pingTimeout, max(time.Second, deadAfter-silence))
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
		return 0, errors.New("the answer is not what was sent")
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
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || os.IsTimeout(err)
}
