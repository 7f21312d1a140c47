package tunnel

import (
	"context"
	"errors"
	"time"
)

// retry says when, and whether, a request is made again.
type retry struct {
	ctx   context.Context
	since time.Time // of the first failure in a row
	pause time.Duration
}

// worked notes that the way is good after all.
func (r *retry) worked() { r.since = time.Time{} }

// moved notes that something was achieved.
func (r *retry) moved() { r.since, r.pause = time.Time{}, 0 }

// next waits before the next try. It returns false when there is to be none: err
// is final, or the failures have gone on for too long. A nil err is an answer
// that brought nothing.
func (r *retry) next(err error) bool {
	var status *StatusError
	if errors.As(err, &status) && !status.again() || errors.Is(err, errNoTunnel) || errors.Is(err, errOffset) {
		return false
	}
	now := time.Now()
	if r.since.IsZero() {
		r.since = now
	}
	if err != nil && now.Sub(r.since) > retryFor {
		return false
	}
	r.pause = min(max(2*r.pause, retryFirst), retryMost)
	select {
	case <-time.After(r.pause):
	case <-r.ctx.Done():
		return false
	}
	return true
}
