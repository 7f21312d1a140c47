package inventory

import (
	"fmt"
	"slices"
	"time"
)

// What holds when the file says nothing.
const (
	defaultArea    = "firewall-traversal"
	defaultHold    = 10 * time.Minute // what the claim `hold` asks for
	defaultObserve = 5 * time.Minute  // World Compute's daemon needed minutes to give up
	defaultLease   = 60 * time.Second
	defaultFixture = "sha256"
	defaultLatency = 10 * time.Millisecond // a lab without delay lies: hole punching fails there that works outside
	defaultZone    = "mesh.wce2e.net"
)

// minLease leaves room for a suite that is slow to renew it: a shorter lease
// would kill nodes whenever a link stalls for a moment.
const minLease = 10 * time.Second

// Parse reads an inventory. The file is only a name, for the messages. The
// error is a Problems with every mistake that was found, not only the first.
func Parse(file string, data []byte) (*Inventory, error) {
	inv, problems := Read(file, data)
	if err := problems.Err(); err != nil {
		return nil, err
	}
	return inv, nil
}

// Read is Parse for one who has mistakes of their own to look for: beside the
// problems it gives what it has understood of the file, which without problems
// is the inventory. A field that a problem names is as good as absent. Nil:
// nothing was understood.
func Read(file string, data []byte) (*Inventory, Problems) {
	r := &reading{file: file, lines: map[string]int{}}
	top, ok := r.document(data)
	if !ok {
		return nil, r.problems
	}
	inv := r.inventory(top)
	return inv, r.problems
}

// inventory is nil where the file is of another version.
func (r *reading) inventory(top value) *Inventory {
	m := top.mapping("version", "name", "area", "hosts", "relays", "run", "job", "lab", "faults")
	inv := &Inventory{File: r.file, Version: 1}
	if v := m.get("version"); !r.version(v) {
		// The rest of a file of another version means something else.
		r.problems = slices.DeleteFunc(r.problems, func(p Problem) bool { return p.Path != v.path })
		return nil
	}
	inv.Name = m.get("name").word("")
	inv.Area = m.get("area").word(defaultArea)
	inv.Hosts = r.hosts(m.get("hosts"))
	inv.Relays = r.relays(m.get("relays"))
	inv.Run = r.run(m.get("run"))
	inv.Job = r.job(m.get("job"))
	inv.Lab = r.lab(m.get("lab"))
	inv.Faults = r.faults(m.get("faults"), inv)
	r.labFits(inv, m)
	return inv
}

func (r *reading) version(v value) bool {
	before := len(r.problems)
	n := v.number(1, 1_000_000)
	if len(r.problems) > before {
		return false
	}
	if n != 1 {
		v.badHint("write version: 1", "%d is not a version that this program reads", n)
		return false
	}
	return true
}

func (r *reading) run(v value) Run {
	m := v.mapping("hold", "observe", "lease")
	run := Run{
		Hold:    m.get("hold").duration(defaultHold),
		Observe: m.get("observe").duration(defaultObserve),
		Lease:   m.get("lease").duration(defaultLease),
	}
	if run.Hold <= 0 {
		m.get("hold").bad("%s is no time to hold a connection", run.Hold)
	}
	if run.Observe <= 0 {
		m.get("observe").bad("%s is no time to wait for a reservation", run.Observe)
	}
	if run.Lease < minLease {
		m.get("lease").bad("%s is shorter than %s, and a stalled link would kill the nodes", run.Lease, minLease)
	}
	return run
}

func (r *reading) job(v value) Job {
	f := v.mapping("fixture").get("fixture")
	job := Job{Fixture: f.word(defaultFixture)}
	if f.set() {
		job.Line = f.line
	}
	return job
}

// labFits checks what the sections say about each other.
func (r *reading) labFits(inv *Inventory, m mapping) {
	if inv.Lab == nil {
		return
	}
	for i, h := range inv.Hosts {
		network, ok := inv.Lab.networkOf(h.SSH)
		if _, err := ParseTarget(h.SSH); err == nil && !ok {
			r.at("hosts."+h.Name+".ssh", "lab.hosts tells which there are",
				"%s is not a host of the lab, and a simulated network reaches no other machine", h.Scrubbed())
		}
		if h.Network == "" {
			inv.Hosts[i].Network = network
		}
	}
	if len(inv.Relays) == 0 && !hasRelay(inv.Hosts) {
		m.get("lab").badHint("give a host the role relay", "no relay: the built-in ones are out of the lab's reach")
	}
}

func hasRelay(hosts []Host) bool {
	for _, h := range hosts {
		if h.Role == Relay {
			return true
		}
	}
	return false
}

func (l *Lab) networkOf(host string) (string, bool) {
	for _, h := range l.Hosts {
		if h.Name == host {
			return h.Network, true
		}
	}
	return "", false
}

func quoted(s string) string { return fmt.Sprintf("%q", s) }
