package node

import (
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// circuitOverhead is what a circuit carries each way besides jobs, in bytes:
	// the handshakes, identify, and what it takes to agree on a hole punch. Of
	// the 128 KiB that public relays let pass, 112 are left.
	circuitOverhead = 16 << 10
	// messageOverhead is what one message of a job takes besides its bytes: the
	// ping before it, the stream's opening and protocol, the frames, the way
	// back's window updates.
	messageOverhead = 512
	// circuitHaste is how much sooner a circuit ends than we would think: the
	// relay's clock runs while the two ends still shake hands.
	circuitHaste = 3 * time.Second
)

// circuit is what a relay lets pass through one limited circuit, and what of it
// jobs have used. A nil circuit has no limits, as a direct connection or a relay
// of World Compute. What the other side sends counts on the other side.
//
// Limits are other people's: a job that does not fit goes another way, or not
// at all. It is never begun to be cut off half way.
type circuit struct {
	relay string
	bytes uint64        // each way; 0 is any number
	span  time.Duration // 0 is for ever
	since time.Time

	mu   sync.Mutex // guards the field below
	sent uint64     // bytes of jobs, messageOverhead included
}

// limitsOf are those that the relay told when it made the circuit under conn;
// nil when it told none.
func limitsOf(remote ma.Multiaddr, stat network.ConnStats) *circuit {
	if !stat.Limited {
		return nil
	}
	c := &circuit{relay: relayOf(remote), since: stat.Opened}
	c.bytes, _ = stat.Extra[client.StatLimitData].(uint64)
	span, _ := stat.Extra[client.StatLimitDuration].(time.Duration)
	c.span = inSeconds(span)
	if c.since.IsZero() {
		c.since = time.Now()
	}
	return c
}

// inSeconds mends the limit of relays that tell milliseconds where seconds are
// meant: js-libp2p 3.3 tells 120000, and cuts after two minutes. Whoever means
// what is more than 16 hours is not hurt by much.
func inSeconds(span time.Duration) time.Duration {
	const least = 60_000 * time.Second
	if span >= least && span%(1000*time.Second) == 0 {
		return span / 1000
	}
	return span
}

// lacks tells why a message of n bytes, to be answered until then, does not fit
// what is left of the circuit; nil when it does.
func (c *circuit) lacks(n int, until time.Time) error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lacking(n, time.Until(until), c.sent, c.left())
}

// lacksAnew tells the same of another circuit through the same relay.
func (c *circuit) lacksAnew(n int, until time.Time) error {
	if c == nil {
		return nil
	}
	return c.lacking(n, time.Until(until), 0, c.span-circuitHaste)
}

func (c *circuit) lacking(n int, need time.Duration, sent uint64, left time.Duration) error {
	if c.span > 0 && need > left {
		return fmt.Errorf("the timeout (%s are left of it) does not fit the limit of %s that relay %s sets to a circuit (%s are left of it)",
			need.Round(time.Second), c.span, c.relay, max(left, 0).Round(time.Second))
	}
	if room := c.room(sent); uint64(n) > room {
		return fmt.Errorf("%d bytes do not fit the limit of %d bytes each way that relay %s sets to a circuit (%d are left for jobs)",
			n, c.bytes, c.relay, room)
	}
	return nil
}

// room is how long a message may be when so many bytes have been sent.
func (c *circuit) room(sent uint64) uint64 {
	if c.bytes == 0 {
		return math.MaxInt64
	}
	taken := circuitOverhead + messageOverhead + sent
	return c.bytes - min(taken, c.bytes)
}

// left is how long the circuit stands yet, if it has a span.
func (c *circuit) left() time.Duration { return c.span - circuitHaste - time.Since(c.since) }

// take counts a message that is about to be sent; it fails when, meanwhile,
// others have taken its room. Until when the answer has to come it does not ask.
func (c *circuit) take(n int) error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.lacking(n, 0, c.sent, math.MaxInt64); err != nil {
		return err
	}
	c.sent += uint64(n) + messageOverhead
	return nil
}

// circuits keeps account of the limited circuits of a node's own network. The
// zero value works.
type circuits struct {
	mu   sync.Mutex // guards the field below
	open map[network.Conn]*circuit
}

// of is the account of a connection; nil when nothing limits it.
func (s *circuits) of(conn network.Conn) *circuit {
	stat := conn.Stat()
	if !stat.Limited {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.open[conn]; ok {
		return c
	}
	if s.open == nil {
		s.open = map[network.Conn]*circuit{}
	}
	for old := range s.open { // there are few
		if old.IsClosed() {
			delete(s.open, old)
		}
	}
	c := limitsOf(conn.RemoteMultiaddr(), stat)
	s.open[conn] = c
	return c
}
