package node

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/worldcompute/wce2e/node/wire"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestNothingFollowsTheLastEvent(t *testing.T) {
	var out bytes.Buffer
	rec := newRecorder(&out, discard())
	rec.Record(wire.Event{Kind: wire.NodeStarted})
	rec.Record(wire.Event{Kind: wire.NodeStopped})
	rec.Record(wire.Event{Kind: wire.Reachability, Detail: "public"})
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[1], `"seq":2`) || !strings.Contains(lines[1], string(wire.NodeStopped)) {
		t.Errorf("written: %q", lines)
	}
}

func TestAnEventIsOneWriteAndKeepsItsCharacters(t *testing.T) {
	var w countingWriter
	rec := newRecorder(&w, discard())
	rec.Record(wire.Event{Kind: wire.DialEnded, Err: "a <b> & c\nd"})
	if w.writes != 1 || !strings.HasSuffix(w.String(), "\n") || strings.Count(w.String(), "\n") != 1 {
		t.Errorf("%d writes: %q", w.writes, w.String())
	}
	if !strings.Contains(w.String(), `a <b> & c\nd`) {
		t.Errorf("written: %s", w.String())
	}
}

type countingWriter struct {
	bytes.Buffer
	writes int
}

func (w *countingWriter) Write(b []byte) (int, error) {
	w.writes++
	return w.Buffer.Write(b)
}

func TestTheLogNamesAListenAddressAsOtherDaemonsDo(t *testing.T) {
	var text bytes.Buffer
	rec := newRecorder(&bytes.Buffer{}, slog.New(slog.NewTextHandler(&text, nil)))
	addr := "/ip4/1.2.3.4/tcp/443/tls/ws/p2p/" + somebody + "/p2p-circuit/p2p/" + somebody
	rec.Record(wire.Event{Kind: wire.ListenAddr, Addr: addr})
	if want := "msg=NewListenAddr(" + addr + ") "; !strings.Contains(text.String(), want) {
		t.Errorf("log: %s", text.String())
	}
}

func TestDialsAreLoggedAtTheDefaultLevel(t *testing.T) {
	for _, kind := range []wire.Kind{wire.DialStarted, wire.DialEnded} {
		for _, outcome := range []wire.Outcome{"", wire.OK, wire.Failed, wire.Aborted} {
			if l := eventLevel(wire.Event{Kind: kind, Outcome: outcome}); l < slog.LevelInfo {
				t.Errorf("%s %s is at level %s", kind, outcome, l)
			}
		}
	}
}

func TestBooksWithAGapOrAnOpenDialAreNotInOrder(t *testing.T) {
	good := []wire.Event{
		{Seq: 1, Kind: wire.DialStarted, Dial: "d1"},
		{Seq: 2, Kind: wire.DialEnded, Dial: "d1", Outcome: wire.OK},
		{Seq: 3, Kind: wire.NodeStopped},
	}
	if p := bookProblems(good); len(p) > 0 {
		t.Errorf("good books: %v", p)
	}
	for name, bad := range map[string][]wire.Event{
		"a gap":                 {good[0], good[1], {Seq: 4, Kind: wire.NodeStopped}},
		"a dial without end":    {good[0], {Seq: 2, Kind: wire.NodeStopped}},
		"a dial with two ends":  {good[0], good[1], {Seq: 3, Kind: wire.DialEnded, Dial: "d1", Outcome: wire.OK}, {Seq: 4, Kind: wire.NodeStopped}},
		"a dial without reason": {good[0], {Seq: 2, Kind: wire.DialEnded, Dial: "d1", Outcome: wire.Failed}, good[2]},
		"no last event":         good[:2],
	} {
		if len(bookProblems(bad)) == 0 {
			t.Errorf("%s went unnoticed", name)
		}
	}
}
