package matrix

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/worldcompute/wce2e/evidence"
)

// Version is that of the form of matrix.json.
const Version = 1

// The files of a matrix's folder.
const (
	ResultsFile = "matrix.json"
	IndexFile   = "index.md"
	HTMLFile    = "matrix.html"
	JUnitFile   = "junit.xml"
	CellsDir    = "cells" // a zipped bundle of evidence for each cell
)

// Results is a whole matrix, or a shard of one: matrix.json.
type Results struct {
	Version  int               `json:"version"`
	Software string            `json:"software"`
	Source   evidence.Source   `json:"source"` // of the binary that ran on the hosts
	Began    time.Time         `json:"began"`
	Ended    time.Time         `json:"ended"`
	Hold     evidence.Duration `json:"hold"`
	Seed     uint64            `json:"seed"`
	Shards   []string          `json:"shards,omitempty"`  // which parts of the matrix these are; none: the whole
	Whole    int               `json:"whole,omitempty"`   // how many cells the matrix has of which these are parts; 0: not known
	Missing  int               `json:"missing,omitempty"` // how many of them a merge did not find
	Outcomes []Outcome         `json:"cells"`             // in the order of the whole matrix
}

// Outcome is one cell that was run.
type Outcome struct {
	Cell
	Place    int          `json:"place"` // in the whole matrix, from 0
	Expected Expected     `json:"expected"`
	Seen     Seen         `json:"seen"`
	Differs  []Difference `json:"differs"`
	Err      string       `json:"error,omitempty"` // the suite's own failure; then nothing is known of the mesh
	Began    time.Time    `json:"began"`
	TookMS   float64      `json:"took_ms"`
	Bundle   string       `json:"bundle,omitempty"` // its evidence, below the matrix's folder
	SHA256   string       `json:"sha256,omitempty"` // of that
	// Replaces are the differences of an earlier attempt in whose place this one
	// stands: a rerun makes nothing unseen.
	Replaces []Difference `json:"replaces,omitempty"`
}

// State is what became of a cell.
type State string

const (
	AsExpected State = "as expected"
	Differs    State = "differs"
	Failed     State = "suite failed"
)

// State tells what became of the cell.
func (o Outcome) State() State {
	switch {
	case o.Err != "":
		return Failed
	case len(o.Differs) > 0 || o.Seen.Phase != Done:
		return Differs
	}
	return AsExpected
}

// State is the worst of all cells'; of none at all, and where some are missing, it
// is Failed, since nothing was shown of them.
func (r Results) State() State {
	state := AsExpected
	for _, o := range r.Outcomes {
		switch s := o.State(); {
		case s == Failed:
			return Failed
		case s == Differs:
			state = Differs
		}
	}
	if len(r.Outcomes) == 0 || r.Missing > 0 {
		return Failed
	}
	return state
}

// Count counts the cells of a state.
func (r Results) Count(s State) int {
	n := 0
	for _, o := range r.Outcomes {
		if o.State() == s {
			n++
		}
	}
	return n
}

// Unexpected are the cells to be run again: all that did not go as expected.
func (r Results) Unexpected() []Placed {
	var cells []Placed
	for _, o := range r.Outcomes {
		if o.State() != AsExpected {
			cells = append(cells, Placed{o.Cell, o.Place})
		}
	}
	return cells
}

// Sort puts outcomes into the order of the whole matrix.
func (r *Results) Sort() {
	slices.SortStableFunc(r.Outcomes, func(a, b Outcome) int { return cmp.Compare(a.Place, b.Place) })
}

// Merge makes one matrix of the shards of one, and of reruns. Of two outcomes of
// one cell the later one counts, and keeps what the earlier one found. All must
// be of one source and one hold: else there is no saying what was tested.
func Merge(parts ...Results) (Results, error) {
	if len(parts) == 0 {
		return Results{}, errors.New("merge: nothing to merge")
	}
	slices.SortStableFunc(parts, func(a, b Results) int { return a.Began.Compare(b.Began) })
	whole := parts[0]
	whole.Outcomes, whole.Shards = nil, nil
	at := map[Cell]int{}
	for _, p := range parts {
		if p.Source.Tree != whole.Source.Tree || p.Hold != whole.Hold {
			return Results{}, fmt.Errorf("merge: one part is of the source %.12s held for %s, another of %.12s for %s",
				whole.Source.Tree, whole.Hold, p.Source.Tree, p.Hold)
		}
		whole.Whole = max(whole.Whole, p.Whole)
		if p.Ended.After(whole.Ended) {
			whole.Ended = p.Ended
		}
		for _, s := range p.Shards {
			if !slices.Contains(whole.Shards, s) {
				whole.Shards = append(whole.Shards, s)
			}
		}
		for _, o := range p.Outcomes {
			i, again := at[o.Cell]
			if !again {
				at[o.Cell] = len(whole.Outcomes)
				whole.Outcomes = append(whole.Outcomes, o)
				continue
			}
			o.Replaces = slices.Concat(whole.Outcomes[i].Replaces, whole.Outcomes[i].found())
			whole.Outcomes[i] = o
		}
	}
	whole.Missing = max(0, whole.Whole-len(at))
	whole.Sort()
	return whole, nil
}

// found is what there was to say of an outcome: its differences, and that the suite
// failed, where it did.
func (o Outcome) found() []Difference {
	if o.Err == "" {
		return o.Differs
	}
	return append(slices.Clone(o.Differs), Difference{Column: "suite", Expected: "a run", Seen: "failed", Why: o.Err})
}

// ReadResults reads matrix.json, or the folder that it lies in.
func ReadResults(path string) (Results, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, ResultsFile)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return Results{}, fmt.Errorf("read a matrix: %w", err)
	}
	var r Results
	if err := json.Unmarshal(raw, &r); err != nil {
		return Results{}, fmt.Errorf("read the matrix %s: %w", path, err)
	}
	if r.Version != Version {
		return Results{}, fmt.Errorf("read the matrix %s: it is of version %d, and this program reads %d", path, r.Version, Version)
	}
	return r, nil
}
