package node

import (
	"slices"
	"sync"

	"github.com/worldcompute/wce2e/node/wire"
)

// maxTried bounds how many addresses are remembered, for the status.
const maxTried = 64

// tried remembers the last attempt at each address: what else was tried, and how
// that ended, is what an operator asks first.
type tried struct {
	mu   sync.Mutex // guards the field below
	last []wire.Attempt
}

// note takes an attempt that has ended. Those that we gave up say nothing of the
// address, unless nothing is known of it yet.
func (t *tried) note(a wire.Attempt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := slices.IndexFunc(t.last, func(b wire.Attempt) bool { return a.Addr == b.Addr && a.Peer == b.Peer })
	if at >= 0 {
		if a.Outcome == wire.Aborted {
			return
		}
		t.last = slices.Delete(t.last, at, at+1)
	}
	t.last = append(t.last, a)
	if len(t.last) > maxTried {
		t.last = slices.Delete(t.last, 0, 1)
	}
}

// list is what was tried, the latest first.
func (t *tried) list() []wire.Attempt {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := slices.Clone(t.last)
	slices.Reverse(out)
	return orEmpty(out)
}
