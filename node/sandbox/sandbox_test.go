package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/node/wire"
)

// outcome is how a job is expected to end.
type outcome struct {
	what   string
	job    Job
	status wire.TaskStatus
	says   string // part of the error
	output string
}

func (o outcome) check(t *testing.T, r *Runner) {
	t.Helper()
	res := r.Run(t.Context(), o.job)
	if res.Status != o.status || string(res.Output) != o.output || !strings.Contains(res.Err, o.says) || (o.says == "") != (res.Err == "") {
		t.Errorf("%s: %s %q, output %q; want %s %q, output %q", o.what, res.Status, res.Err, res.Output, o.status, o.says, o.output)
	}
	if res.Duration < 0 || res.Duration > time.Minute {
		t.Errorf("%s: it took %s", o.what, res.Duration)
	}
}

func TestAModuleThatImportsNothingAnswersFromItsMemory(t *testing.T) {
	r := newRunner(t, Limits{})
	unreachable, nop, loop := []byte{0x00}, []byte{0x01}, []byte{0x03, 0x40, 0x0c, 0x00, 0x0b}
	start := section(startSection, []byte{0})
	withStart := func(body []byte) []byte {
		return assemble(types(), section(functionSection, vec([]byte{tVoid})), start, section(codeSection, vec(function(body))))
	}
	recursion := call(0)
	for _, o := range []outcome{
		{what: "answer", job: Job{Module: abi1(nop, i32const(6))}, status: wire.Succeeded, output: "answer"},
		{what: "no answer", job: Job{Module: abi1(nop, i32const(0))}, status: wire.Succeeded},
		{what: "empty module", job: Job{Module: assemble()}, status: wire.Succeeded},
		{what: "output_len behind the memory", job: Job{Module: abi1(nop, i32const(65537))}, status: wire.TaskFailed, says: "output limit: output_len is 65537, memory has 65536 bytes"},
		{what: "output_len over the limit", job: Job{Module: abi1(nop, i32const(wire.MaxLargeOutput+1))}, status: wire.TaskFailed, says: "output limit: output_len is 67104769, at most 67104768"},
		{what: "negative output_len", job: Job{Module: abi1(nop, i32const(-1))}, status: wire.TaskFailed, says: "output limit: output_len is -1"},
		{what: "trap in output_len", job: Job{Module: abi1(nop, unreachable)}, status: wire.TaskFailed, says: "trap: unreachable"},
		{what: "endless recursion", job: Job{Module: abi1(recursion, i32const(0))}, status: wire.TaskFailed, says: "trap: stack overflow"},
		{what: "start section that traps", job: Job{Module: withStart(unreachable)}, status: wire.TaskFailed, says: "unreachable"},
		{what: "start section that never ends", job: Job{Module: withStart(loop), Walltime: 50 * time.Millisecond}, status: wire.Timeout, says: "out of wall time: it had 50ms"},
		{what: "loop in output_len", job: Job{Module: abi1(nop, cat(loop, i32const(0))), Walltime: 50 * time.Millisecond}, status: wire.Timeout, says: "out of wall time"},
		{what: "output_len of the wrong type", job: Job{Module: assemble(types(),
			section(functionSection, vec([]byte{tVoid})), memoryOf(1),
			exports(exportFunc("output_len", 0), exportMemory()), section(codeSection, vec(function())))},
			status: wire.TaskFailed, says: "invalid module: output_len takes or gives the wrong types"},
		{what: "output_len without memory", job: Job{Module: assemble(types(),
			section(functionSection, vec([]byte{tI32})),
			exports(exportFunc("output_len", 0)), section(codeSection, vec(function(i32const(1)))))},
			status: wire.TaskFailed, says: "no memory"},
	} {
		o.check(t, r)
	}
}

func TestAModuleOfWASIReadsStdinAndWritesStdout(t *testing.T) {
	r := newRunner(t, Limits{OutputBytes: 20})
	fdWrite, exit := wasiImport("fd_write", tFour), wasiImport("proc_exit", tExit)
	twice := cat(write(1, 0), write(1, 0))
	for _, o := range []outcome{
		{what: "stdout", job: Job{Module: abi2(write(1, 0), fdWrite)}, status: wire.Succeeded, output: "no such province"},
		{what: "too much stdout", job: Job{Module: abi2(twice, fdWrite)}, status: wire.TaskFailed, says: "output limit: more than 20 bytes"},
		{what: "exit 0", job: Job{Module: abi2(cat(write(1, 0), i32const(0), call(1)), fdWrite, exit)}, status: wire.Succeeded, output: "no such province"},
		{what: "exit 3", job: Job{Module: abi2(cat(i32const(3), call(0)), exit)}, status: wire.TaskFailed, says: "exit code 3"},
		{what: "what it said", job: Job{Module: abi2(cat(write(2, 0), i32const(1), call(1)), fdWrite, exit)}, status: wire.TaskFailed, says: "exit code 1; it said: no such province"},
		{what: "no _start", job: Job{Module: assemble(types(), section(importSection, vec(exit)))}, status: wire.TaskFailed, says: "exports no function _start"},
		{what: "import of another type", job: Job{Module: abi2(nil, wasiImport("proc_exit", tTwo))}, status: wire.TaskFailed, says: "signature mismatch"},
		{what: "imported memory", job: Job{Module: assemble(section(importSection, vec(cat(name("env"), name("memory"), []byte{2, 0, 1}))))}, status: wire.TaskFailed, says: "unknown imports: env.memory"},
	} {
		o.check(t, r)
	}
}

func TestAJobHasNoFilesAndCannotFillTheTableOfFiles(t *testing.T) {
	r := newRunner(t, Limits{})
	// The error number becomes the exit code.
	renumber := cat(i32const(0), i32const(1<<31-1), call(0), call(1))
	outcome{what: "fd_renumber", job: Job{Module: abi2(renumber, wasiImport("fd_renumber", tTwo), wasiImport("proc_exit", tExit))},
		status: wire.TaskFailed, says: "exit code 58"}.check(t, r)
	prestat := cat(i32const(3), i32const(0), call(0), call(1))
	outcome{what: "fd_prestat_get", job: Job{Module: abi2(prestat, wasiImport("fd_prestat_get", tTwo), wasiImport("proc_exit", tExit))},
		status: wire.TaskFailed, says: "exit code 8"}.check(t, r) // bad file
}

func TestWhatAJobComputesDependsOnNothingElse(t *testing.T) {
	r := newRunner(t, Limits{})
	// Random bytes into the iovec's buffer at 64, then out.
	random := abi2(cat(i32const(64), i32const(16), call(1), drop(), write(1, 0)), wasiImport("fd_write", tFour), wasiImport("random_get", tTwo))
	output := func(job Job) []byte {
		res := r.Run(t.Context(), job)
		if res.Status != wire.Succeeded || len(res.Output) != 16 {
			t.Fatalf("%s %q %q", res.Status, res.Err, res.Output)
		}
		return res.Output
	}
	once := output(Job{Module: random, Stdin: []byte("a")})
	if again := output(Job{Module: random, Stdin: []byte("a")}); !bytes.Equal(once, again) {
		t.Error("the same job had other random numbers")
	}
	if bytes.Equal(once, []byte("no such province")) {
		t.Error("no random numbers")
	}
	if other := output(Job{Module: random, Stdin: []byte("b")}); bytes.Equal(once, other) {
		t.Error("another input had the same random numbers")
	}
	if other := output(Job{Module: random, Stdin: []byte("a"), Args: []string{"x"}}); bytes.Equal(once, other) {
		t.Error("other arguments had the same random numbers")
	}
}

func TestSleepingMovesTheClockWithoutWaiting(t *testing.T) {
	v := &virtualTime{}
	before := v.read()
	start := time.Now()
	v.sleep(int64(time.Hour))
	v.sleep(-1)
	v.sleep(1<<63 - 1)
	if got := v.read() - before; got != time.Hour+tick {
		t.Errorf("an hour's sleep took %s", got)
	}
	if sec, _ := v.wall(); sec != epoch.Add(time.Hour).Unix() {
		t.Errorf("the wall clock says %d", sec)
	}
	if time.Since(start) > time.Second {
		t.Error("it waited")
	}
}

func TestMemoryIsLimitedToTheSmallerWish(t *testing.T) {
	r := newRunner(t, Limits{MemoryBytes: 4 << 20})
	grow := func(pages int64) []byte { // output_len is 0 when memory.grow gives -1
		return abi1([]byte{0x01}, cat(i32const(pages), []byte{0x40, 0}, i32const(-1), []byte{0x47}))
	}
	for _, o := range []outcome{
		{what: "within", job: Job{Module: grow(63)}, status: wire.Succeeded, output: "a"},
		{what: "over, and the module copes", job: Job{Module: grow(64)}, status: wire.Succeeded},
		{what: "over the job's own", job: Job{Module: grow(1), MemoryBytes: 1}, status: wire.Succeeded},
		{what: "at the job's own", job: Job{Module: grow(1), MemoryBytes: 65537}, status: wire.Succeeded, output: "a"},
		{what: "the job cannot have more than the donor gives", job: Job{Module: grow(64), MemoryBytes: 1 << 40}, status: wire.Succeeded},
		{what: "at the start", job: Job{Module: assemble(memoryOf(65))}, status: wire.TaskFailed, says: "memory limit: the module starts with 4259840 bytes, it may have 4194304"},
		{what: "all of the address space", job: Job{Module: assemble(memoryOf(65536))}, status: wire.TaskFailed, says: "memory limit"},
		{what: "more than there is", job: Job{Module: assemble(memoryOf(65537))}, status: wire.TaskFailed, says: "invalid module"},
		{what: "data behind the memory", job: Job{Module: assemble(memoryOf(1), section(dataSection, vec(dataAt(65536, "x"))))}, status: wire.TaskFailed, says: "trap"},
	} {
		o.check(t, r)
	}
}

func TestSizesAreCheckedBeforeAnythingRuns(t *testing.T) {
	r := newRunner(t, Limits{ModuleBytes: 100, StdinBytes: 10})
	outcome{what: "module", job: Job{Module: make([]byte, 101)}, status: wire.TaskFailed, says: "module limit: it has 101 bytes, at most 100"}.check(t, r)
	outcome{what: "stdin", job: Job{Module: assemble(), Stdin: make([]byte, 11)}, status: wire.TaskFailed, says: "input limit: stdin has 11 bytes, at most 10"}.check(t, r)
}

func TestBadLimitsAreRefused(t *testing.T) {
	for _, limits := range []Limits{{ModuleBytes: -1}, {Walltime: -1}, {Modules: -1}, {OutputBytes: wire.MaxLargeOutput + 1}, {MemoryBytes: 1<<32 + 1}} {
		if _, err := New(t.Context(), limits); err == nil {
			t.Errorf("%+v was taken", limits)
		}
	}
}

func loopJob(walltime time.Duration) Job {
	return Job{Module: abi1([]byte{0x03, 0x40, 0x0c, 0x00, 0x0b}, i32const(0)), Walltime: walltime}
}

func TestAJobThatFindsNoPlaceIsToldSo(t *testing.T) {
	r := newRunner(t, Limits{Concurrency: 1, Queue: 20 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan Result)
	go func() { done <- r.Run(ctx, loopJob(time.Minute)) }()
	awaitRunning(t, r, 1)
	outcome{what: "no place", job: Job{Module: assemble()}, status: wire.TaskFailed, says: "busy: 1 jobs run at a time"}.check(t, r)
	cancel()
	if res := <-done; res.Status != wire.Preempted || !strings.Contains(res.Err, "canceled") {
		t.Errorf("the cancelled job: %s %q", res.Status, res.Err)
	}
	outcome{what: "after it", job: Job{Module: assemble()}, status: wire.Succeeded}.check(t, r)
}

func awaitRunning(t *testing.T, r *Runner, n int) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); len(r.slots) != n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d jobs run, want %d", len(r.slots), n)
		}
	}
}

func TestTheCallersDeadlineIsATimeout(t *testing.T) {
	r := newRunner(t, Limits{})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if res := r.Run(ctx, loopJob(time.Minute)); res.Status != wire.Timeout {
		t.Errorf("%s %q", res.Status, res.Err)
	}
}

func TestClosePreemptsWhatRuns(t *testing.T) {
	r, err := New(t.Context(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan Result)
	go func() { done <- r.Run(context.Background(), loopJob(time.Minute)) }()
	awaitRunning(t, r, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	closed := make(chan error)
	go func() { closed <- r.Close(ctx) }()
	if res := <-done; res.Status != wire.Preempted || !strings.HasSuffix(res.Err, "the donor stops") {
		t.Errorf("%s %q", res.Status, res.Err) // it may still have been compiling
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if res := r.Run(t.Context(), Job{Module: assemble()}); res.Status != wire.Preempted {
		t.Errorf("after Close: %s", res.Status)
	}
}

func TestACompilerThatGoesOnIsNoFailureOfClose(t *testing.T) {
	var log strings.Builder
	r, err := New(t.Context(), Limits{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	r.cache.working.Add(1) // one that does not end
	defer r.cache.working.Done()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := r.Close(ctx); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "wait for compilers") {
		t.Errorf("log: %q", log.String())
	}
}

func TestJobsEndWithTheContextOfTheRunner(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, err := New(ctx, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan Result)
	go func() { done <- r.Run(context.Background(), loopJob(time.Minute)) }()
	awaitRunning(t, r, 1)
	cancel()
	if res := <-done; res.Status != wire.Preempted {
		t.Errorf("%s %q", res.Status, res.Err)
	}
	if err := r.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestManyJobsAtOnceOfFewModules(t *testing.T) {
	r := newRunner(t, Limits{Concurrency: 4, Modules: 2, Queue: time.Minute})
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			n := i % 5
			want := "answer"[:n]
			res := r.Run(context.Background(), Job{Module: abi1([]byte{0x01}, i32const(int64(n)))})
			if res.Status != wire.Succeeded || string(res.Output) != want {
				t.Errorf("%s %q %q, want %q", res.Status, res.Err, res.Output, want)
			}
		})
	}
	wg.Wait()
	r.cache.working.Wait() // a compiler lets go of its module a little after it has told
	r.cache.mu.Lock()
	defer r.cache.mu.Unlock()
	if kept := len(r.cache.entries); kept > 2 || kept != r.cache.unused.Len() {
		t.Errorf("%d modules are kept, %d of them unused; at most 2", kept, r.cache.unused.Len())
	}
}

func TestAModuleIsCompiledOnce(t *testing.T) {
	r := newRunner(t, Limits{})
	code := abi1([]byte{0x01}, i32const(1))
	get := func() *module {
		mod, release, err := r.cache.get(t.Context(), code)
		if err != nil {
			t.Fatal(err)
		}
		release()
		return mod
	}
	if first, again := get(), get(); first != again {
		t.Error("it was compiled twice")
	}
}

func TestACompilerThatTakesTooLongIsATimeout(t *testing.T) {
	r := newRunner(t, Limits{Concurrency: 1})
	r.cache.compilers <- struct{}{} // one that does not end
	job := Job{Module: assemble(), Walltime: 20 * time.Millisecond}
	outcome{what: "no compiler", job: job, status: wire.Timeout, says: "wait for a compiler: out of wall time"}.check(t, r)
	<-r.cache.compilers
	e := &cacheEntry{key: moduleKey{1}, ready: make(chan struct{}), users: 1}
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, errWalltime)
	defer cancel()
	r.cache.mu.Lock()
	r.cache.entries[keyOf(job.Module)] = e
	e.key = keyOf(job.Module)
	r.cache.mu.Unlock()
	if _, _, err := r.cache.get(ctx, job.Module); !errors.Is(err, errWalltime) || !strings.Contains(fmt.Sprint(err), "compile the module") {
		t.Errorf("error %v", err)
	}
	r.cache.release(e)
}
