package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// talk tells a person how a run goes: a moving line where there is a terminal,
// plain lines otherwise.
type talk struct {
	terminal bool

	mu   sync.Mutex // guards the fields below
	out  io.Writer
	also io.Writer                // run.log
	bar  *progressbar.ProgressBar // the hold's moving line; nil before it, and where there is no terminal
	last time.Time                // of the last plain line about the hold
}

// plainEvery is how often a hold is mentioned where nobody watches a line move.
const plainEvery = 30 * time.Second

func newTalk(out io.Writer) *talk {
	f, ok := out.(*os.File)
	return &talk{out: out, also: io.Discard, terminal: ok && term.IsTerminal(int(f.Fd()))}
}

// Also writes everything but the moving line to another place too.
func (t *talk) Also(w io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.also = w
}

// Step begins a step of the story; a hold is over with it.
func (t *talk) Step(text string) { t.say("==> "+text, true) }

func (t *talk) Note(text string) { t.say("    "+text, false) }

func (t *talk) say(line string, step bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.bar != nil {
		t.bar.Clear()
		if step {
			t.bar = nil
		} else {
			defer t.bar.RenderBlank()
		}
	}
	fmt.Fprintln(t.out, line)
	fmt.Fprintf(t.also, "time=%s level=INFO msg=talk say=%q\n", time.Now().UTC().Format(time.RFC3339Nano), line)
}

// Holding shows how far the hold is.
func (t *talk) Holding(done, total time.Duration, note string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.terminal {
		if time.Since(t.last) >= plainEvery {
			t.last = time.Now()
			fmt.Fprintf(t.out, "    held %v of %v, %s\n", done.Round(time.Second), total, note)
		}
		return
	}
	if t.bar == nil {
		t.bar = progressbar.NewOptions64(total.Milliseconds(), progressbar.OptionSetWriter(t.out), progressbar.OptionSetWidth(30),
			progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false))
	}
	t.bar.Describe(fmt.Sprintf("    held %v of %v, %s", done.Round(time.Second), total, note))
	t.bar.Set64(done.Milliseconds())
}
