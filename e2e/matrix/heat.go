package matrix

import (
	"bytes"
	"fmt"
	"slices"
)

// heat is the picture of a grid over one transport: a square for each pair.
type heat struct {
	Transport     string
	Donors        []string // rows
	Submitters    []string // columns
	Squares       []square
	Width, Height int
	XLabels       []label
	YLabels       []label
	Sentence      string
}

type square struct {
	X, Y, W, H int
	TX, TY     int    // of the text
	Class      string // pass: as theory says, direct; grey: as theory says, not; fail: theory says it could; violet: theory says it could not; inconclusive: nothing is known
	Text       string
	Title      string
}

type label struct {
	X, Y int
	Text string
}

const (
	squareW, squareH = 84, 40
	heatLeft         = 170
	heatTop          = 74
)

// heats are the pictures of the grids in a matrix, one for each transport.
func (r Results) heats() []heat {
	var list []heat
	for _, o := range r.Outcomes {
		if o.Transport != "" && !slices.ContainsFunc(list, func(h heat) bool { return h.Transport == o.Transport }) {
			list = append(list, r.heat(o.Transport))
		}
	}
	return list
}

func (r Results) heat(transport string) heat {
	h := heat{Transport: transport}
	pairs := map[[2]string][]Outcome{}
	for _, o := range r.Outcomes {
		if o.Transport != transport {
			continue
		}
		if !slices.Contains(h.Donors, o.Donor) {
			h.Donors = append(h.Donors, o.Donor)
		}
		if !slices.Contains(h.Submitters, o.Submitter) {
			h.Submitters = append(h.Submitters, o.Submitter)
		}
		key := [2]string{o.Donor, o.Submitter}
		pairs[key] = append(pairs[key], o)
	}
	h.Width, h.Height = heatLeft+len(h.Submitters)*squareW+10, heatTop+len(h.Donors)*squareH+10
	direct, asTheory := 0, 0
	for i, d := range h.Donors {
		h.YLabels = append(h.YLabels, label{heatLeft - 8, heatTop + i*squareH + squareH/2 + 4, d})
		for j, s := range h.Submitters {
			sq := newSquare(pairs[[2]string{d, s}])
			sq.X, sq.Y, sq.W, sq.H = heatLeft+j*squareW, heatTop+i*squareH, squareW-3, squareH-3
			sq.TX, sq.TY = sq.X+sq.W/2, sq.Y+sq.H/2+4
			h.Squares = append(h.Squares, sq)
			if sq.Class == "pass" || sq.Class == "grey" {
				asTheory++
			}
			if sq.Class == "pass" || sq.Class == "violet" {
				direct++
			}
		}
	}
	for j, s := range h.Submitters {
		h.XLabels = append(h.XLabels, label{heatLeft + j*squareW + squareW/2, heatTop - 10, s})
	}
	h.Sentence = fmt.Sprintf("Over %s alone %d of %d pairs came to a direct connection; %d of %d went as theory says.", transport, direct, len(h.Squares), asTheory, len(h.Squares))
	return h
}

// file is what the picture is called by itself.
func (h heat) file() string { return "grid-" + h.Transport + ".svg" }

// newSquare sums up all rounds of one pair.
func newSquare(rounds []Outcome) square {
	if len(rounds) == 0 {
		return square{Class: "inconclusive", Text: "?", Title: "not run"}
	}
	var times []float64
	known := 0
	for _, o := range rounds {
		if o.Err == "" {
			known++
		}
		if len(o.Seen.Direct) > 0 {
			times = append(times, o.Seen.DirectMS)
		}
	}
	slices.Sort(times)
	o := rounds[0]
	possible, luck := len(o.Expected.Direct) > 0, len(o.Expected.Luck) > 0
	sq := square{Title: fmt.Sprintf("donor %s, submitter %s: direct in %d of %d, theory says %s", o.Donor, o.Submitter, len(times), known, yes(possible))}
	switch {
	case known == 0:
		sq.Class, sq.Text = "inconclusive", "?"
	case luck: // either is as theory says
		sq.Class, sq.Text = "grey", fmt.Sprintf("%d of %d", len(times), known)
	case len(times) == 0:
		sq.Class, sq.Text = "grey", "relayed"
		if possible {
			sq.Class = "fail"
		}
	default:
		sq.Class, sq.Text = "violet", took(times[len(times)/2])
		if possible {
			sq.Class = "pass"
		}
		if len(times) < known {
			sq.Class, sq.Text = "fail", fmt.Sprintf("%d of %d", len(times), known)
		}
	}
	return sq
}

// HeatMaps are the pictures of the grids as files of their own, by name.
func (r Results) HeatMaps() (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, h := range r.heats() {
		var b bytes.Buffer
		if err := page.ExecuteTemplate(&b, "grid.svg", h); err != nil {
			return nil, fmt.Errorf("draw the grid over %s: %w", h.Transport, err)
		}
		files[h.file()] = b.Bytes()
	}
	return files, nil
}
