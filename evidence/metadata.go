package evidence

import (
	"encoding/json"
	"time"
)

// Metadata is metadata.json: what ran where. Its fields up to Env are World
// Compute's own; their tools read them by these names.
type Metadata struct {
	RunID           string            `json:"run_id"`
	Area            string            `json:"area"` // firewall-traversal
	Spec            string            `json:"spec"` // the document whose acceptance the bundle speaks of
	GitSHA          string            `json:"git_sha"`
	SoftwareVersion string            `json:"software_version"`
	StartedAt       time.Time         `json:"started_at"`
	EndedAt         time.Time         `json:"ended_at"`
	Machines        []Machine         `json:"machines"`
	Env             map[string]string `json:"env"` // chosen by the suite, never the process environment

	Inventory string            `json:"inventory,omitempty"` // its name
	Lab       bool              `json:"lab"`                 // the machines are simulated
	Source    Source            `json:"source"`              // what the binaries were built from
	Binaries  map[string]string `json:"binaries,omitempty"`  // os/arch -> SHA-256 of the build deployed there
}

// Machine is one host of the run.
type Machine struct {
	Hostname       string   `json:"hostname"`
	OS             string   `json:"os"`
	Kernel         string   `json:"kernel"`
	CPUModel       string   `json:"cpu_model"`
	MemoryGB       float64  `json:"memory_gb"`
	GPUs           []string `json:"gpus"`
	NetworkProfile string   `json:"network_profile"` // what the operator says, or the lab's profile
}

// MarshalJSON writes "no GPU" as an empty list: World Compute's tools take its length.
func (m Machine) MarshalJSON() ([]byte, error) {
	type plain Machine // without this method
	if m.GPUs == nil {
		m.GPUs = []string{}
	}
	return json.Marshal(plain(m))
}
