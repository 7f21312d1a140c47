package wire

import (
	"errors"
	"fmt"
	"time"
)

// Limits of what a message may hold, in number, so that a small one cannot
// become a large one in memory. A message over them is malformed.
const (
	MaxTaskID       = 128  // bytes of a task ID
	MaxInlineInputs = 64   // inline inputs of a request
	MaxElements     = 1024 // elements of any other list (but of Bytes), keys of any map
)

// ErrTooLarge tells that a message is over its version's limit.
var ErrTooLarge = errors.New("message too large")

// TaskStatus is how a task ended. The zero value is none of them.
type TaskStatus string

// The outcomes of a task.
const (
	Succeeded  TaskStatus = "Succeeded"
	TaskFailed TaskStatus = "Failed"    // the module, or the donor's policy or limits; the response's Error says which
	Timeout    TaskStatus = "Timeout"   // the task took more than its wall time
	Preempted  TaskStatus = "Preempted" // the donor took its machine back
)

// The names of inline inputs that mean something to a donor.
const (
	WorkloadInput = "workload" // the module
	StdinInput    = "stdin"    // what the module reads on standard input
)

// TaskDispatchRequest asks a donor to run a task.
type TaskDispatchRequest struct {
	TaskID       string   `cbor:"task_id"` // not empty, at most MaxTaskID; made unique by the submitter
	Manifest     Manifest `cbor:"manifest"`
	InlineInputs []Input  `cbor:"inline_inputs"`
}

// Input is a named piece of data that travels inside the request. On the wire
// it is an array of two: the name and the bytes.
type Input struct {
	_    struct{} `cbor:",toarray"`
	Name string
	Data Bytes
}

// TaskDispatchResponse tells how a task ended.
type TaskDispatchResponse struct {
	TaskID     string     `cbor:"task_id"`
	Status     TaskStatus `cbor:"status"`
	Output     Bytes      `cbor:"output"`
	OutputCID  *string    `cbor:"output_cid"`  // where a large output is; nil when it is in Output
	DurationMS uint64     `cbor:"duration_ms"` // on the donor, milliseconds, rounded down
	Error      *string    `cbor:"error"`       // nil unless it failed
}

// NewRequest asks for one run of a WebAssembly module under the manifest of
// NewManifest. A nil stdin sends no such input.
func NewRequest(taskID, name string, module, stdin []byte) TaskDispatchRequest {
	inputs := []Input{{Name: WorkloadInput, Data: module}}
	if stdin != nil {
		inputs = append(inputs, Input{Name: StdinInput, Data: stdin})
	}
	return TaskDispatchRequest{TaskID: taskID, Manifest: NewManifest(name, module), InlineInputs: inputs}
}

// Input returns the first inline input of that name.
func (r *TaskDispatchRequest) Input(name string) (data []byte, ok bool) {
	for i := range r.InlineInputs {
		if r.InlineInputs[i].Name == name {
			return r.InlineInputs[i].Data, true
		}
	}
	return nil, false
}

// Workload returns the module that the request carries. It fails when there is
// none, when it is not WebAssembly's type of workload, or when it is not the
// module that the manifest names by its CID.
func (r *TaskDispatchRequest) Workload() ([]byte, error) {
	if t := r.Manifest.WorkloadType; t != WasmModule {
		return nil, fmt.Errorf("workload type %s is not supported, only %s is", t, WasmModule)
	}
	module, ok := r.Input(WorkloadInput)
	if !ok {
		return nil, fmt.Errorf("no inline input is named %q, and workloads are not fetched by CID", WorkloadInput)
	}
	if err := r.Manifest.WorkloadCID.Verify(module); err != nil {
		return nil, fmt.Errorf("input %q against manifest.workload_cid: %w", WorkloadInput, err)
	}
	return module, nil
}

// SetWalltime sets both of the manifest's limits of time, in whole milliseconds.
func (r *TaskDispatchRequest) SetWalltime(d time.Duration) {
	ms := uint64(max(d, 0).Milliseconds())
	r.Manifest.MaxWallclockMS, r.Manifest.Resources.WalltimeBudgetMS = ms, ms
}

// Walltime is the shorter of the two limits that the manifest gives; 0 when it gives none.
func (r *TaskDispatchRequest) Walltime() time.Duration {
	ms := r.Manifest.MaxWallclockMS
	if b := r.Manifest.Resources.WalltimeBudgetMS; ms == 0 || b > 0 && b < ms {
		ms = b
	}
	const most = uint64(1<<63-1) / uint64(time.Millisecond)
	return time.Duration(min(ms, most)) * time.Millisecond
}
