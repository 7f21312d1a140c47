package report

import (
	"fmt"
	"slices"
	"time"
)

// laneChart is the drawing of every host's events on the suite's clock.
type laneChart struct {
	Missing string
	Width   float64
	Height  float64
	Top     float64
	Left    float64
	Right   float64
	X       []tick
	Hold    band // W is 0 without a hold
	Lanes   []lane
	Flags   []callout
	Note    string
}

// lane is one host.
type lane struct {
	Name, Role string
	Y, H       float64
	Rows       []laneRow
}

// laneRow is one kind of thing on a host: its dials, say.
type laneRow struct {
	Label string
	Y, H  float64
	Bars  []bar
}

type bar struct {
	X, Y, W, H float64
	Class      string
	Title      string
	Seq        uint64
}

// Sizes of the drawing, in pixels of its own scale.
const (
	laneLeft   = 190.0
	laneRight  = 1100.0
	laneBottom = 26.0 // the labels of the time axis
	barHeight  = 7.0
	barPitch   = 9.0
	leastWidth = 3.0 // a dial of a millisecond is seen as well
	leastLane  = 40.0
)

// maxBars bounds what is drawn of one kind on one host.
const maxBars = 1500

func (s *story) laneChart() laneChart {
	c := laneChart{Width: 1120, Left: laneLeft, Right: laneRight}
	x := timeAxis{axis{low: 0, high: max(0.1, s.to.Sub(s.from).Seconds()), at: laneLeft, to: laneRight}, s.from}
	flags, extra := stagger(s.laneFlags(x))
	c.Flags, c.Top = flags, 4
	if len(flags) > 0 {
		c.Top = flagTop + flagRow*float64(flagRows+extra) - 10
	}
	y, hidden := c.Top+4, 0
	for _, h := range s.hosts {
		l, skipped := s.laneOf(h, x, y)
		hidden += skipped
		if len(l.Rows) == 0 {
			continue
		}
		c.Lanes = append(c.Lanes, l)
		y += l.H
	}
	if len(c.Lanes) == 0 {
		return laneChart{Missing: "No node said anything."}
	}
	c.Height = y + laneBottom
	c.X = x.ticks(10)
	start, end := s.hold()
	if start != nil {
		until := s.to
		if end != nil {
			until = end.at
		}
		c.Hold = band{x.x(start.at), max(1, round(x.x(until)-x.x(start.at)))}
	}
	if hidden > 0 {
		c.Note = fmt.Sprintf("%d more are not drawn; the tables and the trace have them.", hidden)
	}
	return c
}

// HoldHeight is how far down the hold is shaded.
func (c laneChart) HoldHeight() float64 { return round(c.Height - c.Top - laneBottom) }

func (s *story) laneFlags(x timeAxis) []callout {
	flags := s.faultFlags(x)
	for _, e := range s.exits {
		flags = append(flags, callout{X: x.x(e.at), Class: "closed", Label: e.host + " died", Seq: e.seq})
	}
	return flags
}

// laneOf draws one host from y on, and tells how much it left out.
func (s *story) laneOf(h *host, x timeAxis, y float64) (lane, int) {
	l := lane{Name: h.name, Role: h.said.Role, Y: y}
	at, hidden := y+8, 0
	for _, k := range kinds {
		spans := s.spansOf(h, k)
		if len(spans) > maxBars {
			hidden += len(spans) - maxBars
			spans = spans[:maxBars]
		}
		if len(spans) == 0 {
			continue
		}
		row := pack(spans, k.rows, x, at)
		row.Label = k.label
		l.Rows = append(l.Rows, row)
		at += row.H + 3
	}
	l.H = max(at-y+5, leastLane)
	return l, hidden
}

// kind is a kind of thing that starts and ends with events of a node.
type kind struct {
	label  string
	opens  []string
	closes []string
	key    func(said) string
	class  func(s *story, h *host, open, end *moment) string
	rows   int // at most, when many are on at once
}

func always(class string) func(*story, *host, *moment, *moment) string {
	return func(*story, *host, *moment, *moment) string { return class }
}

var kinds = []kind{
	{"node", []string{"node.started"}, []string{"node.stopped"}, func(e said) string { return "" }, always("node"), 1},
	{"dials", []string{"dial.started"}, []string{"dial.ended"}, func(e said) string { return e.Dial }, dialClass, 8},
	{"connections", []string{"conn.opened"}, []string{"conn.closed"}, func(e said) string { return e.Conn }, connClass, 8},
	{"reservation", []string{"reservation.made"}, []string{"reservation.lost"}, func(e said) string { return e.Relay }, always("reservation"), 3},
	{"grants", []string{"relay.reservation"}, nil, nil, grantClass, 2},
	{"circuits", []string{"relay.circuit.opened"}, []string{"relay.circuit.closed"}, func(e said) string { return e.Circuit }, always("circuit"), 4},
	{"hole punches", []string{"holepunch"}, nil, nil, grantClass, 2},
	{"jobs", []string{"job.sent", "job.received"}, []string{"job.ended"}, func(e said) string { return e.Task }, jobClass, 3},
}

func dialClass(_ *story, _ *host, _, end *moment) string {
	if end == nil {
		return "open"
	}
	return outcomeClass(end.Outcome)
}

func outcomeClass(outcome string) string {
	switch outcome {
	case "ok", "failed", "aborted":
		return outcome
	}
	return "open"
}

func connClass(s *story, h *host, open, _ *moment) string {
	// Connections are numbered per node, so the host counts too.
	if start, _ := s.hold(); start != nil && open.Conn != "" && open.Conn == start.data.Conn && h.name == start.host {
		return "held"
	}
	if open.Relay != "" {
		return "circuit"
	}
	return "conn"
}

func grantClass(_ *story, _ *host, open, _ *moment) string { return outcomeClass(open.Outcome) }

func jobClass(_ *story, _ *host, _, end *moment) string {
	switch {
	case end == nil:
		return "open"
	case end.Status == "Succeeded":
		return "ok"
	}
	return "failed"
}

// timespan is one bar before it has a place.
type timespan struct {
	from, to time.Time
	class    string
	title    string
	seq      uint64
}

// spansOf pairs the starts and ends of a kind. A thing without an end lasts as
// long as its node.
func (s *story) spansOf(h *host, k kind) []timespan {
	type open struct {
		index int
		start *moment
	}
	var list []timespan
	running := map[string]open{}
	ends := s.ends(h)
	for i := range h.events {
		m := &h.events[i]
		switch {
		case slices.Contains(k.opens, m.Kind) && k.key == nil:
			list = append(list, timespan{m.at, m.at, k.class(s, h, m, nil), s.title(m, nil), m.seq})
		case slices.Contains(k.opens, m.Kind):
			if _, again := running[m.Boot+"/"+k.key(m.said)]; again && m.Renewal {
				continue
			}
			running[m.Boot+"/"+k.key(m.said)] = open{len(list), m}
			list = append(list, timespan{m.at, ends[m.Boot], k.class(s, h, m, nil), s.title(m, nil), m.seq})
		case slices.Contains(k.closes, m.Kind):
			o, ok := running[m.Boot+"/"+k.key(m.said)]
			if !ok {
				continue
			}
			delete(running, m.Boot+"/"+k.key(m.said))
			list[o.index] = timespan{o.start.at, m.at, k.class(s, h, o.start, m), s.title(o.start, m), m.seq}
		}
	}
	return list
}

// ends gives, for each start of a host's node, when it was over, as far as the
// trace tells.
func (s *story) ends(h *host) map[string]time.Time {
	ends := map[string]time.Time{}
	last, stopped := "", false
	for i := range h.events {
		last = h.events[i].Boot
		ends[last] = h.events[i].at
		stopped = h.events[i].Kind == "node.stopped"
	}
	if stopped {
		return ends
	}
	over := s.to
	for _, e := range s.exits {
		if e.host == h.name && !e.at.Before(ends[last]) {
			over = e.at
		}
	}
	ends[last] = over
	return ends
}

func (s *story) title(start, end *moment) string {
	t := s.since(start.at) + "  " + start.Kind + "  " + s.sayNode(start.said)
	if end != nil {
		t += "\n" + s.since(end.at) + "  " + end.Kind + "  " + s.sayNode(end.said)
	}
	return t
}

// pack puts the bars into as few rows as keep them apart; where there are more
// at once than rows, the last row takes the rest.
func pack(spans []timespan, rows int, x timeAxis, y float64) laneRow {
	free := make([]float64, rows) // where each row is free from
	used := 1
	row := laneRow{Y: y}
	for _, t := range spans {
		at := x.x(t.from)
		w := max(leastWidth, round(x.x(t.to)-at))
		n := 0
		for n < rows-1 && free[n] > at {
			n++
		}
		free[n] = max(free[n], at+w+1)
		used = max(used, n+1)
		row.Bars = append(row.Bars, bar{at, round(y + float64(n)*barPitch), w, barHeight, t.class, t.title, t.seq})
	}
	row.H = float64(used) * barPitch
	return row
}
