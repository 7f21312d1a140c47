package remote

import (
	"context"
	"fmt"
	"time"
)

// NotSeen is the error of an Await that ran out of time.
type NotSeen struct {
	What   string        // what was awaited
	Waited time.Duration // for how long
	Seen   string        // what was seen last; may be empty
	Cause  error         // of the end of the waiting
}

func (e *NotSeen) Error() string {
	seen := e.Seen
	if seen == "" {
		seen = "nothing"
	}
	return fmt.Sprintf("await %s: not within %v; last seen: %s: %v", e.What, e.Waited.Round(10*time.Millisecond), seen, e.Cause)
}

func (e *NotSeen) Unwrap() error { return e.Cause }

// Await calls ready until it is done, with a pause of every in between. ready
// says what it saw, for the error of an Await that ends without it, and an error
// only when waiting on is of no use. ctx must have a deadline.
func Await(ctx context.Context, what string, every time.Duration, ready func(context.Context) (done bool, seen string, err error)) error {
	if _, bounded := ctx.Deadline(); !bounded {
		return fmt.Errorf("await %s: the waiting has no deadline", what)
	}
	began, last := time.Now(), ""
	for {
		done, seen, err := ready(ctx)
		if done && err == nil {
			return nil
		}
		if seen != "" {
			last = seen
		}
		if ctx.Err() != nil {
			return &NotSeen{What: what, Waited: time.Since(began), Seen: last, Cause: context.Cause(ctx)}
		}
		if err != nil {
			return fmt.Errorf("await %s: %w", what, err)
		}
		pause(ctx, every)
	}
}

// pause waits for d, or until ctx is done.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
