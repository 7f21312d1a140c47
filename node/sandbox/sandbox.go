// Package sandbox runs WebAssembly modules of strangers, within limits and
// without any access to the host: no files, no network, no environment, no
// real clock.
//
// There are two ways to run a module, told apart by what it imports:
//
//	ABI 1  imports nothing. _start() is called if exported, then
//	       output_len() -> i32 if exported; the answer is memory[0:output_len].
//	       This is all that World Compute's own donors run.
//	ABI 2  imports WASI preview 1. The input is on stdin, the answer on stdout,
//	       the arguments are the manifest's command.
//
// What a module computes depends on nothing but the module, its arguments and
// its input, so that replicas on different donors agree: its clock is virtual
// (it starts at a fixed instant, and sleeping moves it without waiting), and
// its random numbers are a stream seeded by those three. They are not secrets.
//
// A module goes through these gates, each of which the submitter hears of when
// it hits it:
//
//	size -> a place to run -> screen (shape, imports, declared sizes) ->
//	compile (cached) -> memory, wall time, output
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/worldcompute/wce2e/node/wire"
)

// Limits of what one donor gives to jobs. The zero value works. Negative
// numbers are an error of New.
type Limits struct {
	ModuleBytes int           // of a module, most of it data (see screen); 0 means 32 MiB, what fits a large request
	StdinBytes  int           // 0 means 32 MiB, what fits a large request
	OutputBytes int           // 0 means wire.MaxLargeOutput, what surely fits a large response; more than that is an error of New
	MemoryBytes uint64        // linear memory of one job; 0 means 256 MiB, at most 4 GiB
	Walltime    time.Duration // of one job, compiling included; 0 means 60s
	Concurrency int           // jobs at a time; 0 means the number of CPUs
	Queue       time.Duration // how long a job waits for a place; 0 means 10s
	Modules     int           // compiled modules kept; 0 means 32
	Log         *slog.Logger  // nil means discard
}

// Defaults of Limits.
const (
	defaultModuleBytes = wire.MaxLargeRequest
	defaultStdinBytes  = wire.MaxLargeRequest
	defaultMemoryBytes = 256 << 20
	defaultWalltime    = 60 * time.Second
	defaultQueue       = 10 * time.Second // a submitter gives up after a minute or so: it shall hear "busy" before
	defaultModules     = 32
)

// The causes for which a job's context ends.
var (
	errClosed   = errors.New("the donor stops")
	errWalltime = errors.New("out of wall time")
)

// Runner runs jobs. It is safe for concurrent use.
type Runner struct {
	limits Limits
	slots  chan struct{} // one element for each job under way
	cache  *moduleCache
	closed context.Context // ends when Close begins
	close  context.CancelCauseFunc

	mu      sync.Mutex // guards the fields below
	stopped bool
	jobs    sync.WaitGroup // Add under mu while not stopped
}

// New makes a runner, whose jobs end at the latest with ctx. Close it.
func New(ctx context.Context, limits Limits) (*Runner, error) {
	limits, err := limits.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("new sandbox: %w", err)
	}
	closed, stop := context.WithCancelCause(ctx)
	return &Runner{
		limits: limits,
		slots:  make(chan struct{}, limits.Concurrency),
		cache:  newModuleCache(limits.Modules, limits.Concurrency),
		closed: closed,
		close:  stop,
	}, nil
}

func (l Limits) withDefaults() (Limits, error) {
	setDefault(&l.ModuleBytes, defaultModuleBytes)
	setDefault(&l.StdinBytes, defaultStdinBytes)
	setDefault(&l.OutputBytes, wire.MaxLargeOutput)
	setDefault(&l.MemoryBytes, defaultMemoryBytes)
	setDefault(&l.Walltime, defaultWalltime)
	setDefault(&l.Concurrency, runtime.NumCPU())
	setDefault(&l.Queue, defaultQueue)
	setDefault(&l.Modules, defaultModules)
	if l.Log == nil {
		l.Log = slog.New(slog.DiscardHandler)
	}
	if l.ModuleBytes < 0 || l.StdinBytes < 0 || l.OutputBytes < 0 || l.Walltime < 0 || l.Concurrency < 0 || l.Queue < 0 || l.Modules < 0 {
		return l, errors.New("a limit is negative")
	}
	if l.OutputBytes > wire.MaxLargeOutput {
		return l, fmt.Errorf("an output of %d bytes does not fit a response, at most %d do", l.OutputBytes, wire.MaxLargeOutput)
	}
	if l.MemoryBytes > maxMemoryBytes {
		return l, fmt.Errorf("%d bytes of memory are more than WebAssembly can address", l.MemoryBytes)
	}
	return l, nil
}

func setDefault[T comparable](value *T, byDefault T) {
	var zero T
	if *value == zero {
		*value = byDefault
	}
}

// Limits are the runner's limits, defaults filled in.
func (r *Runner) Limits() Limits { return r.limits }

// Close ends the running jobs as Preempted, waits for them until ctx ends, and
// frees what the runner holds. Further jobs fail. A compiler that ctx does not
// give the time to end is a warning: it cannot be stopped, and nobody waits for it.
func (r *Runner) Close(ctx context.Context) error {
	r.mu.Lock()
	r.stopped = true
	r.mu.Unlock()
	r.close(errClosed)
	done := make(chan struct{})
	go func() { r.jobs.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		return fmt.Errorf("close sandbox: wait for running jobs: %w", context.Cause(ctx))
	}
	if err := r.cache.wait(ctx); err != nil {
		r.limits.Log.Warn("compiled modules are not freed", "err", err)
		return nil
	}
	return r.cache.close()
}

// enter counts a job in; it fails after Close.
func (r *Runner) enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return false
	}
	r.jobs.Add(1)
	return true
}
