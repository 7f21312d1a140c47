package matrix

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Live tells a person how a matrix goes while it runs: on a terminal a table that
// is drawn anew every second, else a line for each cell that has ended and a
// summary now and then. All of it comes from the runs' own events.
type Live struct {
	Out      io.Writer
	Terminal bool
	Size     func() (width, height int) // of the terminal
	Hold     time.Duration

	cells   []*Progress
	told    map[*Progress]bool
	drawn   int // lines on the screen that are ours
	summary time.Time
}

// liveEvery is how often the table is drawn; summaryEvery how often lines that do
// not move sum up.
const (
	liveEvery    = time.Second
	summaryEvery = 30 * time.Second
)

// Watch tells of cells until the func it returns is called.
func (l *Live) Watch(cells []*Progress) (stop func()) {
	l.cells, l.told, l.summary = cells, map[*Progress]bool{}, time.Now()
	done := make(chan struct{})
	var drawing sync.WaitGroup
	drawing.Go(func() {
		tick := time.NewTicker(liveEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				l.clear()
				l.tell()
				return
			case now := <-tick.C:
				l.show(now)
			}
		}
	})
	return sync.OnceFunc(func() { close(done); drawing.Wait() })
}

func (l *Live) show(now time.Time) {
	if !l.Terminal {
		l.tell()
		if now.Sub(l.summary) >= summaryEvery {
			l.summary = now
			fmt.Fprintln(l.Out, "    "+l.counts())
		}
		return
	}
	l.clear()
	l.tell()
	l.draw(now)
}

// clear takes the table off the screen again, so that lines that stay may come
// in its place.
func (l *Live) clear() {
	if l.drawn > 0 {
		fmt.Fprintf(l.Out, "\x1b[%dA\x1b[J", l.drawn)
		l.drawn = 0
	}
}

// tell writes a line for each cell that has ended since the last time.
func (l *Live) tell() {
	for _, p := range l.cells {
		_, _, o := p.Now()
		if o == nil || l.told[p] {
			continue
		}
		l.told[p] = true
		fmt.Fprintf(l.Out, "%-8s %s%s\n", mark(o.State()), o.Cell, summed(*o))
		for _, line := range o.told() {
			fmt.Fprintf(l.Out, "         %s\n", line)
		}
	}
}

// summed is the rest of a line that tells of a cell that has ended.
func summed(o Outcome) string {
	if o.Err != "" {
		return ""
	}
	if len(o.Seen.Transports) == 0 {
		return ": no reservation"
	}
	s := fmt.Sprintf(": %s after %s", list(o.Seen.Transports), took(o.Seen.ReservedMS))
	if len(o.Seen.Direct) > 0 {
		s += ", direct by " + direct(o.Seen)
	}
	return s
}

// draw writes the table of the cells under way, as many as the screen has room for.
func (l *Live) draw(now time.Time) {
	width, height := 100, 24
	if l.Size != nil {
		if w, h := l.Size(); w > 0 && h > 0 {
			width, height = w, h
		}
	}
	lines := []string{l.counts()}
	for _, p := range l.cells {
		seen, began, o := p.Now()
		if o != nil || began.IsZero() {
			continue
		}
		if len(lines) == height-2 {
			lines = append(lines, "...")
			break
		}
		lines = append(lines, l.row(p.Cell, seen, now.Sub(began)))
	}
	for _, line := range lines {
		fmt.Fprintln(l.Out, cut(line, width-1))
	}
	l.drawn = len(lines)
}

func (l *Live) row(c Cell, s Seen, since time.Duration) string {
	phase := string(s.Phase)
	if s.Phase == Holding {
		phase = fmt.Sprintf("hold %s of %s", (time.Duration(s.HeldMS) * time.Millisecond).Round(time.Second), l.Hold)
	}
	words := []string{fmt.Sprintf("  %-28s %5s  %-18s", c, since.Round(time.Second), phase)}
	if len(s.Transports) > 0 {
		words = append(words, fmt.Sprintf("reserved over %s after %s", list(s.Transports), took(s.ReservedMS)))
	}
	if len(s.Direct) > 0 {
		words = append(words, "direct by "+direct(s))
	}
	return strings.Join(words, " ")
}

func (l *Live) counts() string {
	n := map[string]int{}
	for _, p := range l.cells {
		_, began, o := p.Now()
		switch {
		case o != nil:
			n[string(o.State())]++
		case began.IsZero():
			n["waiting"]++
		default:
			n["under way"]++
		}
	}
	parts := []string{fmt.Sprintf("%d cells", len(l.cells))}
	for _, what := range []string{string(AsExpected), string(Differs), string(Failed), "under way", "waiting"} {
		if n[what] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n[what], what))
		}
	}
	return strings.Join(parts, ", ")
}

func cut(s string, width int) string {
	if r := []rune(s); len(r) > width {
		return string(r[:max(width, 0)])
	}
	return s
}
