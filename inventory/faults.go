package inventory

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Fault is a step of a run at which something is done on purpose to its hosts,
// or to the networks between them. What it does decides which of the other
// fields it takes.
type Fault struct {
	During  string        // Join, or empty: the hold
	After   time.Duration // since the start of that
	Do      FaultKind
	Host    string        // kill, stop, restart, login, unplug, roam: a host, or HeldRelay
	Network string        // reboot-router, readdress, set-profile: a network of the lab
	To      string        // roam: the lab's network that the host moves to
	Profile string        // set-profile: of e2e/lab, or several joined by +
	For     time.Duration // unplug: how long; 0: for good
	Line    int
}

// FaultKind is what a fault does.
type FaultKind string

const (
	Kill    FaultKind = "kill"    // SIGKILL to the host's node
	Stop    FaultKind = "stop"    // SIGTERM to the host's node, which stays down
	Restart FaultKind = "restart" // the host's node ends in order, and starts again with the same identity
	Login   FaultKind = "login"   // somebody at the host logs in at the captive portal before it
	// The rest is done to the networks, so that they have to be a lab's.
	Unplug       FaultKind = "unplug"        // the host's link loses everything
	Roam         FaultKind = "roam"          // the host moves to another network
	RebootRouter FaultKind = "reboot-router" // the network's router forgets all flows
	Readdress    FaultKind = "readdress"     // the network's router gets another public address
	SetProfile   FaultKind = "set-profile"   // the network gets another firewall
)

const (
	// HeldRelay as a Fault's Host is the relay whose connection is being held.
	HeldRelay = "held-relay"
	// Join as a Fault's During is the wait for the donor's first reservation.
	Join = "join"
)

// End is when what the fault does is over, counted as After is.
func (f Fault) End() time.Duration { return f.After + f.For }

// Joining tells whether the fault comes before the hold.
func (f Fault) Joining() bool { return f.During == Join }

// faultKinds are what there is, with the fields that each takes beside during,
// after and do.
var faultKinds = []struct {
	kind     FaultKind
	takes    []string
	optional []string
	lab      bool // a real network is not ours to break
}{
	{kind: Kill, takes: []string{"host"}},
	{kind: Stop, takes: []string{"host"}},
	{kind: Restart, takes: []string{"host"}},
	{kind: Login, takes: []string{"host"}},
	{kind: Unplug, takes: []string{"host"}, optional: []string{"for"}, lab: true},
	{kind: Roam, takes: []string{"host", "to"}, lab: true},
	{kind: RebootRouter, takes: []string{"network"}, lab: true},
	{kind: Readdress, takes: []string{"network"}, lab: true},
	{kind: SetProfile, takes: []string{"network", "profile"}, lab: true},
}

// faultFields are the fields of which each kind takes its own.
var faultFields = []string{"host", "network", "to", "profile", "for"}

// faults reads what is done on purpose.
func (r *reading) faults(v value, inv *Inventory) []Fault {
	var list []Fault
	for _, item := range v.items() {
		list = append(list, r.fault(item, inv))
	}
	slices.SortStableFunc(list, func(a, b Fault) int {
		if a.Joining() != b.Joining() {
			return map[bool]int{true: -1, false: 1}[a.Joining()]
		}
		return cmp.Compare(a.After, b.After)
	})
	r.roamsElsewhere(list, inv)
	return list
}

// roamsElsewhere follows the hosts that move, and reports a move to where the
// host is already.
func (r *reading) roamsElsewhere(faults []Fault, inv *Inventory) {
	at := map[string]string{}
	for _, h := range inv.Hosts {
		if inv.Lab != nil {
			at[h.Name], _ = inv.Lab.networkOf(h.SSH)
		}
	}
	for _, f := range faults {
		if f.Do != Roam || f.To == "" {
			continue
		}
		if at[f.Host] == f.To {
			r.add(Problem{Line: f.Line, Path: "faults.to", Text: fmt.Sprintf("%s is on the network %s already", f.Host, f.To)})
		}
		at[f.Host] = f.To
	}
}

func (r *reading) fault(v value, inv *Inventory) Fault {
	m := v.mapping(append([]string{"during", "after", "do"}, faultFields...)...)
	f := Fault{Line: v.line, During: during(m.get("during")), For: faultFor(m.get("for"))}
	f.After = faultAfter(m.get("after"), f, inv.Run)
	f.Do = faultKind(m.get("do"), inv.Lab != nil)
	takes := faultTakes(m, f.Do)
	if takes("host") {
		f.Host = faultHost(m.get("host"), f, inv.Hosts)
	}
	if takes("network") {
		f.Network = faultNetwork(m.get("network"), inv.Lab)
	}
	if takes("to") {
		f.To = faultNetwork(m.get("to"), inv.Lab)
	}
	if takes("profile") {
		before := len(r.problems)
		if f.Profile = profile(m.get("profile")); len(r.problems) > before {
			f.Profile = ""
		}
	}
	return f
}

// faultTakes complains about fields that a fault has no use for, and tells which
// of them to read: those that it takes, and of a fault of no known kind those
// that are there.
func faultTakes(m mapping, kind FaultKind) func(field string) bool {
	for _, k := range faultKinds {
		if k.kind != kind {
			continue
		}
		for _, field := range faultFields {
			if !slices.Contains(k.takes, field) && !slices.Contains(k.optional, field) && m.get(field).set() {
				m.get(field).badHint(fmt.Sprintf("%s takes %s", kind, strings.Join(slices.Concat(k.takes, k.optional), ", ")), "of no use to %s", kind)
			}
		}
		return func(field string) bool { return slices.Contains(k.takes, field) }
	}
	return func(field string) bool { return m.get(field).set() }
}

func faultKind(v value, lab bool) FaultKind {
	var kinds, real []string
	for _, k := range faultKinds {
		kinds = append(kinds, string(k.kind))
		if !k.lab {
			real = append(real, string(k.kind))
		}
	}
	s, ok := v.text("")
	switch {
	case !ok:
	case !slices.Contains(kinds, s):
		v.badHint(suggest(s, kinds), "unknown fault %s", shortened(s))
	case !lab && !slices.Contains(real, s):
		v.badHint("on real hosts there are "+strings.Join(real, ", "), "%s is done to a network, and without a lab there is none of ours", s)
	}
	return FaultKind(s)
}

// during reads at which step a fault comes.
func during(v value) string {
	const hold = "hold"
	s, ok := v.text(hold)
	if known := []string{Join, hold}; ok && !slices.Contains(known, s) {
		v.badHint(suggest(s, known), "%s is no step at which something can be broken", shortened(s))
	}
	if s == Join {
		return Join
	}
	return ""
}

func faultFor(v value) time.Duration {
	d := v.duration(0)
	if v.set() && d <= 0 {
		v.bad("%s is no time for a link to be dead", d)
	}
	return d
}

// faultAfter reads when a fault comes. Its end is within its step as well: it is
// part of what is told of that.
func faultAfter(v value, f Fault, run Run) time.Duration {
	if !v.set() {
		v.badHint("the time since the start of the hold: after: 10s", "missing")
		return 0
	}
	step, within := "hold", run.Hold
	if f.Joining() {
		step, within = "wait for the reservation", run.Observe
	}
	f.After = v.duration(0)
	switch {
	case f.After < 0 || within > 0 && f.After >= within:
		v.bad("%s is not within the %s of %s", f.After, step, within)
	case within > 0 && f.End() >= within:
		v.bad("the fault ends at %s, which is not within the %s of %s", f.End(), step, within)
	}
	return f.After
}

func faultHost(v value, f Fault, hosts []Host) string {
	names := []string{HeldRelay}
	for _, h := range hosts {
		names = append(names, h.Name)
	}
	s, ok := v.text("")
	i := slices.IndexFunc(hosts, func(h Host) bool { return h.Name == s })
	switch {
	case !ok:
	case !slices.Contains(names, s):
		v.badHint(suggest(s, names), "unknown host %s", shortened(s))
	case s == HeldRelay && !hasRelay(hosts):
		v.bad("no host has the role relay, and what is not ours is not broken")
	case s == HeldRelay && f.Joining():
		v.bad("no relay is held before the hold")
	case f.Do == Roam && (s == HeldRelay || hosts[i].Role == Relay):
		v.bad("a relay stays where it is known to be")
	}
	return s
}

func faultNetwork(v value, lab *Lab) string {
	s, ok := v.text("")
	if lab == nil {
		return s // the fault as a whole is refused
	}
	var names []string
	for _, n := range lab.Networks {
		names = append(names, n.Name)
	}
	if ok && !slices.Contains(names, s) {
		v.badHint(suggest(s, names), "unknown network %s", shortened(s))
		return ""
	}
	return s
}
