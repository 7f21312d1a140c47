package sandbox

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/worldcompute/wce2e/node/wire"
)

// Run runs a job and tells how it ended. It waits for a place up to
// Limits.Queue. When ctx is cancelled the job is Preempted; when ctx runs out
// of time it is a Timeout.
func (r *Runner) Run(ctx context.Context, job Job) Result {
	if !r.enter() {
		return Result{Status: wire.Preempted, Err: errClosed.Error()}
	}
	defer r.jobs.Done()
	if result, ok := r.checkSizes(job); !ok {
		return result
	}
	ctx, stop := r.untilClosed(ctx)
	defer stop()
	if err := r.takeSlot(ctx); err != nil {
		return result(err)
	}
	defer func() { <-r.slots }()

	start := time.Now()
	res := r.runBounded(ctx, job)
	res.Duration = time.Since(start)
	return res
}

func (r *Runner) checkSizes(job Job) (Result, bool) {
	switch {
	case len(job.Module) > r.limits.ModuleBytes:
		return failed("module limit: it has %d bytes, at most %d are taken", len(job.Module), r.limits.ModuleBytes), false
	case len(job.Stdin) > r.limits.StdinBytes:
		return failed("input limit: stdin has %d bytes, at most %d are taken", len(job.Stdin), r.limits.StdinBytes), false
	}
	return Result{}, true
}

// untilClosed makes a context that ends with ctx or with the runner.
func (r *Runner) untilClosed(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(r.closed, func() { cancel(errClosed) })
	return ctx, func() { unhook(); cancel(nil) }
}

// takeSlot waits for a place to run.
func (r *Runner) takeSlot(ctx context.Context) error {
	select {
	case r.slots <- struct{}{}:
		return nil
	default:
	}
	wait := time.NewTimer(r.limits.Queue)
	defer wait.Stop()
	busy := func() error {
		return fmt.Errorf("%w: %d jobs run at a time, and none ended in time", errBusy, r.limits.Concurrency)
	}
	select {
	case r.slots <- struct{}{}:
		return nil
	case <-wait.C:
		return busy()
	case <-ctx.Done():
		if context.Cause(ctx) == errClosed {
			return errClosed
		}
		return busy()
	}
}

// runBounded runs the job within its wall time. A panic of ours or of the
// compiler is the job's failure, and the donor lives on.
func (r *Runner) runBounded(ctx context.Context, job Job) (res Result) {
	defer func() {
		if p := recover(); p != nil {
			r.limits.Log.Error("sandbox panic", "err", fmt.Sprint(p), "stack", string(debug.Stack()))
			res = failed("sandbox failure: %v", p)
		}
	}()
	walltime := r.limits.Walltime
	if job.Walltime > 0 {
		walltime = min(walltime, job.Walltime)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, walltime, fmt.Errorf("%w: it had %s", errWalltime, walltime))
	defer cancel()

	mod, release, err := r.cache.get(ctx, job.Module)
	if err != nil {
		return result(err)
	}
	defer release()
	output, err := mod.run(ctx, job, r.limits)
	if err != nil {
		return result(err)
	}
	return Result{Status: wire.Succeeded, Output: output}
}
