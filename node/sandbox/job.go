package sandbox

import (
	"fmt"
	"time"

	"github.com/worldcompute/wce2e/node/wire"
)

// Job is one run of one module.
type Job struct {
	Module      []byte        // the binary format of WebAssembly
	Stdin       []byte        // ABI 2 only; nil is an empty input
	Args        []string      // ABI 2 only; the first is the module's name
	Walltime    time.Duration // 0, or more than the runner's limit, means that limit
	MemoryBytes uint64        // 0, or more than the runner's limit, means that limit; rounded up to 64 KiB
	OutputBytes int           // 0, or more than the runner's limit, means that limit
}

// Result tells how a job ended. What a module does wrong, and every limit that
// it hits, is a Result, not an error of ours.
type Result struct {
	Status   wire.TaskStatus
	Output   []byte        // of Succeeded only
	Err      string        // what went wrong, for the submitter; empty when it succeeded
	Duration time.Duration // compiling and running; not the wait for a place
}

func failed(format string, args ...any) Result {
	return Result{Status: wire.TaskFailed, Err: fmt.Sprintf(format, args...)}
}
