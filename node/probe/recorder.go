package probe

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/worldcompute/wce2e/node/netcheck"
)

// recorder collects the records of a report.
type recorder struct {
	began time.Time
	each  func(netcheck.Record) // nil: nobody is told

	mu           sync.Mutex // guards the fields below
	records      []netcheck.Record
	next         int // ID
	transactions int
}

// transaction is what records of one connection, or of one question, share. A mute
// one keeps its records to itself.
type transaction struct {
	recorder *recorder
	mute     bool
	shared   netcheck.Record
	traffic  func() (sent, received int64) // so far; nil: not known
}

// transaction begins one. What all its records have in common is in shared.
func (r *recorder) transaction(shared netcheck.Record) *transaction {
	r.mu.Lock()
	defer r.mu.Unlock()
	shared.Transaction = r.transactions
	r.transactions++
	return &transaction{recorder: r, shared: shared}
}

// step does one operation within some time and records it. do may fill in what it
// learns; Failure, Error and Errno follow from the error. What the end of ctx has cut off
// has not failed: we gave it up.
func (t *transaction) step(ctx context.Context, op netcheck.Operation, within time.Duration, do func(context.Context, *netcheck.Record) error) error {
	whole := ctx
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	rec := t.shared
	rec.Operation = op
	var began time.Time
	rec.ID, began = t.recorder.begin(t.mute)
	sent, received := t.soFar()
	err := do(ctx, &rec)
	rec.T0, rec.T = micro(began.Sub(t.recorder.began)), micro(time.Since(began))
	nowSent, nowReceived := t.soFar()
	rec.Sent, rec.Received = rec.Sent+nowSent-sent, rec.Received+nowReceived-received
	if err != nil {
		failure := netcheck.Classify(err)
		if whole.Err() != nil {
			failure = netcheck.Aborted
		}
		rec.Failure, rec.Error, rec.Errno = &failure, scrub(err.Error()), errnoOf(err)
	}
	if !t.mute {
		t.recorder.end(rec)
	}
	return err
}

func (t *transaction) soFar() (sent, received int64) {
	if t.traffic == nil {
		return 0, 0
	}
	return t.traffic()
}

// micro is in seconds, to the microsecond: there is no meaning in more digits.
func micro(d time.Duration) float64 { return d.Round(time.Microsecond).Seconds() }

// begin gives out IDs in the order in which operations begin; to mute ones, none.
func (r *recorder) begin(mute bool) (id int, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !mute {
		id = r.next
		r.next++
	}
	return id, time.Now()
}

func (r *recorder) end(rec netcheck.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, rec)
	if r.each != nil {
		r.each(rec) // under the lock, so that one line is told after another
	}
}

// all are the records, each at the place that is its ID.
func (r *recorder) all() []netcheck.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := slices.Clone(r.records)
	slices.SortFunc(out, func(a, b netcheck.Record) int { return cmp.Compare(a.ID, b.ID) })
	return out
}
