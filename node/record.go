package node

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/netcheck"
	"github.com/worldcompute/wce2e/node/wire"
)

// recorder numbers the events of one start of a node, writes each as one line
// and tells it to the log. It also keeps the books of dial attempts: every one
// that starts ends exactly once, whatever the transport does.
type recorder struct {
	boot     string
	log      *slog.Logger
	stopping atomic.Bool // dials that end from now on were given up by us

	mu     sync.Mutex // guards the fields below, and the order of lines
	out    io.Writer
	seq    uint64
	ended  bool // node.stopped was recorded; nothing may follow
	broken bool // the last line could not be written, and that was said
	torn   bool // the last line was written in part
	dials  uint64
	open   map[string]openDial
	counts wire.DialCounts

	tried tried
}

type openDial struct {
	peer    peer.ID
	addr    ma.Multiaddr
	why     string
	started time.Time
}

func newRecorder(out io.Writer, log *slog.Logger) *recorder {
	boot := make([]byte, 8)
	rand.Read(boot) // never fails
	return &recorder{boot: hex.EncodeToString(boot), log: log, out: out, open: map[string]openDial{}}
}

// Record stamps ev and writes it. After node.stopped it does nothing.
func (r *recorder) Record(ev wire.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.record(ev)
}

// record wants mu held.
func (r *recorder) record(ev wire.Event) {
	if r.ended {
		return
	}
	r.ended = ev.Kind == wire.NodeStopped
	ev.Time, ev.Seq, ev.Boot = time.Now().UTC(), r.seq+1, r.boot
	bound(&ev)
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(ev); err != nil { // it has no number, and leaves no gap
		r.log.Error("an event cannot be written", "event", string(ev.Kind), "err", err)
		return
	}
	r.seq++
	r.write(ev.Kind, line.Bytes())
	logEvent(r.log, ev)
}

// write wants a line that ends with a newline, and mu held. A line that is lost
// leaves its number out: the gap tells.
func (r *recorder) write(kind wire.Kind, line []byte) {
	if r.torn {
		line = slices.Concat([]byte("\n"), line)
	}
	n, err := r.out.Write(line)
	if n > 0 {
		r.torn = line[n-1] != '\n'
	}
	if err != nil && !r.broken {
		r.log.Error("events are being lost", "event", string(kind), "err", err)
	}
	r.broken = err != nil
}

// Bounds of what others can put into an event, in bytes.
const (
	maxEventText = 1 << 10 // Task, Detail
	maxEventErr  = 8 << 10
)

// latest is the last second that JSON has a form for (RFC 3339).
var latest = time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC)

// bound cuts what others have a say in: a line is short, and can be written.
func bound(ev *wire.Event) {
	ev.Task, ev.Detail, ev.Err = cut(ev.Task, maxEventText), cut(ev.Detail, maxEventText), cut(ev.Err, maxEventErr)
	ev.Expires = ev.Expires.UTC()
	if ev.Expires.After(latest) {
		ev.Expires = latest
	}
	if ev.Expires.Year() < 0 {
		ev.Expires = time.Time{}
	}
}

// cut leaves at most limit bytes of a text, and no half character.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "")
}

// dialStarted records the start of an attempt and returns its ID. why is
// empty, unless it has a purpose other than to connect.
func (r *recorder) dialStarted(p peer.ID, addr ma.Multiaddr, why string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dials++
	id := fmt.Sprintf("d%05d", r.dials)
	r.open[id] = openDial{peer: p, addr: addr, why: why, started: time.Now()}
	r.counts.Started++
	r.record(wire.Event{
		Kind: wire.DialStarted, Dial: id, Peer: p.String(), Addr: addr.String(), Transport: transportOf(addr), Detail: why,
	})
	return id
}

// dialEnded records how an attempt ended. Only the first call for an ID counts.
func (r *recorder) dialEnded(id string, outcome wire.Outcome, failure netcheck.Failure, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d, ok := r.open[id]
	if !ok {
		return
	}
	delete(r.open, id)
	switch outcome {
	case wire.OK:
		r.counts.OK++
	case wire.Aborted:
		r.counts.Aborted++
	default:
		r.counts.Failed++
	}
	ev := wire.Event{
		Kind: wire.DialEnded, Dial: id, Peer: d.peer.String(), Addr: d.addr.String(), Transport: transportOf(d.addr),
		Outcome: outcome, Failure: string(failure), MS: millis(time.Since(d.started)), Detail: d.why,
	}
	if err != nil {
		ev.Err = err.Error()
	}
	r.record(ev)
	if d.why == "" {
		r.tried.note(wire.Attempt{Addr: ev.Addr, Peer: ev.Peer, At: time.Now().UTC(), Outcome: outcome, Failure: ev.Failure, MS: ev.MS})
	}
}

// abortDials ends every open attempt as given up.
func (r *recorder) abortDials(why error) {
	r.mu.Lock()
	ids := make([]string, 0, len(r.open))
	for id := range r.open {
		ids = append(ids, id)
	}
	r.mu.Unlock()
	for _, id := range ids {
		r.dialEnded(id, wire.Aborted, netcheck.Aborted, why)
	}
}

// settle waits until no dial is open, for d at most.
func (r *recorder) settle(d time.Duration) {
	const every = 5 * time.Millisecond
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(every) {
		r.mu.Lock()
		open := len(r.open)
		r.mu.Unlock()
		if open == 0 {
			return
		}
	}
}

func (r *recorder) dialCounts() wire.DialCounts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
