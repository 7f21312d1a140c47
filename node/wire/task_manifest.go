package wire

import "time"

// Defaults of NewManifest.
const (
	DefaultRAM      = 256 << 20 // bytes
	DefaultWalltime = 60 * time.Second
)

// WorkloadType is what a workload is made of.
type WorkloadType string

// The types of workload.
const (
	WasmModule   WorkloadType = "WasmModule"
	OciContainer WorkloadType = "OciContainer"
)

// JobCategory is on whose account a job runs.
type JobCategory string

// The categories of jobs.
const (
	DonorRedemption JobCategory = "DonorRedemption"
	PaidSponsored   JobCategory = "PaidSponsored"
	PublicGood      JobCategory = "PublicGood"
	SelfImprovement JobCategory = "SelfImprovement"
)

// Confidentiality is who may see the data of a job.
type Confidentiality string

// The levels of confidentiality.
const (
	Public             Confidentiality = "Public"
	ConfidentialMedium Confidentiality = "ConfidentialMedium"
	ConfidentialHigh   Confidentiality = "ConfidentialHigh"
)

// AcceptableUse is a class of work that donors can opt into.
type AcceptableUse string

// The classes of acceptable use.
const (
	Scientific         AcceptableUse = "Scientific"
	PublicGoodMl       AcceptableUse = "PublicGoodMl"
	Rendering          AcceptableUse = "Rendering"
	Indexing           AcceptableUse = "Indexing"
	UseSelfImprovement AcceptableUse = "SelfImprovement"
	GeneralCompute     AcceptableUse = "GeneralCompute"
)

// Manifest is World Compute's JobManifest: what is to be run, and under which terms.
type Manifest struct {
	ManifestCID          *CID            `cbor:"manifest_cid"` // nil when not computed
	Name                 string          `cbor:"name"`
	WorkloadType         WorkloadType    `cbor:"workload_type"`
	WorkloadCID          CID             `cbor:"workload_cid"`
	Command              []string        `cbor:"command"` // the module's arguments, its own name first
	Inputs               []CID           `cbor:"inputs"`
	OutputSink           string          `cbor:"output_sink"`
	Resources            Resources       `cbor:"resources"`
	Category             JobCategory     `cbor:"category"`
	Confidentiality      Confidentiality `cbor:"confidentiality"`
	Verification         Verification    `cbor:"verification"`
	AcceptableUseClasses []AcceptableUse `cbor:"acceptable_use_classes"`
	MaxWallclockMS       uint64          `cbor:"max_wallclock_ms"`
	SubmitterSignature   Bytes           `cbor:"submitter_signature"`
	AllowedEndpoints     []string        `cbor:"allowed_endpoints"`     // may be absent
	ConfidentialityLevel *string         `cbor:"confidentiality_level"` // may be absent
}

// Resources is World Compute's ResourceEnvelope: what a job may use.
type Resources struct {
	CPUMillicores      uint64  `cbor:"cpu_millicores"` // 1000 is one core
	RAMBytes           uint64  `cbor:"ram_bytes"`
	GPUClass           *uint32 `cbor:"gpu_class"` // nil: no GPU
	GPUVRAMBytes       uint64  `cbor:"gpu_vram_bytes"`
	ScratchBytes       uint64  `cbor:"scratch_bytes"`
	NetworkEgressBytes uint64  `cbor:"network_egress_bytes"`
	WalltimeBudgetMS   uint64  `cbor:"walltime_budget_ms"`
}

// NewManifest describes a public, unsigned run of a WebAssembly module, within
// DefaultRAM and DefaultWalltime, without network or scratch space. The command
// is the name alone: World Compute refuses an empty one.
func NewManifest(name string, module []byte) Manifest {
	return Manifest{
		Name:         name,
		WorkloadType: WasmModule,
		WorkloadCID:  RawCID(module),
		Command:      []string{name},
		OutputSink:   "inline",
		Resources: Resources{
			CPUMillicores:    1000,
			RAMBytes:         DefaultRAM,
			WalltimeBudgetMS: uint64(DefaultWalltime.Milliseconds()),
		},
		Category:             PublicGood,
		Confidentiality:      Public,
		Verification:         Verification{Method: ReplicatedQuorum},
		AcceptableUseClasses: []AcceptableUse{Scientific},
		MaxWallclockMS:       uint64(DefaultWalltime.Milliseconds()),
	}
}
