package netcheck

import "slices"

// Diagnosis is what a Report means.
type Diagnosis struct {
	Causes     []Finding     `json:"causes"`     // what is in the way, the most decisive first; none: nothing is
	Hypothesis Hypothesis    `json:"hypothesis"` // which of the three held
	Targets    []Explanation `json:"targets"`    // every address of the list, each with each way that was tried
	Ways       []string      `json:"ways"`       // transports that reach a relay, the best first
	Donor      string        `json:"donor"`      // what the donor does about it, by itself
	Operator   string        `json:"operator"`   // what whoever runs it can do
	// Administrator is a paragraph for whoever runs the network: names, ports and
	// protocols, and nothing secret. Empty when nothing is asked of them.
	Administrator string `json:"administrator"`
}

// Explained tells whether everything that failed is accounted for.
func (d Diagnosis) Explained() bool {
	return !slices.ContainsFunc(d.Causes, func(f Finding) bool { return f.Cause == NoControl })
}

// Finding is one obstacle.
type Finding struct {
	Cause      Cause      `json:"cause"`
	Confidence Confidence `json:"confidence"`
	Because    []int      `json:"because"` // IDs of the records that led to it
	Sentence   string     `json:"sentence"`
}

// Confidence is how well a finding is shown.
type Confidence string

const (
	Certain  Confidence = "certain"  // shown by what cannot come about otherwise
	Likely   Confidence = "likely"   // the simplest that explains all records
	Possible Confidence = "possible" // others explain them as well
)

// Hypothesis is one of three about a node of which nothing more is heard.
type Hypothesis string

const (
	NoHypothesis Hypothesis = ""
	H1           Hypothesis = "H1" // the daemon dies silently
	H2           Hypothesis = "H2" // dials fail, and the reason is swallowed
	H3           Hypothesis = "H3" // the connection is established and dies at the security handshake
)

// Explanation is what became of one way to one address of the list.
type Explanation struct {
	Target    int       `json:"target"`    // index into Report.Targets
	Addr      string    `json:"addr"`      // what was dialled; empty: nothing, since no name led anywhere
	Transport string    `json:"transport"` //
	Reached   Operation `json:"reached"`   // the last layer that stood; empty: none
	Failed    Operation `json:"failed"`    // the layer that did not; empty: none
	Failure   Failure   `json:"failure"`
	Cause     Cause     `json:"cause"`
	Sentence  string    `json:"sentence"`
	Because   []int     `json:"because"`
}
