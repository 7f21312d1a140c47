package lab

// Diagnosis is what this machine lets this user's labs have. All of it has been
// tried, in namespaces that are thrown away.
type Diagnosis struct {
	CanRun    bool      `json:"can_run"` // nothing that is needed is missing
	Abilities []Ability `json:"abilities"`
	Profiles  int       `json:"profiles"` // that were tried
	Unfit     []Unfit   `json:"unfit"`    // those of them that cannot run here
}

// Ability is one thing that labs are made of.
type Ability struct {
	Name   string `json:"name"`
	State  State  `json:"state"`
	Needed bool   `json:"needed"`           // there is no lab without it
	Detail string `json:"detail,omitempty"` // what was found, or what the kernel said
	Means  string `json:"means,omitempty"`  // what its lack means, and what is used instead
	Remedy string `json:"remedy,omitempty"` // what turns it on, in general a command
}

// State is how it stands with an ability.
type State string

// An ability is there, or is not, or could not be tried because another is not.
const (
	Untried State = "untried"
	OK      State = "ok"
	Missing State = "missing"
)

// Unfit is a profile that cannot run on this machine.
type Unfit struct {
	Profile string `json:"profile"`
	Why     string `json:"why"`
}

// judged is d with the answer to the question.
func (d Diagnosis) judged() Diagnosis {
	d.CanRun = true
	for _, a := range d.Abilities {
		if a.Needed && a.State != OK {
			d.CanRun = false
		}
	}
	if d.Unfit == nil {
		d.Unfit = []Unfit{}
	}
	return d
}
