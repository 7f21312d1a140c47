package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// window is what one end keeps of one direction: a stretch of the stream, known
// by its absolute offsets. Bytes join at the tail and leave at the base.
//
// Towards the application a window is a half of a net.Conn (read or write, with
// the deadline); towards the requests it is addressed by offset (put or get).
type window struct {
	memory *memory // shared by all windows of a server; nil: none

	mu       sync.Mutex // guards the fields below
	changed  chan struct{}
	base     uint64
	bytes    fifo
	ended    bool  // nothing joins any more
	err      error // nothing works any more
	deadline time.Time
	timer    *time.Timer
}

var (
	errPeerClosed = errors.New("tunnel: closed by the other end")
	errOffset     = errors.New("tunnel: offset outside of what is kept")
)

// memory is what all windows of a server take together.
type memory struct{ used atomic.Int64 }

func (w *window) tail() uint64 { return w.base + uint64(w.bytes.size) }

// room is how many bytes may join. A window that is lean can take some at any
// time: other windows being full cannot hold it up for good.
func (w *window) room() int {
	limit := windowSize
	if w.memory != nil && w.memory.used.Load() > maxBuffered {
		limit = leanWindow
	}
	return max(0, limit-w.bytes.size)
}

func (w *window) join(p []byte) {
	w.bytes.push(p)
	w.account(len(p))
	w.wake()
}

func (w *window) leave(n int) {
	w.bytes.pop(n)
	w.base += uint64(n)
	w.account(-n)
	w.wake()
}

func (w *window) account(n int) {
	if w.memory != nil {
		w.memory.used.Add(int64(n))
	}
}

// wake makes all who wait look again. mu is held.
func (w *window) wake() {
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

// wait returns nil when ready says so, and otherwise why it cannot be. mu is held,
// except while waiting.
func (w *window) wait(ctx context.Context, ready func() bool) error {
	for {
		switch {
		case w.err != nil:
			return w.err
		case ready():
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		if w.changed == nil {
			w.changed = make(chan struct{})
		}
		changed := w.changed
		w.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		w.mu.Lock()
	}
}

func (w *window) expired() bool {
	return !w.deadline.IsZero() && !time.Now().Before(w.deadline)
}

// setDeadline is for read and write; the zero time is never.
func (w *window) setDeadline(t time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	w.deadline = t
	if !t.IsZero() {
		w.timer = time.AfterFunc(time.Until(t), func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.wake()
		})
	}
	w.wake()
}

// write appends p for the application, and waits for room.
func (w *window) write(p []byte) (n int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		err := w.wait(context.Background(), func() bool { return w.expired() || w.ended || w.room() > 0 })
		switch {
		case err != nil:
			return n, err
		case w.ended:
			return n, net.ErrClosed
		case w.expired():
			return n, os.ErrDeadlineExceeded
		case n == len(p):
			return n, nil
		}
		m := min(len(p)-n, w.room())
		w.join(p[n : n+m])
		if n += m; n == len(p) {
			return n, nil
		}
	}
}

// read takes bytes for the application, and waits for the first.
func (w *window) read(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.wait(context.Background(), func() bool { return w.expired() || w.ended || w.bytes.size > 0 || len(p) == 0 })
	switch {
	case err != nil:
		return 0, err
	case w.expired():
		return 0, os.ErrDeadlineExceeded
	case len(p) == 0:
		return 0, nil
	case w.bytes.size == 0:
		return 0, io.EOF
	}
	n := w.bytes.copyAt(p, 0)
	w.leave(n)
	return n, nil
}

// put adds the bytes p whose first has the offset off, as far as they are not
// there already. It waits for those before them, and for room, and returns the
// tail in any case.
func (w *window) put(ctx context.Context, off uint64, p []byte) (tail uint64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	end := off + uint64(len(p))
	for {
		err := w.wait(ctx, func() bool { return w.tail() >= end || w.ended || w.tail() >= off && w.room() > 0 })
		if err != nil || w.tail() >= end {
			return w.tail(), err
		}
		if w.ended {
			return w.tail(), errOffset
		}
		rest := p[w.tail()-off:]
		w.join(rest[:min(len(rest), w.room())])
	}
}

// get copies bytes from off on into p, and waits for the first. It returns
// io.EOF when the stream ends at off.
func (w *window) get(ctx context.Context, off uint64, p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if off < w.base || off > w.tail() {
		return 0, errOffset
	}
	if err := w.wait(ctx, func() bool { return w.ended || w.tail() > off }); err != nil {
		return 0, err
	}
	if off < w.base { // acknowledged meanwhile, to somebody else
		return 0, errOffset
	}
	if w.tail() == off {
		return 0, io.EOF
	}
	return w.bytes.copyAt(p, int(off-w.base)), nil
}

// release drops what the other end has: everything below off. What it cannot
// have is an error.
func (w *window) release(off uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if off > w.tail() {
		return errOffset
	}
	if off > w.base {
		w.leave(int(off - w.base))
	}
	return nil
}

// seek is release for who asks for the bytes from off on: they must be there.
func (w *window) seek(off uint64) error {
	if err := w.release(off); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if off < w.base {
		return errOffset
	}
	return nil
}

// finish ends the stream at its tail.
func (w *window) finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.wake()
}

// fail makes everything return err, from now on and for those who wait. What is
// in the window is lost. Only the first error counts.
func (w *window) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return
	}
	w.err = err
	if w.timer != nil {
		w.timer.Stop()
	}
	w.leave(w.bytes.size)
}

// drained waits until nothing that joined is left: all of it was acknowledged.
func (w *window) drained(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wait(ctx, func() bool { return w.bytes.size == 0 })
}

// reached is the offset below which everything has arrived here.
func (w *window) reached() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tail()
}
