package wire

import (
	"errors"
	"fmt"
)

// UnmarshalCBOR implements cbor.Unmarshaler.
func (r *TaskDispatchRequest) UnmarshalCBOR(data []byte) error {
	err := decodeFields(data,
		field{name: "task_id", into: &r.TaskID},
		field{name: "manifest", into: &r.Manifest},
		field{name: "inline_inputs", into: listOf[Input]{&r.InlineInputs, MaxInlineInputs}},
	)
	if err != nil {
		return err
	}
	return checkTaskID(r.TaskID)
}

func checkTaskID(id string) error {
	switch {
	case id == "":
		return errors.New("task_id is empty")
	case len(id) > MaxTaskID:
		return fmt.Errorf("task_id has %d bytes, at most %d are allowed", len(id), MaxTaskID)
	}
	return nil
}

// UnmarshalCBOR implements cbor.Unmarshaler.
func (r *TaskDispatchResponse) UnmarshalCBOR(data []byte) error {
	err := decodeFields(data,
		field{name: "task_id", into: &r.TaskID},
		field{name: "status", into: enumOf(&r.Status, Succeeded, TaskFailed, Timeout, Preempted)},
		field{name: "output", into: &r.Output},
		field{name: "output_cid", into: &r.OutputCID, optional: true},
		field{name: "duration_ms", into: &r.DurationMS},
		field{name: "error", into: &r.Error, optional: true},
	)
	if err != nil || r.TaskID == "" { // that of a request that could not be read
		return err
	}
	return checkTaskID(r.TaskID)
}

// UnmarshalCBOR implements cbor.Unmarshaler.
func (i *Input) UnmarshalCBOR(data []byte) error {
	if major(data) != majorArray {
		return errors.New("want an array of a name and bytes")
	}
	pair, err := elements(data, 2)
	if err != nil || len(pair) != 2 {
		return errors.New("want an array of a name and bytes")
	}
	if err := text(pair[0], &i.Name); err != nil {
		return errors.New("the name is not a text")
	}
	return i.Data.UnmarshalCBOR(pair[1])
}

// UnmarshalCBOR implements cbor.Unmarshaler.
func (m *Manifest) UnmarshalCBOR(data []byte) error {
	return decodeFields(data,
		field{name: "manifest_cid", into: &m.ManifestCID, optional: true},
		field{name: "name", into: &m.Name},
		field{name: "workload_type", into: enumOf(&m.WorkloadType, WasmModule, OciContainer)},
		field{name: "workload_cid", into: &m.WorkloadCID},
		field{name: "command", into: listOf[string]{&m.Command, MaxElements}},
		field{name: "inputs", into: listOf[CID]{&m.Inputs, MaxElements}},
		field{name: "output_sink", into: &m.OutputSink},
		field{name: "resources", into: &m.Resources},
		field{name: "category", into: enumOf(&m.Category, DonorRedemption, PaidSponsored, PublicGood, SelfImprovement)},
		field{name: "confidentiality", into: enumOf(&m.Confidentiality, Public, ConfidentialMedium, ConfidentialHigh)},
		field{name: "verification", into: &m.Verification},
		field{name: "acceptable_use_classes", into: listOf[AcceptableUse]{&m.AcceptableUseClasses, MaxElements}},
		field{name: "max_wallclock_ms", into: &m.MaxWallclockMS},
		field{name: "submitter_signature", into: &m.SubmitterSignature},
		field{name: "allowed_endpoints", into: listOf[string]{&m.AllowedEndpoints, MaxElements}, optional: true},
		field{name: "confidentiality_level", into: &m.ConfidentialityLevel, optional: true},
	)
}

// UnmarshalCBOR implements cbor.Unmarshaler.
func (u *AcceptableUse) UnmarshalCBOR(data []byte) error {
	var name string
	if err := text(data, &name); err != nil {
		return err
	}
	*u = AcceptableUse(name)
	return oneOf(*u, Scientific, PublicGoodMl, Rendering, Indexing, UseSelfImprovement, GeneralCompute)
}

// UnmarshalCBOR implements cbor.Unmarshaler.
func (r *Resources) UnmarshalCBOR(data []byte) error {
	return decodeFields(data,
		field{name: "cpu_millicores", into: &r.CPUMillicores},
		field{name: "ram_bytes", into: &r.RAMBytes},
		field{name: "gpu_class", into: &r.GPUClass, optional: true},
		field{name: "gpu_vram_bytes", into: &r.GPUVRAMBytes},
		field{name: "scratch_bytes", into: &r.ScratchBytes},
		field{name: "network_egress_bytes", into: &r.NetworkEgressBytes},
		field{name: "walltime_budget_ms", into: &r.WalltimeBudgetMS},
	)
}
