package wire

import "fmt"

// VerificationMethod is how a submitter comes to trust an answer.
type VerificationMethod string

// The methods of verification.
const (
	ReplicatedQuorum VerificationMethod = "ReplicatedQuorum"
	TeeAttested      VerificationMethod = "TeeAttested"
	CustomReplicas   VerificationMethod = "CustomReplicas" // takes a number
)

// Verification is Rust's enum of that name: a name alone, or for
// CustomReplicas a map from the name to the number of replicas.
type Verification struct {
	Method   VerificationMethod
	Replicas uint32 // of CustomReplicas only
}

// MarshalCBOR implements cbor.Marshaler.
func (v Verification) MarshalCBOR() ([]byte, error) {
	if v.Method == CustomReplicas {
		return encMode.Marshal(map[VerificationMethod]uint32{v.Method: v.Replicas})
	}
	return encMode.Marshal(string(v.Method))
}

// UnmarshalCBOR implements cbor.Unmarshaler.
func (v *Verification) UnmarshalCBOR(data []byte) error {
	var name VerificationMethod
	if err := decMode.Unmarshal(data, &name); err == nil && !isNull(data) {
		if err := oneOf(name, ReplicatedQuorum, TeeAttested); err != nil {
			return err
		}
		*v = Verification{Method: name}
		return nil
	}
	var with map[VerificationMethod]*uint32
	err := decMode.Unmarshal(data, &with)
	n := with[CustomReplicas]
	if err != nil || len(with) != 1 || n == nil {
		return fmt.Errorf("want %q, %q or {%q: number}", ReplicatedQuorum, TeeAttested, CustomReplicas)
	}
	*v = Verification{Method: CustomReplicas, Replicas: *n}
	return nil
}
