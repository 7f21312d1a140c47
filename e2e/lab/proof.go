package lab

import "time"

// Proof is what came of proving one rule or service of a network.
type Proof struct {
	Profile string        `json:"profile"`
	Name    string        `json:"name"` // of the rule or service
	Does    string        `json:"does"`
	Saw     string        `json:"saw,omitempty"`
	Hidden  string        `json:"hidden,omitempty"` // why other rules leave nothing to be seen of it, which happens in composed profiles
	Err     string        `json:"err,omitempty"`    // empty: it does what it says
	Took    time.Duration `json:"took_ns"`
}

// Rule is one of the rules and services that a profile is made of.
type Rule struct {
	Name string `json:"name"` // unique in a profile
	Does string `json:"does"` // as a clause
}
