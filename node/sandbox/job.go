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
}

// Result tells how a job ended. What a module does wrong, and every limit that
// it hits, is a Result, not an error of ours.
type Result struct {
	Status   wire.TaskStatus
	Output   []byte        // of Succeeded only
	Err      string        // what went wrong, for the submitter; empty when it succeeded
	Duration time.Duration // compiling and running; not the wait for a place
}

// JobOf takes the job out of a request. Its error is for the submitter.
func JobOf(request wire.TaskDispatchRequest) (Job, error) {
	module, err := request.Workload()
	if err != nil {
		return Job{}, fmt.Errorf("task %s: %w", request.TaskID, err)
	}
	stdin, _ := request.Input(wire.StdinInput)
	return Job{
		Module:      module,
		Stdin:       stdin,
		Args:        request.Manifest.Command,
		Walltime:    request.Walltime(),
		MemoryBytes: request.Manifest.Resources.RAMBytes,
	}, nil
}

// Response is the result as the answer to the task of that ID.
func (r Result) Response(taskID string) wire.TaskDispatchResponse {
	response := wire.TaskDispatchResponse{
		TaskID:     taskID,
		Status:     r.Status,
		Output:     r.Output,
		DurationMS: uint64(max(0, r.Duration.Milliseconds())),
	}
	if r.Err != "" {
		response.Error = &r.Err
	}
	return response
}

func failed(format string, args ...any) Result {
	return Result{Status: wire.TaskFailed, Err: fmt.Sprintf(format, args...)}
}
