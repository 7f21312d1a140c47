package lab

import "time"

// Proof is what came of proving one rule or service of a network.
type Proof struct {
	Profile string        `json:"profile"`
	Name    string        `json:"name"` // of the rule or service
	Does    string        `json:"does"`
	Saw     string        `json:"saw,omitempty"`
	Err     string        `json:"err,omitempty"` // empty: it does what it says
	Took    time.Duration `json:"took_ns"`
}
