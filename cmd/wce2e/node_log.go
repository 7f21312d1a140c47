package main

import (
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"
)

const (
	// logQueue is how many lines of the log wait for a reader of stderr.
	logQueue = 1024
	// logFlush is what the end of the node leaves for lines that still wait.
	logFlush = 500 * time.Millisecond
)

// steadyWriter takes lines of a log and writes them in their order, never
// making anybody wait: the node goes on when nobody reads its stderr (a stopped
// terminal, a full pipe). Lines that find the queue full are dropped, and
// counted in the next that is written.
type steadyWriter struct {
	lines   chan []byte
	stop    chan struct{} // closed by Close
	done    chan struct{} // closed when all is written
	dropped atomic.Uint64
}

func newSteadyWriter(out io.Writer) *steadyWriter {
	w := &steadyWriter{lines: make(chan []byte, logQueue), stop: make(chan struct{}), done: make(chan struct{})}
	go w.run(out)
	return w
}

// Write takes one line; slog's handlers write no less.
func (w *steadyWriter) Write(line []byte) (int, error) {
	select {
	case w.lines <- slices.Clone(line):
	default:
		w.dropped.Add(1)
	}
	return len(line), nil
}

func (w *steadyWriter) run(out io.Writer) {
	defer close(w.done)
	for {
		select {
		case line := <-w.lines:
			w.put(out, line)
		case <-w.stop:
			for {
				select {
				case line := <-w.lines:
					w.put(out, line)
				default:
					return
				}
			}
		}
	}
}

// put writes a line. There is nowhere to tell that stderr is gone.
func (w *steadyWriter) put(out io.Writer, line []byte) {
	_, _ = out.Write(line)
	if n := w.dropped.Swap(0); n > 0 {
		_, _ = fmt.Fprintf(out, "level=WARN msg=\"the log could not keep up\" dropped=%d\n", n)
	}
}

// Close waits a moment for what was taken to be written. It is called once;
// what is written later may be lost.
func (w *steadyWriter) Close() error {
	close(w.stop)
	select {
	case <-w.done:
		return nil
	case <-time.After(logFlush):
		return fmt.Errorf("write the log: nobody has read it for %s", logFlush)
	}
}
