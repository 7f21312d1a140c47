package check

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/wire"
)

// host is what the trace tells of one machine.
type host struct {
	evidence.Host
	facts    *evidence.Facts // nil: the preflight never looked
	deployed []deployment
	ups      []nodeUp
	exits    []exit // ends that nobody asked for
	boots    []*boot
	events   []said // of all boots, in the order of the trace
	raw      [][]byte
	left     []leftovers
	log      *logFile // the last one; nil: not collected
	hashed   *logFile // of the events; the last one
}

// said is an event of a node, and the line of the trace that holds it.
type said struct {
	wire.Event
	line uint64
}

// boot is one start of a node.
type boot struct {
	id     string
	events []said
}

type deployment struct {
	line
	evidence.Deployment
}

type nodeUp struct {
	line
	evidence.NodeStart
}

type exit struct {
	line
	evidence.Exit
}

type leftovers struct {
	line
	evidence.Leftovers
}

type logFile struct {
	line
	evidence.LogFile
}

// take takes one line of the trace that is about this host.
func (x *host) take(l line) error {
	switch l.event.Name {
	case evidence.NodeSaid:
		return x.takeSaid(l)
	case evidence.HostFacts:
		x.facts = new(evidence.Facts)
		return decode(l.event, x.facts)
	case evidence.Deployed:
		d := deployment{line: l}
		err := decode(l.event, &d.Deployment)
		x.deployed = append(x.deployed, d)
		return err
	case evidence.NodeUp:
		u := nodeUp{line: l}
		err := decode(l.event, &u.NodeStart)
		x.ups = append(x.ups, u)
		return err
	case evidence.NodeExited:
		e := exit{line: l}
		err := decode(l.event, &e.Exit)
		x.exits = append(x.exits, e)
		return err
	case evidence.Residue:
		r := leftovers{line: l}
		err := decode(l.event, &r.Leftovers)
		x.left = append(x.left, r)
		return err
	case evidence.LogCollected:
		x.log = &logFile{line: l}
		return decode(l.event, &x.log.LogFile)
	case evidence.EventsHashed:
		x.hashed = &logFile{line: l}
		return decode(l.event, &x.hashed.LogFile)
	}
	return nil
}

func (x *host) takeSaid(l line) error {
	x.raw = append(x.raw, l.event.Data)
	e := said{line: l.seq}
	if err := json.Unmarshal(l.event.Data, &e.Event); err != nil {
		return err
	}
	x.events = append(x.events, e)
	for _, b := range x.boots {
		if b.id == e.Boot {
			b.events = append(b.events, e)
			return nil
		}
	}
	x.boots = append(x.boots, &boot{id: e.Boot, events: []said{e}})
	return nil
}

// peer is the peer ID of the host's node; empty when none came up.
func (x *host) peer() string {
	if x == nil || len(x.ups) == 0 {
		return ""
	}
	return x.ups[len(x.ups)-1].PeerID
}

// is tells whether the host's node has, or once had, this peer ID.
func (x *host) is(peer string) bool {
	for _, u := range x.ups {
		if u.PeerID == peer && peer != "" {
			return true
		}
	}
	return false
}

// of gives the host's events of one kind.
func (x *host) of(kind wire.Kind) []said { return ofKind(x.events, kind) }

func (b *boot) of(kind wire.Kind) []said { return ofKind(b.events, kind) }

func ofKind(events []said, kind wire.Kind) []said {
	var out []said
	for _, e := range events {
		if e.Kind == kind {
			out = append(out, e)
		}
	}
	return out
}

// connOpened finds the conn.opened of a connection; ok is false without one.
func (b *boot) connOpened(conn string) (opened said, ok bool) {
	for _, e := range b.of(wire.ConnOpened) {
		if e.Conn == conn && conn != "" {
			return e, true
		}
	}
	return said{}, false
}

// connClosed finds the conn.closed of a connection; ok is false without one.
func (b *boot) connClosed(conn string) (closed said, ok bool) {
	for _, e := range b.of(wire.ConnClosed) {
		if e.Conn == conn && conn != "" {
			return e, true
		}
	}
	return said{}, false
}

// stopped tells whether the boot ended in an orderly way.
func (b *boot) stopped() bool { return len(b.of(wire.NodeStopped)) > 0 }

func (b *boot) last() said { return b.events[len(b.events)-1] }

// ClockSlack is how far two clocks may drift apart after they were compared: two
// ordinary crystals differ by 200 ppm at most, which is a second in 80 minutes.
const ClockSlack = time.Second

// clockKnown tells whether the host's clock was compared with the suite's.
func (x *host) clockKnown() bool { return x.facts != nil }

// suiteTime is a time of the host's clock on the suite's clock.
func (x *host) suiteTime(t time.Time) time.Time {
	if x.facts == nil {
		return t
	}
	return t.Add(-milliseconds(x.facts.ClockOffsetMS))
}

// clockError is by how much suiteTime may be wrong, either way.
func (x *host) clockError() time.Duration {
	if x.facts == nil {
		return ClockSlack
	}
	return milliseconds(x.facts.ClockErrorMS) + ClockSlack
}

func milliseconds(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// killed tells whether a start of the host's node was ended by force: it had no
// chance to write down how it ended.
func (h *history) killed(x *host, b *boot) bool {
	_, killed := h.killedAt(x, b)
	return killed
}

// anyKilled is killed of any start of the host's node.
func (h *history) anyKilled(x *host) bool {
	return slices.ContainsFunc(x.boots, func(b *boot) bool { return h.killed(x, b) })
}

// killedAt is when that was, on the suite's clock: when it was done, or when the
// suite noticed.
func (h *history) killedAt(x *host, b *boot) (at time.Time, killed bool) {
	from, to := x.linesOf(b)
	for _, f := range h.faultsBetween(from, to) {
		if f.host == x.Name && f.Fault.Fault == evidence.FaultKill {
			return f.event.TS, true
		}
	}
	for _, e := range x.exits {
		if e.seq > from && e.seq < to {
			return e.event.TS, true
		}
	}
	return at, false
}

// linesOf are the lines of the trace between which a start of the node had its
// time: from its first event to the first one of the next start.
func (x *host) linesOf(b *boot) (from, to uint64) {
	from, to = b.events[0].line, math.MaxUint64
	for _, other := range x.boots {
		if first := other.events[0].line; first > from {
			to = min(to, first)
		}
	}
	return from, to
}

// endOf is when a start of a node ended, on the suite's clock: its last event, or
// its killing where that is known to have been later.
func (h *history) endOf(x *host, b *boot) time.Time {
	end := x.suiteTime(b.last().Time)
	if at, killed := h.killedAt(x, b); killed && at.After(end) {
		return at
	}
	return end
}

// String tells how a node ended, with the last of what it said.
func (e exit) String() string {
	how := fmt.Sprintf("exit status %d", e.Code)
	if e.Signal != "" {
		how = "signal " + e.Signal
	}
	if e.Lease {
		how += " by its supervisor, since the suite's lease had lapsed"
	}
	if tail := lastLines(e.Tail, tailLines); tail != "" {
		how += "; its last lines: " + tail
	}
	return how
}

const (
	tailLines = 3
	tailWidth = 300 // bytes of one line
)

// lastLines gives the last n lines of a text, in one line.
func lastLines(text string, n int) string {
	var out []string
	for l := range bytes.Lines([]byte(strings.TrimSpace(text))) {
		l = bytes.TrimSpace(l)
		out = append(out, strings.ToValidUTF8(string(l[:min(len(l), tailWidth)]), ""))
	}
	return strings.Join(out[max(0, len(out)-n):], " | ")
}
