package localnet

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// settle is how long the network has to be quiet before it is looked at: a
	// lease or a router's advertisement changes links, addresses and routes
	// within some ten milliseconds.
	settle = 300 * time.Millisecond
	// settleMost bounds the wait for quiet. On a machine that starts containers
	// all the time, or speaks BGP, there is none.
	settleMost = 2 * time.Second
	// tick is how often Watch looks whether the machine has slept, and thus how
	// late it notices.
	tick = 2 * time.Second
	// pollEvery is how often a system is asked that does not tell by itself.
	pollEvery = 4 * time.Second
	// sleptEnough is the sleep that is told: half a minute is what NATs keep a
	// mapping for at least. After a shorter one, a connection that died shows at
	// its next ping.
	sleptEnough = 30 * time.Second
)

// Change is a difference of the network between two moments.
type Change struct {
	// What says it in words for a log: "new: address 10.0.0.7/24 on eth0; gone:
	// link wlan0". It names addresses of this machine.
	What string
	// Slept is how long the machine was asleep, or the process stopped; 0 when it
	// was not. Connections of before are then to be doubted, though What may tell
	// no difference.
	Slept time.Duration
}

// Watch calls tell after each change of the network: an address, a link or the
// default route that is new or gone, and a sleep of the machine that has ended.
// A burst of changes is one Change, told 0.3 s after its last (2 s after its
// first at most); one that undoes itself meanwhile is none, and so is the
// coming and going of temporary IPv6 addresses and of container networks.
//
// It works until ctx ends, and returns nil then. It returns an error at once
// when the system does not say what its network is. tell is called by one
// goroutine, which notices nothing meanwhile: it should return soon.
func Watch(ctx context.Context, tell func(Change)) error {
	told, err := pokes(ctx)
	if err != nil {
		told = nil // it is asked instead
	}
	now, err := look()
	if err != nil {
		return fmt.Errorf("watch the network: %w", err)
	}
	w := watcher{look: look, clock: clock, tell: tell, seen: now.facts(), awake: clock()}
	w.run(ctx, told)
	return nil
}

// watcher is the state of one Watch. It belongs to one goroutine.
type watcher struct {
	look  func() (survey, error)
	clock func() time.Duration // goes on while the machine sleeps
	tell  func(Change)

	seen  []string      // the facts that were told last
	awake time.Duration // by clock, when the machine was last seen awake
	slept time.Duration // and not told yet

	quiet *time.Timer // fires when it is time to look
	first time.Time   // of the burst that is awaited to end; zero when there is none
	asked time.Time   // when the network was last looked at
	again bool        // the last look failed
}

func (w *watcher) run(ctx context.Context, told <-chan struct{}) {
	w.quiet = time.NewTimer(time.Hour)
	w.quiet.Stop()
	defer w.quiet.Stop()
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case _, open := <-told:
			if !open {
				told = nil // the system stopped to tell: from now on it is asked
				continue
			}
			w.stir()
		case <-ticks.C:
			if w.wake() || w.due(told == nil) {
				w.stir()
			}
		case <-w.quiet.C:
			w.settled()
		}
	}
}

// stir begins or prolongs the wait for quiet.
func (w *watcher) stir() {
	if w.first.IsZero() {
		w.first = time.Now()
	}
	w.quiet.Reset(min(settle, max(0, settleMost-time.Since(w.first))))
}

// due tells whether it is time to look without having been told to.
func (w *watcher) due(untold bool) bool {
	return w.again || untold && time.Since(w.asked) >= pollEvery-tick/2
}

// wake tells whether the machine has slept since it was last asked, at most a
// tick ago.
func (w *watcher) wake() bool {
	now := w.clock()
	asleep := now - w.awake - tick
	w.awake = now
	if asleep < sleptEnough {
		return false
	}
	w.slept += asleep
	return true
}

// settled looks at the network and tells what has changed. When the system does
// not say, it is asked again at the next tick.
func (w *watcher) settled() {
	w.wake() // a link that comes up may tell of the end of a sleep before a tick does
	w.first, w.asked = time.Time{}, time.Now()
	now, err := w.look()
	if w.again = err != nil; w.again {
		return
	}
	facts := now.facts()
	what := difference(w.seen, facts)
	if what == "" && w.slept == 0 {
		return
	}
	change := Change{What: what, Slept: w.slept}
	if w.slept > 0 {
		change.What = strings.TrimSuffix("slept for "+w.slept.Round(time.Second).String()+"; "+what, "; ")
	}
	w.seen, w.slept = facts, 0
	w.tell(change)
	w.awake = w.clock() // the time that tell took was no sleep
}

// difference says what is new and what is gone, "" when nothing is.
func difference(before, after []string) string {
	var parts []string
	for _, p := range []struct {
		word string
		list []string
	}{{"new: ", without(after, before)}, {"gone: ", without(before, after)}} {
		if len(p.list) > 0 {
			parts = append(parts, p.word+strings.Join(p.list, ", "))
		}
	}
	return strings.Join(parts, "; ")
}

// without are the elements of a that are not in b.
func without(a, b []string) []string {
	var out []string
	for _, s := range a {
		if !slices.Contains(b, s) {
			out = append(out, s)
		}
	}
	return out
}
