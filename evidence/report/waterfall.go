package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/worldcompute/wce2e/node/netcheck"
)

// waterfall is a drawing of transactions, one below the other, on a common clock:
// each a bar, of which every operation is a piece.
type waterfall struct {
	Title         string
	Width, Height float64
	Top, Base     float64 // of the grid
	Left, Right   float64
	X             []tick
	Rows          []fallRow
	More          int     // that are not drawn
	Compared      bool    // with what others saw,
	SeenX         float64 // which stands there
}

type fallRow struct {
	Y        float64
	Label    string
	Full     string // the label with nothing left out
	Pieces   []piece
	Outcome  string // how the last piece failed; empty: all of it stood
	OutcomeX float64
	Seen     string // what others saw of the same way
}

type piece struct {
	X, W  float64
	Class string
	Title string
}

// Sizes of the drawing, in pixels of its own scale.
const (
	fallWidth = 1180.0
	fallLeft  = 330.0
	fallRight = 900.0
	fallSeen  = 1085.0 // where it says what others saw
	fallPitch = 16.0
	fallTop   = 14.0
	fallLabel = 50  // characters
	fallMost  = 240 // rows of one drawing
)

// waterfalls are two: the dials, and all that was tried beside them.
func (n Network) waterfalls() []waterfall {
	var dials, beside [][]netcheck.Record
	for _, t := range transactions(n.Report.Records) {
		if isDial(t) {
			dials = append(dials, t)
		} else {
			beside = append(beside, t)
		}
	}
	var list []waterfall
	if len(dials) > 0 {
		list = append(list, n.fall("Every dial", dials, len(n.Report.Controls) > 0))
	}
	if len(beside) > 0 {
		list = append(list, n.fall("Names, and what was tried beside the dials", beside, false))
	}
	return list
}

// isDial tells dials from what is tried beside them, at the same addresses.
func isDial(t []netcheck.Record) bool {
	begins := []netcheck.Operation{netcheck.Connect, netcheck.QUIC, netcheck.ProxyTunnel}
	return t[0].Lead != "" && slices.Contains(begins, t[0].Operation)
}

// transactions are the records of each, in order.
func transactions(records []netcheck.Record) [][]netcheck.Record {
	at := map[int]int{}
	var list [][]netcheck.Record
	for _, r := range records {
		i, known := at[r.Transaction]
		if !known {
			i, at[r.Transaction] = len(list), len(list)
			list = append(list, nil)
		}
		list[i] = append(list[i], r)
	}
	for _, t := range list {
		slices.SortStableFunc(t, func(a, b netcheck.Record) int { return cmp.Compare(a.T0, b.T0) })
	}
	return list
}

// fall draws transactions, in the order in which they began.
func (n Network) fall(title string, list [][]netcheck.Record, compared bool) waterfall {
	slices.SortStableFunc(list, func(a, b []netcheck.Record) int { return cmp.Compare(a[0].T0, b[0].T0) })
	end := 0.1
	for _, t := range list {
		for _, r := range t {
			end = max(end, r.T0+r.T)
		}
	}
	x := timeAxis{axis: axis{low: 0, high: end, at: fallLeft, to: fallRight}}
	w := waterfall{Title: title, Width: fallWidth, Top: fallTop, Left: fallLeft, Right: fallRight, X: x.ticks(10), Compared: compared, SeenX: fallSeen}
	if len(list) > fallMost {
		list, w.More = list[:fallMost], len(list)-fallMost
	}
	for i, t := range list {
		row := fallRowOf(t, x, fallTop+float64(i)*fallPitch)
		if compared {
			row.Seen = n.seenBy(t[0])
		}
		w.Rows = append(w.Rows, row)
	}
	w.Base = fallTop + float64(len(list))*fallPitch
	w.Height = w.Base + 22
	return w
}

func fallRowOf(t []netcheck.Record, x timeAxis, y float64) fallRow {
	row := fallRow{Y: round(y), Full: labelOf(t), OutcomeX: fallLeft}
	row.Label = head(row.Full, fallLabel)
	for _, r := range t {
		from, to := x.place(r.T0), x.place(r.T0+r.T)
		p := piece{X: from, W: max(2, round(to-from)), Class: pieceClass(r), Title: pieceTitle(r)}
		row.Pieces = append(row.Pieces, p)
		row.OutcomeX = max(row.OutcomeX, round(p.X+p.W+4))
		if row.Outcome = ""; r.Failure != nil {
			row.Outcome = string(*r.Failure)
		}
	}
	return row
}

// labelOf names what was dialled, or asked.
func labelOf(t []netcheck.Record) string {
	r := t[0]
	switch {
	case isDial(t):
		return shortAddr(r.Lead)
	case r.Facts.Question != "":
		return words(r.Proto, r.Facts.Question, with("of", r.Addr))
	}
	return words(string(r.Operation), r.Proto, r.Transport, r.Addr)
}

func pieceClass(r netcheck.Record) string {
	if r.Failure != nil {
		return "failed"
	}
	switch r.Operation {
	case netcheck.Connect, netcheck.ProxyTunnel, netcheck.QUIC:
		return "conn"
	case netcheck.TLS, netcheck.Upgrade:
		return "outer"
	case netcheck.Multistream, netcheck.Security, netcheck.Muxer:
		return "handshake"
	}
	return "ok"
}

func pieceTitle(r netcheck.Record) string {
	outcome := "ok"
	if r.Failure != nil {
		outcome = reason(string(*r.Failure), r.Error)
	}
	return fmt.Sprintf("record %d: %s %s, from %.3f s for %s: %s", r.ID, words(string(r.Operation), r.Proto), r.Addr, r.T0, millis(r.T*1000), outcome)
}

// seenBy tells what others saw of the same way: whether it stands for them.
func (n Network) seenBy(r netcheck.Record) string {
	var seen []string
	for _, c := range n.Report.Controls {
		tried, stands := false, false
		for _, t := range transactions(c.Records) {
			if t[0].Lead != r.Lead || t[0].Transport != r.Transport {
				continue
			}
			tried = true
			stands = stands || !slices.ContainsFunc(t, func(r netcheck.Record) bool { return r.Failure != nil })
		}
		switch {
		case stands:
			seen = append(seen, "✓ "+c.Host)
		case tried:
			seen = append(seen, "✗ "+c.Host)
		}
	}
	return strings.Join(seen, " ")
}
