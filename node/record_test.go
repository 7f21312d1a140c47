package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

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

// written reads back what a recorder wrote, and fails where a line is none.
func written(t *testing.T, text string) (out []wire.Event) {
	t.Helper()
	for line := range strings.Lines(text) {
		var ev wire.Event
		if err := json.Unmarshal([]byte(line), &ev); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		out = append(out, ev)
	}
	return out
}

func TestAnEventThatCannotBeWrittenLeavesNoGap(t *testing.T) {
	var out bytes.Buffer
	text := &logText{}
	rec := newRecorder(&out, discardTo(text))
	rec.Record(wire.Event{Kind: wire.NodeStarted})
	rec.Record(wire.Event{Kind: wire.RelayPing, MS: math.Inf(1)})
	rec.Record(wire.Event{Kind: wire.NodeStopped})
	got := written(t, out.String())
	if len(got) != 2 || got[1].Seq != 2 || got[1].Kind != wire.NodeStopped {
		t.Errorf("written: %+v", got)
	}
	if !strings.Contains(text.String(), "cannot be written") {
		t.Errorf("log: %s", text)
	}
}

// fullDisk takes the first bytes of a line and fails, as often as told.
type fullDisk struct {
	bytes.Buffer
	fails, takes int
}

func (d *fullDisk) Write(b []byte) (int, error) {
	if d.fails == 0 {
		return d.Buffer.Write(b)
	}
	d.fails--
	n, _ := d.Buffer.Write(b[:d.takes])
	return n, errors.New("no space left")
}

func TestALineThatWasTornDoesNotSpoilTheNext(t *testing.T) {
	for _, takes := range []int{0, 1, 5} {
		text, out := &logText{}, &fullDisk{takes: takes}
		rec := newRecorder(out, discardTo(text))
		rec.Record(wire.Event{Kind: wire.NodeStarted})
		for _, fails := range []int{2, 1} {
			out.fails = fails
			for range fails {
				rec.Record(wire.Event{Kind: wire.Reachability})
			}
			rec.Record(wire.Event{Kind: wire.NodeStopping})
		}
		whole := 0
		for line := range strings.Lines(out.String()) {
			if json.Valid([]byte(line)) {
				whole++
			}
		}
		if whole != 3 {
			t.Errorf("of a line's %d bytes on: %d lines are whole: %q", takes, whole, out.String())
		}
		if said := strings.Count(text.String(), "events are being lost"); said != 2 {
			t.Errorf("two losses were told %d times", said)
		}
	}
}

func TestWhatOthersSayIsCut(t *testing.T) {
	var out bytes.Buffer
	rec := newRecorder(&out, discard())
	long := strings.Repeat("é", 1<<20)
	rec.Record(wire.Event{Kind: wire.JobEnded, Task: long, Detail: long, Err: "x" + long, Expires: time.Unix(1<<60, 0)})
	rec.Record(wire.Event{Kind: wire.ReservationMade, Expires: time.Date(-5, 1, 1, 0, 0, 0, 0, time.UTC)})
	got := written(t, out.String())
	if len(got) != 2 {
		t.Fatalf("%d events", len(got))
	}
	ev := got[0]
	if len(ev.Task) != maxEventText || len(ev.Detail) != maxEventText || len(ev.Err) != maxEventErr-1 || !strings.HasSuffix(ev.Err, "é") {
		t.Errorf("task %d, detail %d, err %d bytes", len(ev.Task), len(ev.Detail), len(ev.Err))
	}
	if ev.Expires.Year() != 9999 || !got[1].Expires.IsZero() {
		t.Errorf("expires %s, %s", ev.Expires, got[1].Expires)
	}
}

func TestTheErrorOfAJobIsRecordedAsItIsAnswered(t *testing.T) {
	var out bytes.Buffer
	rec := newRecorder(&out, discard())
	why := strings.Repeat("w", 1<<20)
	recordJobEnd(rec, wire.Event{}, wire.TaskDispatchResponse{Status: wire.TaskFailed, Error: &why})
	if got := written(t, out.String()); len(got) != 1 || len(got[0].Err) != wire.MaxError {
		t.Errorf("%d bytes were written", out.Len())
	}
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
