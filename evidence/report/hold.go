package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/worldcompute/wce2e/evidence"
)

// holdChart is the drawing of the hold: one dot for each liveness round trip of
// the donor.
type holdChart struct {
	Missing string // why there is nothing to draw; then the rest is empty
	Caption string
	Page    string // where the links lead; empty: they stay on the page
	Stats   []fact
	Width   float64
	Height  float64
	Base    float64 // y of 0 ms
	Top     float64
	Left    float64
	Right   float64
	X, Y    []tick
	Bar     band   // the hold itself
	Dead    []band // the donor's link was cut
	Lines   []string
	Dots    []dot
	Flags   []callout
}

// fact is a name and a value in words.
type fact struct{ Name, Value string }

type band struct{ X, W float64 }

type dot struct {
	X, Y  float64
	Class string // ok, other (on another connection), failed
	Title string
	Seq   uint64
}

// callout is a moment marked by an upright line.
type callout struct {
	X     float64
	Y     float64 // of its label
	End   bool    // the label ends at the line, instead of starting there
	Class string  // edge, fault, closed
	Label string
	Seq   uint64
}

func (s *story) holdChart() holdChart {
	start, end := s.hold()
	if start == nil {
		return holdChart{Missing: "No hold took place."}
	}
	donor := s.host(start.host)
	pings := pingsOf(donor)
	if len(pings) == 0 {
		return holdChart{Missing: "No liveness round trip was recorded."}
	}
	c := holdChart{Width: 1120, Height: 300, Left: 64, Right: 1100, Top: 46, Base: 262}
	x := s.holdTimes(c, start, end, pings)
	flags, extra := stagger(s.holdFlags(x, start, end, donor))
	c.Flags = flags
	room := flagRow * float64(extra)
	c.Top, c.Base, c.Height = c.Top+room, c.Base+room, c.Height+room
	y := axis{low: 0, high: niceTop(pings), at: c.Base, to: c.Top}
	c.X, c.Y = x.ticks(10), y.msTicks(4)
	until := s.to
	if end != nil {
		until = end.at
	}
	c.Bar = band{x.x(start.at), max(1, round(x.x(until)-x.x(start.at)))}
	for _, p := range pings {
		c.Dots = append(c.Dots, s.pingDot(p, x, y, start.data.Conn))
	}
	c.Lines = heldLines(pings, x, y)
	c.Dead = s.deadBands(x, donor.name, until)
	c.Stats = s.holdStats(start, end, pings)
	c.Caption = s.holdCaption(start, donor)
	return c
}

func pingsOf(h *host) []moment {
	var list []moment
	for _, m := range h.events {
		if m.Kind == "relay.ping" {
			list = append(list, m)
		}
	}
	return list
}

// holdTimes runs from the first round trip, or the hold's start, to the last of
// either, in seconds from the start of the hold.
func (s *story) holdTimes(c holdChart, start, end *mark[evidence.Hold], pings []moment) timeAxis {
	from, to := start.at, s.to
	if end != nil {
		to = end.at
	}
	for _, p := range pings {
		if p.at.Before(from) && p.at.After(s.from) {
			from = p.at
		}
		if p.at.After(to) && p.at.Before(s.to) {
			to = p.at
		}
	}
	a := axis{low: from.Sub(start.at).Seconds(), high: to.Sub(start.at).Seconds(), at: c.Left, to: c.Right}
	margin := max(0.05, (a.high-a.low)*0.015)
	a.low, a.high = a.low-margin, a.high+margin
	return timeAxis{a, start.at}
}

// niceTop is a round number above every round trip.
func niceTop(pings []moment) float64 {
	most := 1.0
	for _, p := range pings {
		if p.Outcome == "ok" {
			most = max(most, p.MS)
		}
	}
	step := niceStep(most * 1.15 / 4)
	for i := 1.0; ; i++ {
		if step*i >= most*1.15 {
			return step * i
		}
	}
}

func (s *story) pingDot(p moment, x timeAxis, y axis, held string) dot {
	d := dot{X: x.x(p.at), Y: y.place(p.MS), Class: "ok", Seq: p.seq}
	d.Title = fmt.Sprintf("%s: %s to %s on %s", s.since(p.at), millis(p.MS), s.nameOf(p.Relay), p.Conn)
	switch {
	case p.Outcome != "ok":
		d.Class, d.Y = "failed", y.to
		d.Title = fmt.Sprintf("%s: no answer from %s on %s: %s", s.since(p.at), s.nameOf(p.Relay), p.Conn, or(p.Err, p.Failure))
	case p.Conn != held:
		d.Class = "other"
	}
	return d
}

// heldLines connects the dots of each connection, as the points of polylines.
func heldLines(pings []moment, x timeAxis, y axis) []string {
	points := map[string]*strings.Builder{}
	var order []string
	for _, p := range pings {
		if p.Outcome != "ok" {
			continue
		}
		key := p.Boot + "/" + p.Conn
		if points[key] == nil {
			points[key] = &strings.Builder{}
			order = append(order, key)
		}
		fmt.Fprintf(points[key], "%g,%g ", x.x(p.at), y.place(p.MS))
	}
	var list []string
	for _, key := range order {
		list = append(list, strings.TrimSpace(points[key].String()))
	}
	return list
}

func (s *story) holdFlags(x timeAxis, start, end *mark[evidence.Hold], donor *host) []callout {
	flags := []callout{{X: x.x(start.at), Class: "edge", Label: "hold starts", Seq: start.seq}}
	if end != nil {
		label := "hold ends"
		if end.data.Cut != "" {
			label = "cut: " + head(end.data.Cut, 60)
		}
		flags = append(flags, callout{X: x.x(end.at), End: true, Class: "edge", Label: label, Seq: end.seq})
	}
	for _, f := range s.faultFlags(x) {
		if f.Seq > start.seq { // the drawing does not go back to those before
			flags = append(flags, f)
		}
	}
	for _, m := range donor.events {
		if m.Kind == "conn.closed" && m.Conn == start.data.Conn && m.at.After(start.at) && (end == nil || m.at.Before(end.at)) {
			flags = append(flags, callout{X: x.x(m.at), Class: "closed", Label: "held connection closed", Seq: m.seq})
		}
	}
	return flags
}

func (s *story) holdStats(start, end *mark[evidence.Hold], pings []moment) []fact {
	var rtt []float64
	var held []time.Time
	var lost int
	for _, p := range pings {
		switch {
		case p.Outcome != "ok":
			lost++
		case p.Conn == start.data.Conn:
			held, rtt = append(held, p.at), append(rtt, p.MS)
		}
	}
	facts := []fact{{"planned", span(time.Duration(start.data.Planned))}, {"took", s.holdTook(start, end)}}
	if len(held) == 0 {
		return append(facts, fact{"round trips on the held connection", "none"})
	}
	slices.Sort(rtt)
	return append(facts,
		fact{"first to last round trip on the held connection", span(held[len(held)-1].Sub(held[0]))},
		fact{"round trips", fmt.Sprintf("%d, and %d without an answer", len(pings)-lost, lost)},
		fact{"round trip, median", millis(rtt[len(rtt)/2])},
		fact{"shortest and longest", millis(rtt[0]) + ", " + millis(rtt[len(rtt)-1])},
		fact{"longest wait between two", span(longestGap(held))},
	)
}

func (s *story) holdTook(start, end *mark[evidence.Hold]) string {
	if end == nil {
		return "it has no end in the trace"
	}
	return span(end.at.Sub(start.at))
}

func longestGap(times []time.Time) time.Duration {
	var most time.Duration
	for i := 1; i < len(times); i++ {
		most = max(most, times[i].Sub(times[i-1]))
	}
	return most
}

func (s *story) holdCaption(start *mark[evidence.Hold], donor *host) string {
	conn := "connection " + or(start.data.Conn, "(none)")
	for _, m := range donor.events {
		if m.Kind == "conn.opened" && m.Conn == start.data.Conn {
			conn = fmt.Sprintf("%s over %s to %s", conn, or(m.Transport, "an unknown transport"), or(m.Remote, "an unknown address"))
			break
		}
	}
	return fmt.Sprintf("%s holds %s, relay %s.", donor.name, conn, s.who(start.data.Relay))
}
