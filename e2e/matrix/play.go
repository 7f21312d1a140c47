package matrix

import (
	"context"
	"sync"
	"time"

	"github.com/worldcompute/wce2e/evidence"
)

// Placed is a cell and its place in the whole matrix.
type Placed struct {
	Cell
	Place int
}

// Place numbers the cells of a whole matrix.
func Place(cells []Cell) []Placed {
	out := make([]Placed, len(cells))
	for i, c := range cells {
		out[i] = Placed{c, i}
	}
	return out
}

// Schedule says how cells are run side by side.
type Schedule struct {
	// Jobs is how many stand at once, at most: what memory allows. 0 means all.
	Jobs int
	// Busy is how many may be before their hold at once, at most. A hold is idle
	// and bears company; building a lab, equipping hosts and starting nodes take
	// all the processor there is, and hole punches and time limits suffer from too
	// many neighbours at that. 0 means one.
	Busy int
}

// joinPatience is how long after its start a donor that has found no relay keeps
// others from starting. Getting out takes a second; one that takes longer waits
// for timeouts, or for ever, and leaves the processor idle.
const joinPatience = 5 * time.Second

// Run carries out one cell, telling p of the run's events as they come. It fills
// in what it knows of the outcome; cell, place and times are Play's.
type Run func(ctx context.Context, c Cell, p *Progress) Outcome

// Play runs cells side by side, starting them in the order given, and gives their
// outcomes in the order of the whole matrix. watch, if not nil, gets all progress
// before the first cell starts. When ctx ends no further cell starts; those under
// way are left to Run to end.
func (s Schedule) Play(ctx context.Context, cells []Placed, run Run, watch func([]*Progress)) []Outcome {
	progress := make([]*Progress, len(cells))
	for i, c := range cells {
		progress[i] = &Progress{Cell: c.Cell, watcher: NewWatcher(), release: func() {}}
	}
	if watch != nil {
		watch(progress)
	}
	jobs, turns := make(chan struct{}, max(1, orAll(s.Jobs, len(cells)))), make(chan struct{}, max(1, s.Busy))
	outcomes := make([]Outcome, len(cells))
	var all sync.WaitGroup
	for i, c := range cells {
		outcomes[i] = Outcome{Cell: c.Cell, Place: c.Place}
		if !acquire(ctx, jobs) {
			outcomes[i].Err = "not started: " + context.Cause(ctx).Error()
			continue
		}
		if !acquire(ctx, turns) {
			<-jobs
			outcomes[i].Err = "not started: " + context.Cause(ctx).Error()
			continue
		}
		p := progress[i]
		p.release = sync.OnceFunc(func() { <-turns })
		all.Go(func() {
			defer func() { <-jobs }()
			defer p.release()
			began := p.start()
			o := run(ctx, c.Cell, p)
			o.Cell, o.Place, o.Began, o.TookMS = c.Cell, c.Place, began.UTC(), ms(time.Since(began))
			outcomes[i] = o
			p.finish(o)
		})
	}
	all.Wait()
	r := Results{Outcomes: outcomes}
	r.Sort()
	return r.Outcomes
}

func orAll(n, all int) int {
	if n <= 0 {
		return all
	}
	return n
}

func acquire(ctx context.Context, places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return ctx.Err() == nil || give(places)
	case <-ctx.Done():
		return false
	}
}

// give takes back what was acquired a moment too late.
func give(places chan struct{}) bool {
	<-places
	return false
}

// Progress is one cell, as far as it has come.
type Progress struct {
	Cell Cell

	release func() // ends the cell's turn; more than once does nothing

	mu      sync.Mutex // guards the fields below
	watcher *Watcher
	began   time.Time // zero: not yet
	patient *time.Timer
	outcome *Outcome // nil: not yet
}

func (p *Progress) start() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.began = time.Now()
	p.watcher.Build()
	return p.began
}

// Take takes an event of the run. It is what an evidence.Writer's Watch wants.
func (p *Progress) Take(e evidence.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watcher.Take(e)
	switch p.watcher.seen.Phase {
	case Building, Deploy, Controls:
	case Join:
		if p.patient == nil {
			p.patient = time.AfterFunc(joinPatience, p.loseTurn)
		}
	default:
		p.release()
	}
}

// loseTurn ends the turn of a donor that is still looking for a way.
func (p *Progress) loseTurn() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watcher.seen.Phase == Join {
		p.release()
	}
}

func (p *Progress) finish(o Outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.outcome = &o
	if p.patient != nil {
		p.patient.Stop()
	}
}

// Now is how the cell stands: what was seen so far, since when, and the outcome
// when there is one.
func (p *Progress) Now() (seen Seen, began time.Time, outcome *Outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.outcome != nil {
		return p.outcome.Seen, p.began, p.outcome
	}
	return p.watcher.Seen(), p.began, nil
}
