// Package inventory reads the files that tell on which machines a run takes
// place. It is pure: it touches no network and no other file.
package inventory

import "time"

// Role is what a host does in a run.
type Role string

const (
	Donor     Role = "donor"     // behind the firewall, runs jobs
	Submitter Role = "submitter" // on another network, sends jobs
	Relay     Role = "relay"     // a machine of ours with a public address
	Neighbour Role = "neighbour" // another donor, behind the same address as the donor, say: joins and stays, and gets no jobs
)

// Inventory is one inventory file, checked. The Line fields below are where
// something stands in it, for a later stage that finds a mistake: see Problem.
type Inventory struct {
	File    string // as given to Parse
	Version int
	Name    string
	Area    string // folder below evidence/phase1; default firewall-traversal
	Hosts   []Host // in the order of the file; exactly one donor and one submitter
	Relays  []string
	Run     Run
	Job     Job
	Lab     *Lab    // nil: the hosts are real
	Faults  []Fault // what is broken on purpose, in order: first while the donor joins, then during the hold
}

// Host is one machine.
type Host struct {
	Name          string
	SSH           string // alias of an ssh_config, user@host[:port], or local
	Role          Role
	Network       string   // what the operator believes; free text; in a lab by default the lab's network
	ExpectBlocked []string // donor only: inbound, udp, quic, tcp-high-ports, libp2p
	Listen        []string // multiaddrs; empty: the node's defaults for its role
	Announce      []string // IP addresses a relay is reached at, where they are not on an interface
	Line          int
}

// Run is how long things take.
type Run struct {
	Hold    time.Duration // how long the relay connection is held; default 10m
	Observe time.Duration // how long to wait for a reservation; default 5m
	Lease   time.Duration // how long nodes live on without the suite; default 60s
}

// Job is what the submitter sends.
type Job struct {
	Fixture string // of wasm-fixtures; default sha256
	Line    int    // of the fixture; 0 when the file names none
}

// Lab is the simulated internet that the hosts live in.
type Lab struct {
	File       string        // as in Inventory
	Latency    time.Duration // of each access link, one way; default 10ms
	Zone       string        // the DNS zone it serves; default mesh.wce2e.net
	Bystanders int           // public libp2p nodes beside the hosts; default 0
	Networks   []LabNetwork  // in the order of the file
	Hosts      []LabHost     // in the order of the file
	Line       int
}

// LabNetwork is one site behind one router.
type LabNetwork struct {
	Name    string
	Profile string // of e2e/lab, or several joined by +
	Link    Link   // between its router and the internet, or, without a router, of each of its hosts
	Line    int    // of the profile
}

// LabHost is one simulated machine.
type LabHost struct {
	Name    string // what hosts.*.ssh names
	Network string
	Line    int
}
