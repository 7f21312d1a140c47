package matrix

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/wire"
)

// event is a line of a trace.
func event(t *testing.T, name evidence.Name, host string, data any) evidence.Event {
	t.Helper()
	raw, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	return evidence.Event{TS: time.Now(), Name: name, Host: host, Data: raw}
}

// story is a trace of a donor that gets out and is upgraded, by relative times.
func story(t *testing.T) []evidence.Event {
	zero := time.Date(2026, 11, 26, 1, 0, 0, 0, time.UTC)
	at := func(ms int) time.Time { return zero.Add(time.Duration(ms) * time.Millisecond) }
	says := func(host string, e wire.Event) evidence.Event { return event(t, evidence.NodeSaid, host, e) }
	up := func(host, role, peer string) evidence.Event {
		return event(t, evidence.NodeUp, host, evidence.NodeStart{Role: role, PeerID: peer})
	}
	return []evidence.Event{
		event(t, evidence.RunStarted, "", evidence.Started{Hosts: []evidence.Host{{Name: "d", Role: donor}, {Name: "s", Role: submitter}, {Name: "r", Role: relay}}}),
		up("r", relay, "R"), up("s", submitter, "S"), up("d", donor, "D"),
		says("d", wire.Event{Kind: wire.NodeStarted, Time: at(0)}),
		says("d", wire.Event{Kind: wire.DialEnded, Time: at(10), Transport: "quic-v1", Outcome: wire.Failed, Failure: "quic_idle_timeout"}),
		says("d", wire.Event{Kind: wire.ConnOpened, Time: at(300), Boot: "b", Conn: "c1", Peer: "R", Transport: "wss", Route: "http://proxy:3128"}),
		says("d", wire.Event{Kind: wire.ReservationMade, Time: at(345), Boot: "b", Conn: "c1", Relay: "R"}),
		event(t, evidence.HoldStarted, "d", evidence.Hold{}),
		says("d", wire.Event{Kind: wire.ConnOpened, Time: at(900), Boot: "b", Conn: "c2", Peer: "other", Transport: "tcp"}), // a probe: no upgrade
		says("d", wire.Event{Kind: wire.ConnOpened, Time: at(1000), Boot: "b", Conn: "c3", Peer: "S", Relay: "R", Transport: "circuit"}),
		says("d", wire.Event{Kind: wire.ConnOpened, Time: at(1290), Boot: "b", Conn: "c4", Peer: "S", Transport: "tcp"}),
		event(t, evidence.NodeStatus, "d", wire.Status{Way: &wire.WayStatus{Why: "it was the first"}}),
		event(t, evidence.RunEnded, "", evidence.Ended{How: "finished"}),
	}
}

func TestATraceTellsWhatWasSeen(t *testing.T) {
	results := evidence.Results{Assertions: []evidence.Assertion{{Name: evidence.HoldClaim, Verdict: evidence.Fail, Observed: "it closed"}, {Name: evidence.JobClaim, Verdict: evidence.Pass, Observed: "fine"}}}
	s := See(story(t), results)
	if !s.Join || s.Phase != Done || s.ReservedMS != 345 || s.DirectMS != 290 || s.Route != "http://proxy:3128" || s.Way != "it was the first" {
		t.Errorf("seen %+v", s)
	}
	if list(s.Transports) != "wss" || list(s.Direct) != "tcp" {
		t.Errorf("transports %v, direct %v", s.Transports, s.Direct)
	}
	if s.Verdicts[evidence.HoldClaim] != evidence.Fail || s.Observed[evidence.HoldClaim] != "it closed" || s.Observed[evidence.JobClaim] != "" {
		t.Errorf("verdicts %v, observed %v", s.Verdicts, s.Observed)
	}
}

func TestADonorThatGotOutToNobodyTellsHowItFailed(t *testing.T) {
	s := See(story(t)[:6], evidence.Results{})
	if s.Join || s.Phase != Join || s.Way != "nothing got out: quic-v1: quic_idle_timeout" {
		t.Errorf("seen %+v", s)
	}
}

func TestARelayBehindAnInterceptorThatIsRefusedIsNotJoined(t *testing.T) {
	events := story(t)[:7]
	if !See(events, evidence.Results{}).Join {
		t.Fatal("the relay was joined to begin with")
	}
	events = append(events, event(t, evidence.NodeSaid, "d", wire.Event{Kind: wire.RelayInspected, Boot: "b", Conn: "c1", Relay: "R", Outcome: wire.Failed}))
	if See(events, evidence.Results{}).Join {
		t.Error("it still is")
	}
}

func TestAfterEveryEventAWatcherSaysHowFarTheRunIs(t *testing.T) {
	w := NewWatcher()
	var phases []string
	for _, e := range story(t) {
		w.Take(e)
		if p := string(w.Seen().Phase); len(phases) == 0 || phases[len(phases)-1] != p {
			phases = append(phases, p)
		}
	}
	if got := strings.Join(phases, ", "); got != "deploy, join, controls, hold, done" {
		t.Errorf("phases %s", got)
	}
}

func TestHoldsOverlapAndStartsDoNot(t *testing.T) {
	events := story(t)
	synctest.Test(t, func(t *testing.T) {
		cells := Place(Cells([]string{"a", "b", "c", "d", "e", "f"}, 1))
		var busy, held, mostBusy, mostHeld atomic.Int32
		run := func(_ context.Context, _ Cell, p *Progress) Outcome {
			most(&mostBusy, busy.Add(1))
			time.Sleep(3 * time.Second)
			for _, e := range events {
				if e.Name == evidence.HoldStarted {
					busy.Add(-1)
					most(&mostHeld, held.Add(1))
				}
				p.Take(e)
				if e.Name == evidence.HoldStarted {
					time.Sleep(time.Minute)
				}
			}
			held.Add(-1)
			return Outcome{Seen: Seen{Phase: Done}}
		}
		got := Schedule{Busy: 2}.Play(t.Context(), cells, run, nil)
		if mostBusy.Load() != 2 || mostHeld.Load() != 6 {
			t.Errorf("%d busy at once, want 2; %d held at once, want 6", mostBusy.Load(), mostHeld.Load())
		}
		for i, o := range got {
			if o.Place != i || o.Cell != cells[i].Cell {
				t.Errorf("place %d has %s of place %d", i, o.Cell, o.Place)
			}
		}
	})
}

func TestADonorThatFindsNoWayKeepsNobodyFromStarting(t *testing.T) {
	events := story(t)[:6]
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		run := func(_ context.Context, c Cell, p *Progress) Outcome {
			if c.Donor == "lucky" {
				return Outcome{TookMS: 1}
			}
			for _, e := range events {
				p.Take(e)
			}
			time.Sleep(time.Hour)
			return Outcome{}
		}
		got := Schedule{Busy: 1}.Play(t.Context(), Place(Cells([]string{"stuck", "lucky"}, 1)), run, nil)
		if wait := got[1].Began.Sub(began); wait != joinPatience {
			t.Errorf("the second began after %s, want %s", wait, joinPatience)
		}
	})
}

func TestAnInterruptedMatrixStartsNothingMore(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	var mu sync.Mutex
	var ran []string
	run := func(_ context.Context, c Cell, _ *Progress) Outcome {
		mu.Lock()
		defer mu.Unlock()
		ran = append(ran, c.Donor)
		cancel(errors.New("enough"))
		return Outcome{Seen: Seen{Phase: Done}}
	}
	got := Schedule{Jobs: 1, Busy: 1}.Play(ctx, Place(Cells([]string{"a", "b", "c"}, 1)), run, nil)
	if len(ran) != 1 || got[0].State() != AsExpected {
		t.Errorf("ran %v, the first %s", ran, got[0].State())
	}
	for _, o := range got[1:] {
		if o.State() != Failed || !strings.Contains(o.Err, "enough") {
			t.Errorf("%s: %s, %q", o.Cell, o.State(), o.Err)
		}
	}
}

// most raises a high-water mark.
func most(mark *atomic.Int32, n int32) {
	for old := mark.Load(); n > old && !mark.CompareAndSwap(old, n); old = mark.Load() {
	}
}

func TestTheLiveTableTellsOfEachEndOnce(t *testing.T) {
	events := story(t)
	synctest.Test(t, func(t *testing.T) {
		for _, terminal := range []bool{false, true} {
			var out syncBuffer
			live := &Live{Out: &out, Terminal: terminal, Hold: 20 * time.Second}
			var stop func()
			run := func(_ context.Context, c Cell, p *Progress) Outcome {
				for _, e := range events[:len(events)-1] {
					p.Take(e)
				}
				time.Sleep(45 * time.Second)
				return Outcome{Seen: Seen{Phase: Done, Transports: []string{"wss"}, ReservedMS: 345}}
			}
			Schedule{Busy: 2}.Play(t.Context(), Place(Cells([]string{"alpha", "beta"}, 1)), run, func(all []*Progress) { stop = live.Watch(all) })
			stop()
			text := out.String()
			for _, name := range []string{"alpha", "beta"} {
				if n := strings.Count(text, "ok       "+name+": wss after 345 ms\n"); n != 1 {
					t.Errorf("terminal %t: %s is told of %d times:\n%s", terminal, name, n, text)
				}
			}
			if !strings.Contains(text, "2 cells, 2 under way") {
				t.Errorf("terminal %t: no summary:\n%s", terminal, text)
			}
			if drawn := strings.Contains(text, "reserved over wss after 345 ms"); drawn != terminal {
				t.Errorf("terminal %t: rows of cells under way: %t", terminal, drawn)
			}
		}
	})
}

type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
