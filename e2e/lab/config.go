package lab

import (
	"log/slog"
	"net/netip"

	"github.com/worldcompute/wce2e/inventory"
)

// Config says which internet to build.
type Config struct {
	// Lab is what the inventory asks for. An empty Zone means mesh.wce2e.net;
	// a Latency of 0 means no delay at all, which lies (see the package comment).
	Lab *inventory.Lab
	// Dir is where keys and sockets go. It must not exist, or be empty, and be
	// short: a unix socket's path has 107 bytes. It is gone after Close. Empty
	// means a fresh one, 0700, below os.TempDir.
	Dir string
	// Binary is the wce2e that bystanders run; it may be empty where the lab has none.
	Binary string
	// Share are files of this machine that every host but the bystanders shows,
	// read-only, in its home: path below that -> path here. However many hosts there
	// are, they take no memory but once.
	Share map[string]string
	// Log gets what the lab's own processes say. nil means discard.
	Log *slog.Logger

	proving bool // it is built for proofs only: no host has a process, and timers are short
}

// Host is one simulated machine, as it was built.
type Host struct {
	Name    string     `json:"name"`
	Network string     `json:"network"` // empty for a bystander
	Profile string     `json:"profile"`
	Addr    netip.Addr `json:"addr"`           // on its own interface; of IPv6 where it has no other
	Addr6   netip.Addr `json:"addr6,omitzero"` // the same; invalid where there is no IPv6
	Egress  netip.Addr `json:"egress"`         // what the internet sees, or one of several; the same as Addr without NAT
}

// Profile is what an institution, an ISP or a home puts between its hosts and
// the internet.
type Profile struct {
	Name     string // as inventories write it
	Sentence string // who does this, and what it does
	Truth    Truth

	build // how, where a lab can be built
}
