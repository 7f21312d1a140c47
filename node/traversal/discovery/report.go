package discovery

import (
	"context"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"
)

const (
	// foundBurst and foundEvery bound how fast relays are handed on: a donor that
	// lacks one gets a handful at once, and no stranger makes it dial the world.
	foundBurst = 16
	foundEvery = 2 * time.Second
	// foundAgain is how long a relay is not handed on again that has not moved.
	foundAgain = 10 * time.Minute
)

// report hands on what is found, in its own time, so that who finds never waits.
type report struct {
	found func(peer.AddrInfo, string)
	pace  *rate.Limiter
	wake  chan struct{}

	mu      sync.Mutex // guards the fields below
	waiting []known    // at most one of a peer, at most maxKnown
	told    map[peer.ID]time.Time
}

func newReport(found func(peer.AddrInfo, string)) *report {
	return &report{
		found: found, pace: rate.NewLimiter(rate.Every(foundEvery), foundBurst),
		wake: make(chan struct{}, 1), told: map[peer.ID]time.Time{},
	}
}

// add has k handed on. Unless it is news, it is left out where it was handed on
// a short while ago.
func (r *report) add(k known, news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !news && time.Since(r.told[k.ID]) < foundAgain {
		return
	}
	for i := range r.waiting {
		if r.waiting[i].ID == k.ID {
			r.waiting[i] = k
			return
		}
	}
	if len(r.waiting) == maxKnown {
		return // heard of again, if it lives
	}
	r.waiting = append(r.waiting, k)
	nudge(r.wake)
}

// run hands on until ctx ends.
func (r *report) run(ctx context.Context) {
	for {
		k, ok := r.next()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-r.wake:
			}
			continue
		}
		if r.pace.Wait(ctx) != nil {
			return
		}
		r.found(k.AddrInfo, string(k.source))
	}
}

// next takes the one that waits longest.
func (r *report) next() (known, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) == 0 {
		return known{}, false
	}
	k := r.waiting[0]
	r.waiting = r.waiting[1:]
	r.remember(k.ID)
	return k, true
}

func (r *report) remember(id peer.ID) {
	now := time.Now()
	r.told[id] = now
	if len(r.told) <= 2*maxKnown {
		return
	}
	for old, at := range r.told {
		if now.Sub(at) > foundAgain {
			delete(r.told, old)
		}
	}
}

// nudge wakes who waits for ch, whose capacity is 1, now or when it next looks.
func nudge(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
