package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/worldcompute/wce2e/e2e/remote"
	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/inventory"
	"github.com/worldcompute/wce2e/node/wire"
)

// node is a daemon of ours on a host, watched.
type node struct {
	peer      string
	addrs     []string // where it says it can be reached, with /p2p/<peer>
	stopWatch func()   // ends the watching, and waits for it

	fetch chan chan struct{} // has the events fetched now; what is sent is closed when they are

	mu     sync.Mutex // guards the fields below
	events []wire.Event
	offset int64          // how much of events.jsonl has been read
	exit   *evidence.Exit // set once the node has ended unasked
}

const (
	upTimeout    = 30 * time.Second       // from the start of a node to its first answer
	followEvery  = 250 * time.Millisecond // how often a node's new events are fetched,
	followQuiet  = 2 * time.Second        // and how seldom while there are none: many runs hold side by side
	followLimit  = 1 << 20                // bytes fetched at once
	leaseParts   = 6                      // renewals per lease: five may be lost
	exitEvery    = 2 * time.Second        // how often we look whether the node has ended
	reserveEvery = 100 * time.Millisecond
)

// startNodes starts the relays, then all others, which are told of the relays.
func (r *run) startNodes(ctx context.Context) error {
	if err := r.startRelays(ctx); err != nil {
		return err
	}
	submitter := r.submitter()
	id, err := submitter.identity(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", submitter.Name, err)
	}
	others := append([]*host{r.donor(), submitter}, r.neighbours()...)
	return inParallel(others, func(h *host) error {
		args := r.joinArgs(h)
		if h.Role == inventory.Donor {
			args = append(args, "--allow", id)
		}
		return h.start(ctx, args)
	})
}

// startRelays starts our own relays, and settles what all others start from.
func (r *run) startRelays(ctx context.Context) (err error) {
	if err := inParallel(r.relays(), func(h *host) error { return h.start(ctx, relayArgs(h)) }); err != nil {
		return err
	}
	r.list, err = r.bootstrap(ctx)
	return err
}

// joinArgs are those of a node that joins.
func (r *run) joinArgs(h *host) []string {
	args := listenArgs(h)
	for _, a := range r.list {
		args = append(args, "--bootstrap", a)
	}
	for _, t := range r.cfg.Transports {
		args = append(args, "--transport", t)
	}
	return args
}

// bootstrap is what donor and submitter are told to start from.
func (r *run) bootstrap(ctx context.Context) ([]string, error) {
	var own []string
	for _, h := range r.relays() {
		if len(h.node.addrs) == 0 {
			r.talk.Note(h.Name + ": the relay knows no public address of its own: name one with announce: in the inventory")
		}
		own = append(own, h.node.addrs...)
	}
	if r.cfg.Introduce == nil {
		return append(bootstrapOf(r.inv.Relays), own...), nil
	}
	addrs, err := r.cfg.Introduce(ctx, own)
	if err != nil {
		return nil, fmt.Errorf("introduce the relays: %w", err)
	}
	return addrs, nil
}

// bootstrapOf is what nodes start from beside our own relays: what the inventory
// lists, else the list that is built into the node.
func bootstrapOf(listed []string) []string {
	if len(listed) == 0 {
		return []string{"builtin"}
	}
	return slices.Clone(listed)
}

func relayArgs(h *host) []string {
	args := append([]string{"--relay", "--no-bootstrap"}, listenArgs(h)...)
	for _, ip := range h.Announce {
		args = append(args, "--announce", ip)
	}
	return args
}

func listenArgs(h *host) []string {
	var args []string
	for _, a := range h.Listen {
		args = append(args, "--listen", a)
	}
	return args
}

// identity makes the node's identity if there is none yet, and gives its peer ID.
func (h *host) identity(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, quickTimeout)
	defer cancel()
	res, err := h.exec(ctx, "node", "id", "--dir", h.dir())
	if err != nil {
		return "", err
	}
	if res.Code != 0 {
		return "", fmt.Errorf("node id: exit %d: %s", res.Code, lastLine(res.Stderr))
	}
	return strings.TrimSpace(string(res.Stdout)), nil
}

// start starts the host's node for the first time.
func (h *host) start(ctx context.Context, args []string) error {
	h.args = append([]string{"node", "run", "--dir", h.dir(), "--name", h.Name, "--log-level", "debug"}, args...)
	h.node = &node{stopWatch: func() {}, fetch: make(chan chan struct{})} // from here on there is something to collect
	st, err := h.launch(ctx)
	h.node.peer, h.node.addrs = st.PeerID, st.Addrs
	return err
}

// launch starts the host's node below a supervisor, waits until it answers, and
// watches it from then on.
func (h *host) launch(ctx context.Context) (st wire.Status, err error) {
	lease := h.run.inv.Run.Lease
	var started struct {
		Warning string `json:"warning"` // what may end the node too early there
	}
	if err := h.ask(ctx, &started, append([]string{"host", "start", "--dir", h.dir(), "--lease", lease.String(), "--"}, h.args...)...); err != nil {
		return st, fmt.Errorf("%s: start the node: %w", h.Name, err)
	}
	if started.Warning != "" {
		h.run.talk.Note(h.Name + ": " + started.Warning)
	}
	h.watch(ctx)
	if st, err = h.awaitStatus(ctx); err != nil {
		return st, fmt.Errorf("%s: %w", h.Name, err)
	}
	h.log.Info("node up", "peer", st.PeerID, "role", h.Role)
	args := slices.Clone(h.args)
	for i, a := range args {
		args[i] = h.tilde(a)
	}
	return st, h.run.note(evidence.NodeUp, h.Name, evidence.NodeStart{Role: string(h.Role), PeerID: st.PeerID, Boot: st.Boot, Args: args})
}

// watch follows a node that has just been started.
func (h *host) watch(ctx context.Context) {
	h.node.alive()
	watch, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var watching sync.WaitGroup
	h.node.stopWatch = func() { cancel(); watching.Wait() }
	for _, watcher := range []func(context.Context){h.follow, h.keepLease, h.watchExit} {
		watching.Go(func() { watcher(watch) })
	}
}

// awaitStatus waits for the node's first answer, or its end.
func (h *host) awaitStatus(ctx context.Context) (st wire.Status, err error) {
	ctx, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	err = remote.Await(ctx, "the node's first answer", followEvery, func(ctx context.Context) (bool, string, error) {
		if exit := h.node.ended(); exit != nil {
			return false, "", fmt.Errorf("the node ended at once: %s", describe(*exit))
		}
		var serr error
		st, serr = h.status(ctx)
		if serr != nil {
			return false, serr.Error(), nil
		}
		return true, "", nil
	})
	return st, err
}

// status asks the node how it is.
func (h *host) status(ctx context.Context) (st wire.Status, err error) {
	return st, h.ask(ctx, &st, "node", "status", "--dir", h.dir(), "--json")
}

// follow copies the node's events into the trace as they come.
func (h *host) follow(ctx context.Context) {
	wait, asked := followEvery, chan struct{}(nil)
	for {
		before := h.node.read()
		if _, err := h.catchUp(ctx); err != nil && ctx.Err() == nil {
			h.log.Warn("fetch events", "err", err)
		}
		if wait = min(2*wait, followQuiet); h.node.read() > before || asked != nil {
			wait = followEvery
		}
		if asked != nil {
			close(asked)
			asked = nil
		}
		select {
		case <-ctx.Done():
			return
		case asked = <-h.node.fetch:
		case <-time.After(wait):
		}
	}
}

// fetchTimeout is for a step that would like to see all events so far, and goes on
// without those that do not come.
const fetchTimeout = 5 * time.Second

// fetchEvents brings the events of all nodes up to now into the trace: what has not
// been fetched when the suite crashes is lost.
func (r *run) fetchEvents(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	inParallel(r.hosts, func(h *host) error {
		if h.node == nil || h.node.ended() != nil {
			return nil
		}
		done := make(chan struct{})
		select {
		case h.node.fetch <- done:
		case <-ctx.Done():
			return nil
		}
		select {
		case <-done:
		case <-ctx.Done():
		}
		return nil
	})
}

// catchUp fetches the events that were written since the last time. It is
// called by one goroutine at a time: the follower, and the collector after it.
func (h *host) catchUp(ctx context.Context) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, quickTimeout)
	defer cancel()
	n := h.node
	b, err := h.remote.ReadFrom(ctx, path.Join(h.dir(), eventsFile), n.offset, followLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	whole := bytes.LastIndexByte(b, '\n') + 1
	if whole == 0 {
		return false, nil
	}
	events, items := h.parseEvents(b[:whole])
	if _, err := h.run.out.AppendAll(items...); err != nil {
		h.run.abort(err)
		return false, err
	}
	n.mu.Lock()
	n.offset += int64(whole)
	n.events = append(n.events, events...)
	n.mu.Unlock()
	return len(b) == followLimit, nil
}

const (
	eventsFile = "events.jsonl"
	logFile    = "node.log"
)

func (h *host) parseEvents(lines []byte) (events []wire.Event, items []evidence.Item) {
	for line := range bytes.Lines(lines) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		var e wire.Event
		if err := json.Unmarshal(line, &e); err != nil {
			// A crash cut it. Left out of the trace it is missed by the hash of the file.
			h.log.Warn("not an event", "line", string(line), "err", err)
			continue
		}
		events = append(events, e)
		items = append(items, evidence.Item{Name: evidence.NodeSaid, Host: h.Name, Data: json.RawMessage(line)})
	}
	return events, items
}

// keepLease tells the supervisor that we are still there.
func (h *host) keepLease(ctx context.Context) {
	every := h.run.inv.Run.Lease / leaseParts
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 1; ; n++ {
		if err := h.renewLease(ctx, n, every); err != nil && ctx.Err() == nil {
			h.log.Warn("renew the lease", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// renewLease gives up in time for the next renewal, so that a connection that
// died silently is dialled anew while the lease still stands.
func (h *host) renewLease(ctx context.Context, n int, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return h.remote.Upload(ctx, path.Join(h.dir(), "lease"), 0o600, strings.NewReader(fmt.Sprintln(n)))
}

// watchExit notices a node that ends without being asked (hypothesis H1: the
// daemon dies silently) and keeps how it ended.
func (h *host) watchExit(ctx context.Context) {
	tick := time.NewTicker(exitEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var exit exitRecord
		found, err := h.readJSON(ctx, "exit.json", &exit)
		if err != nil && ctx.Err() == nil {
			h.log.Warn("look for the node's end", "err", err)
		}
		if !found {
			continue
		}
		if !exit.Asked {
			h.endedUnasked(exit.Exit)
		}
		return
	}
}

// exitRecord is what a supervisor writes of its node's end.
type exitRecord struct {
	evidence.Exit
	Asked bool `json:"asked"` // somebody had asked for it
}

// endedUnasked writes down that the node ended and nobody had asked for it.
func (h *host) endedUnasked(exit evidence.Exit) {
	h.node.mu.Lock()
	known := h.node.exit != nil
	h.node.exit = &exit
	h.node.mu.Unlock()
	if !known {
		h.run.talk.Note(fmt.Sprintf("%s: the node ended: %s", h.Name, describe(exit)))
		h.run.note(evidence.NodeExited, h.Name, exit)
	}
}

func describe(e evidence.Exit) string {
	how := fmt.Sprintf("exit %d", e.Code)
	if e.Signal != "" {
		how = "signal " + e.Signal
	}
	if e.Lease {
		how += ", the suite's lease had lapsed"
	}
	if e.Tail != "" {
		how += "; its last words: " + lastWords([]byte(e.Tail))
	}
	return how
}

// lastWords are the last line of a text, with the one before it where the last
// is only a hint.
func lastWords(text []byte) string {
	last := lastLine(text)
	if rest, ok := bytes.CutSuffix(bytes.TrimSpace(text), []byte(last)); ok && strings.Contains(last, "hint: ") && len(rest) > 0 {
		return lastLine(rest) + " " + last
	}
	return last
}

// read is how much of the node's events has been fetched.
func (n *node) read() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.offset
}

func (n *node) ended() *evidence.Exit {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.exit
}

// alive forgets the end of an earlier start.
func (n *node) alive() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.exit = nil
}

// said gives a copy of all events so far.
func (n *node) said() []wire.Event {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]wire.Event(nil), n.events...)
}
