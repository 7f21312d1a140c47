package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/worldcompute/wce2e/node/wire"
)

// patience is how long a test waits for something that must happen.
const patience = 15 * time.Second

// await waits for a condition, and fails with what it awaited.
func await(t testing.TB, what string, ready func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ready() {
			return
		}
	}
	t.Fatalf("awaited for %s in vain: %s", patience, what)
}

// logText is a log that can be read while it is written.
type logText struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// testNode is a node in this process.
type testNode struct {
	*node
	t       testing.TB
	logText *logText
	stopped sync.Once
}

// newDir is a short path: that of a test's own would not fit a socket address.
func newDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "node")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// startNode runs a node on loopback. At its end, its books are checked.
func startNode(t testing.TB, cfg Config) *testNode {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = newDir(t)
	}
	if len(cfg.Listen) == 0 {
		cfg.Listen = []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"}
		if cfg.Relay {
			cfg.Listen = append(cfg.Listen, "/ip4/127.0.0.1/tcp/0/tls/ws")
		}
	}
	cfg.NoBootstrap = cfg.NoBootstrap || len(cfg.Bootstrap) == 0
	text := &logText{}
	cfg.Log = slog.New(slog.NewTextHandler(text, &slog.HandlerOptions{Level: slog.LevelDebug}))
	n, err := start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	tn := &testNode{node: n, t: t, logText: text}
	t.Cleanup(tn.end)
	return tn
}

// end stops the node and checks its books.
func (n *testNode) end() {
	n.stopped.Do(func() {
		if err := n.stop("test"); err != nil {
			n.t.Errorf("stop: %v", err)
		}
		checkBooks(n.t, readEvents(n.t, n.cfg.Dir))
		if n.t.Failed() {
			n.t.Logf("log of %s:\n%s", n.cfg.Dir, n.logText)
		}
	})
}

func (n *testNode) events() []wire.Event { return readEvents(n.t, n.cfg.Dir) }

// find are the events so far that fit.
func (n *testNode) find(fits func(wire.Event) bool) []wire.Event {
	return slices.DeleteFunc(n.events(), func(ev wire.Event) bool { return !fits(ev) })
}

func (n *testNode) kind(k wire.Kind) []wire.Event {
	return n.find(func(ev wire.Event) bool { return ev.Kind == k })
}

// awaitEvent waits for the first event that fits.
func (n *testNode) awaitEvent(what string, fits func(wire.Event) bool) wire.Event {
	n.t.Helper()
	var found wire.Event
	await(n.t, what, func() bool {
		all := n.find(fits)
		if len(all) > 0 {
			found = all[0]
		}
		return len(all) > 0
	})
	return found
}

// addr is the node's address over one transport, with its peer ID.
func (n *testNode) addr(transport string) string {
	n.t.Helper()
	for _, a := range n.addrs.withSelf(n.addrs.interfaces()) {
		if transportOf(a) == transport {
			return a.String()
		}
	}
	n.t.Fatalf("the node does not listen on %s", transport)
	return ""
}

// through waits for the address that leads to n through relay.
func (n *testNode) through(relay *testNode) string {
	n.t.Helper()
	return n.throughPeer(relay.host.ID())
}

// throughPeer is through for a relay that is no node of ours.
func (n *testNode) throughPeer(relay peer.ID) string {
	n.t.Helper()
	return n.awaitEvent("an address through the relay", func(ev wire.Event) bool {
		return ev.Kind == wire.ListenAddr && ev.Relay == relay.String()
	}).Addr
}

func readEvents(t testing.TB, dir string) []wire.Event {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, eventsFile))
	if err != nil {
		t.Fatal(err)
	}
	var out []wire.Event
	for line := range strings.Lines(string(raw)) {
		if !strings.HasSuffix(line, "\n") {
			break // being written
		}
		var ev wire.Event
		if err := json.Unmarshal([]byte(line), &ev); err != nil {
			t.Fatalf("event %q: %v", line, err)
		}
		out = append(out, ev)
	}
	return out
}

// checkBooks fails unless the events of a node that has ended are complete.
func checkBooks(t testing.TB, events []wire.Event) {
	t.Helper()
	for _, problem := range bookProblems(events) {
		t.Error(problem)
	}
}

func bookProblems(events []wire.Event) (problems []string) {
	bad := func(format string, a ...any) { problems = append(problems, fmt.Sprintf(format, a...)) }
	seq, boot := uint64(0), ""
	open := map[string]wire.Kind{} // dials, connections and addresses that have begun
	begin := map[wire.Kind]bool{wire.DialStarted: true, wire.ConnOpened: true, wire.ListenAddr: true}
	end := map[wire.Kind]wire.Kind{wire.DialEnded: wire.DialStarted, wire.ConnClosed: wire.ConnOpened, wire.ListenClosed: wire.ListenAddr}
	ids := map[string]bool{}
	for _, ev := range events {
		if ev.Boot != boot {
			seq, boot = 0, ev.Boot
		}
		seq++
		if ev.Seq != seq {
			bad("event %d of boot %s has number %d", seq, boot, ev.Seq)
		}
		id := string(ev.Dial)
		switch {
		case ev.Kind == wire.ConnOpened || ev.Kind == wire.ConnClosed:
			id = ev.Conn
		case ev.Kind == wire.ListenAddr || ev.Kind == wire.ListenClosed:
			id = ev.Addr
		}
		if begin[ev.Kind] {
			if ids[id] && ev.Kind != wire.ListenAddr {
				bad("%s %s: the name was used before", ev.Kind, id)
			}
			ids[id], open[id] = true, ev.Kind
		}
		if begun := end[ev.Kind]; begun != "" {
			if open[id] != begun {
				bad("%s %s: it had not begun, or had ended", ev.Kind, id)
			}
			delete(open, id)
		}
		if ev.Kind == wire.DialEnded {
			if ev.Outcome == "" || (ev.Outcome != wire.OK) != (ev.Failure != "" && ev.Err != "") {
				bad("dial %s: outcome %q, failure %q, err %q", ev.Dial, ev.Outcome, ev.Failure, ev.Err)
			}
		}
	}
	for id, kind := range open {
		bad("%s %s: has no end", kind, id)
	}
	if len(events) == 0 || events[len(events)-1].Kind != wire.NodeStopped {
		bad("the last event is not %s", wire.NodeStopped)
	}
	return problems
}

// short is a context for one step of a test.
func short(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func discardTo(l *logText) *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// randomPeer is a peer ID of nobody.
func randomPeer(t testing.TB) peer.ID {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
