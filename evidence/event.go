package evidence

import (
	"encoding/json"
	"time"
)

// Event is one line of trace.jsonl.
type Event struct {
	TS   time.Time `json:"ts"`    // the suite's clock, UTC
	Seq  uint64    `json:"seq"`   // from 1, without gaps
	Name Name      `json:"event"` // what was observed
	Host string    `json:"host,omitempty"`
	// Data is the payload that belongs to Name.
	Data json.RawMessage `json:"data,omitempty"`
	// Prev is the SHA-256 (hex) of the line before, without its newline; 64
	// zeros in the first line.
	Prev string `json:"prev"`
}

// Name tells what an Event says, and so which type its Data has.
type Name string

const (
	RunStarted   Name = "run.started"    // Started
	LabUp        Name = "lab.up"         // LabFacts; only where the inventory has a lab
	HostUp       Name = "host.connected" // Connected
	HostFacts    Name = "host.facts"     // Facts
	Deployed     Name = "host.deployed"  // Deployment
	NodeUp       Name = "node.up"        // NodeStart
	NodeSaid     Name = "node.event"     // a node/wire.Event, as the node wrote it
	NodeStatus   Name = "node.status"    // a node/wire.Status, as the node answered
	NodeExited   Name = "node.exited"    // Exit; a node that ended without being asked
	DialProbed   Name = "dial.probed"    // Probe
	NetProbed    Name = "network.probed" // NetworkProbe
	JobDone      Name = "job.done"       // Job
	StepFailed   Name = "step.failed"    // Failure: the mesh failed a step, and the run goes on
	HoldStarted  Name = "hold.started"   // Hold
	HoldEnded    Name = "hold.ended"     // Hold
	FaultDone    Name = "fault.injected" // Fault
	Residue      Name = "host.residue"   // Leftovers
	LogCollected Name = "log.collected"  // LogFile
	EventsHashed Name = "events.hashed"  // LogFile without File: a node's events.jsonl, hashed on the host; its lines are the trace's NodeSaid
	SuiteFailed  Name = "suite.failed"   // Failure: we failed, and the run ends
	RunEnded     Name = "run.ended"      // Ended; the last line
)

// Started opens a trace.
type Started struct {
	RunID     string   `json:"run_id"`
	Kind      Kind     `json:"kind,omitempty"`
	Inventory string   `json:"inventory"` // its name
	Area      string   `json:"area"`
	Lab       bool     `json:"lab"` // the hosts are simulated
	Hold      Duration `json:"hold"`
	Observe   Duration `json:"observe"`
	Fixture   string   `json:"fixture"`
	Keep      bool     `json:"keep,omitempty"` // the operator asked to leave the nodes' files on the hosts
	Hosts     []Host   `json:"hosts"`
	Source    Source   `json:"source"`
	Diagnosed []string `json:"diagnosed,omitempty"` // of a diagnosis: the hosts that it is about
}

// Kind is what a run is for.
type Kind string

const (
	Acceptance Kind = ""         // to show that a donor gets out, by the claims of Claims
	Diagnosing Kind = "diagnose" // to find out why it does not, by one claim for each host that was looked at
)

// Host is what the operator says of a host.
type Host struct {
	Name          string   `json:"name"`
	Role          string   `json:"role"` // donor | submitter | relay | neighbour
	Network       string   `json:"network"`
	ExpectBlocked []string `json:"expect_blocked,omitempty"`
}

// Source is the source tree that the deployed binary was built from.
type Source struct {
	Commit string `json:"commit"` // empty when the suite does not run from a checkout
	Tree   string `json:"tree"`   // SHA-256 over the files of the tree, without evidence/phase1
	Dirty  bool   `json:"dirty"`  // the tree differs from the commit
	Go     string `json:"go"`     // the toolchain's version
}

// LabFacts tells what the simulated internet was.
type LabFacts struct {
	Networks map[string]string `json:"networks"` // network -> profile
	Hosts    map[string]string `json:"hosts"`    // host -> network
	Latency  Duration          `json:"latency"`  // of each access link, one way
}

// Connected is a host that answered over SSH.
type Connected struct {
	Target  string `json:"target"`   // scrubbed: alias, no user
	HostKey string `json:"host_key"` // fingerprint, SHA256:...; empty for ssh: local
}

// Facts is what the preflight found on a host.
type Facts struct {
	Hostname      string   `json:"hostname"`
	OS            string   `json:"os"`     // GOOS
	Arch          string   `json:"arch"`   // GOARCH
	Distro        string   `json:"distro"` // PRETTY_NAME of os-release, or the like
	Kernel        string   `json:"kernel"`
	CPUModel      string   `json:"cpu_model"`
	CPUs          int      `json:"cpus"`
	MemoryGB      float64  `json:"memory_gb"`
	GPUs          []string `json:"gpus"`
	DiskFreeMB    uint64   `json:"disk_free_mb"`    // where the node's files go
	ClockOffsetMS float64  `json:"clock_offset_ms"` // the host's clock minus the suite's
	ClockErrorMS  float64  `json:"clock_error_ms"`  // +- of that: half the round trip
	Addrs         []string `json:"addrs"`           // interface addresses, no loopback
	EUID          int      `json:"euid"`
}

// Deployment is a binary on a host.
type Deployment struct {
	Path     string `json:"path"` // below the host's home, which is written ~
	SHA256   string `json:"sha256"`
	Platform string `json:"platform"` // os/arch
	Uploaded bool   `json:"uploaded"` // false: the host had it
}

// NodeStart is a node that the suite started.
type NodeStart struct {
	Role   string   `json:"role"`
	PeerID string   `json:"peer_id"`
	Boot   string   `json:"boot"` // as in the node's events
	Args   []string `json:"args"` // scrubbed
}

// Exit is how a node ended.
type Exit struct {
	Code   int    `json:"code"`   // -1 when a signal ended it
	Signal string `json:"signal"` // empty when none
	Tail   string `json:"tail"`   // its last lines
	Lease  bool   `json:"lease"`  // the supervisor ended it: the suite's lease had lapsed
}

// Purpose tells why a dial was made.
type Purpose string

const (
	NegativeControl Purpose = "negative"       // submitter to the donor, directly: a firewall refuses it
	MappedPort      Purpose = "mapped-port"    // submitter to a port that the donor's router has lent it: nobody is kept out there
	LocalControl    Purpose = "positive-local" // the donor's host to the donor: it listens
	RelayControl    Purpose = "positive-relay" // submitter to a relay, the same transport: its dials work
	ExpectBlocked   Purpose = "expect-blocked" // donor's host to a relay: what the operator says is blocked
	CircuitDial     Purpose = "circuit"        // submitter to the donor, through a relay
)

// Phase tells on which side of the hold a step stood.
type Phase string

const (
	BeforeHold Phase = "before"
	AfterHold  Phase = "after"
)

// Probe is one dial made from a host with a fresh identity.
type Probe struct {
	Purpose   Purpose         `json:"purpose"`
	Phase     Phase           `json:"phase"`
	Transport string          `json:"transport"`         // what is being tried: tcp | quic-v1 | wss | circuit
	Blocked   string          `json:"blocked,omitempty"` // with ExpectBlocked: which of its words
	Result    json.RawMessage `json:"result"`            // a node/wire.DialResult
}

// NetworkProbe is what a host saw of its network, layer by layer. Of a host that
// is diagnosed, what other networks' hosts saw of the same addresses is the control.
type NetworkProbe struct {
	Diagnosed bool            `json:"diagnosed"` // false: it is there to be compared with
	Quick     bool            `json:"quick,omitempty"`
	Report    json.RawMessage `json:"report"` // a node/netcheck.Report, without controls
}

// Job is one task sent from the submitter.
type Job struct {
	Phase          Phase           `json:"phase"`
	Fixture        string          `json:"fixture"`
	Nonce          string          `json:"nonce"`           // hex
	ModuleSHA256   string          `json:"module_sha256"`   // of the module as sent
	InputSHA256    string          `json:"input_sha256"`    // of the input as sent
	ExpectedSHA256 string          `json:"expected_sha256"` // computed without WASM
	Result         json.RawMessage `json:"result"`          // a node/wire.DispatchResult, without its output
}

// Hold marks the beginning and the end of the hold.
type Hold struct {
	Planned Duration `json:"planned"`
	Relay   string   `json:"relay"`         // peer ID of the relay whose connection is to be held
	Conn    string   `json:"conn"`          // that connection, as in the donor's events
	Cut     string   `json:"cut,omitempty"` // why it ended early
}

// Failure is a step that did not work.
type Failure struct {
	Step string `json:"step"`
	Err  string `json:"err"`
}

// Leftovers is what of ours was on a host at a moment.
type Leftovers struct {
	When      string            `json:"when"`      // before | after
	Processes []string          `json:"processes"` // of our binary
	Listeners []string          `json:"listeners"` // sockets of those processes
	Files     map[string]string `json:"files"`     // path (~/...) -> SHA-256, below our directory
	Allowed   []string          `json:"allowed"`   // paths that may stay: the cached binary
}

// LogFile is a log fetched from a host.
type LogFile struct {
	File   string `json:"file"`   // in the bundle
	SHA256 string `json:"sha256"` // of its text, computed on the host
	Size   int64  `json:"size"`
	Kept   int64  `json:"kept"` // bytes of it in the bundle: the budget may cut it
}

// Ended closes a trace.
type Ended struct {
	How string `json:"how"` // finished | interrupted | failed
	Err string `json:"err,omitempty"`
}
