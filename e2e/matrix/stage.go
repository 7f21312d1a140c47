package matrix

import (
	"strings"
	"time"

	"github.com/worldcompute/wce2e/e2e/lab"
	"github.com/worldcompute/wce2e/inventory"
)

const (
	near, far, core = "near", "far", "core" // networks of a cell's lab
	relay1, relay2  = "relay1", "relay2"
	// observe is how long a donor may look for a relay: a captive portal opens
	// meanwhile, and timeouts of 15 s pass.
	observe = 45 * time.Second
	lease   = 60 * time.Second
	latency = 10 * time.Millisecond // of each link: with none, hole punches fail that work outside
	zone    = "mesh.wce2e.net"
)

// Inventory is what a cell runs on: the smallest lab that has everything a claim
// needs, since many of them stand side by side.
//
// A hole is punched by a transport by which both ends have been seen. With one
// relay, each end is seen by the transport that won its race there, and whether
// they had one in common was chance: behind udp-blocked 1 of 2 runs was upgraded.
// So the relay's transports are spread over two, as they are over many in a mesh;
// and its IP versions, since a donor that was seen over IPv6 alone cannot be
// compared with a submitter that has IPv4 alone.
func (c Cell) Inventory(hold time.Duration, faults []inventory.Fault) *inventory.Inventory {
	return &inventory.Inventory{
		Version: 1, Name: "cell", Area: "matrix",
		Hosts: []inventory.Host{
			{Name: donor, SSH: donor, Role: inventory.Donor, Network: near, ExpectBlocked: []string{"inbound"}},
			{Name: submitter, SSH: submitter, Role: inventory.Submitter, Network: far},
			{Name: relay1, SSH: relay1, Role: inventory.Relay, Network: core, Listen: []string{
				"/ip4/0.0.0.0/udp/4001/quic-v1", "/ip4/0.0.0.0/udp/4001/quic-v1/webtransport", "/ip4/0.0.0.0/tcp/443/tls/ws"}},
			{Name: relay2, SSH: relay2, Role: inventory.Relay, Network: core, Listen: []string{"/ip4/0.0.0.0/tcp/4001", "/ip6/::/tcp/4001"}},
		},
		Run:    inventory.Run{Hold: hold, Observe: observe, Lease: lease},
		Job:    inventory.Job{Fixture: "sha256"},
		Faults: faults,
		Lab: &inventory.Lab{
			Latency: latency, Zone: zone,
			Networks: []inventory.LabNetwork{{Name: near, Profile: c.Donor}, {Name: far, Profile: c.Submitter}, {Name: core, Profile: "open"}},
			Hosts:    []inventory.LabHost{{Name: donor, Network: near}, {Name: submitter, Network: far}, {Name: relay1, Network: core}, {Name: relay2, Network: core}},
		},
	}
}

// Faults are what happens by itself to the network of a profile, as faults of its
// inventory. One that comes later than half of a short hold comes then: what
// follows it must be seen as well.
func Faults(truth lab.Truth, hold time.Duration) []inventory.Fault {
	var faults []inventory.Fault
	for _, e := range truth.Events {
		f := inventory.Fault{After: min(e.After, hold/2), Do: inventory.FaultKind(e.Do)}
		switch f.Do {
		case inventory.Login: // before it there is nothing to hold
			f.During, f.After, f.Host = inventory.Join, e.After, donor
		case inventory.RebootRouter, inventory.Readdress:
			f.Network = near
		default:
			f.Host = donor
		}
		faults = append(faults, f)
	}
	return faults
}

// ByName tells whether the network does something to names, so that the donor
// should know its relays by nothing else.
func ByName(profile string) bool {
	for name := range strings.SplitSeq(profile, "+") {
		name = strings.TrimSpace(name)
		if strings.HasPrefix(name, "dns-") || strings.HasPrefix(name, "doh-") {
			return true
		}
	}
	return false
}
