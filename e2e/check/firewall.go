package check

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/netcheck"
	"github.com/worldcompute/wce2e/node/wire"
)

// firewall judges whether there is a firewall at all: the negative control fails
// and its positive controls work.
//
//	submitter ──[ negative control: must fail ]──► donor's egress:its port
//	donor's host ──[ positive: it listens ]──────► donor
//	submitter ──[ positive: its dials work ]─────► relay, the same transport
//
// Each transport the donor listens on is tried. A failed dial alone proves
// nothing, since whatever is broken fails too.
func firewall(h *history, f *finding) {
	donor, submitter, ok := h.both(f)
	if !ok {
		return
	}
	c := &controls{h: h, f: f, donor: donor, submitter: submitter, egress: h.egressOf(donor)}
	c.listens = listens(donor)
	if len(c.listens) == 0 {
		f.lack("%s told of no address that it listens on.", donor.Name)
		return
	}
	if !h.otherEgress(f, donor, submitter) {
		return // a dial from inside the site crosses no firewall
	}
	c.sort()
	if c.open {
		return // no firewall was traversed, whatever else is blocked or not
	}
	for _, t := range slices.Sorted(maps.Keys(c.listens)) {
		c.transport(t)
	}
	for _, w := range donor.ExpectBlocked {
		c.expected(w)
	}
}

// controls are the probes of the claim firewall, sorted.
type controls struct {
	h                *history
	f                *finding
	donor, submitter *host
	egress           egress
	listens          map[string][]address // transport -> where the donor listens

	negative []dialled // failed, and count as negative controls
	local    []dialled // of the donor's host, and worked
	relay    []dialled // of the submitter to a relay, and worked
	open     bool      // a direct dial reached the donor
}

// dialled is a probe and the address it dialled.
type dialled struct {
	probe
	addr address
}

// listens gives the donor's direct listen addresses by transport.
func listens(donor *host) map[string][]address {
	out := map[string][]address{}
	for _, e := range donor.of(wire.ListenAddr) {
		a, ok := parseAddr(e.Addr)
		if ok && e.Relay == "" && a.relay == "" && a.transport != "circuit" && a.transport != "" {
			out[a.transport] = append(out[a.transport], a)
		}
	}
	return out
}

func (c *controls) sort() {
	for _, p := range c.h.probesFor(c.submitter, evidence.NegativeControl) {
		if d, ok := c.asNegative(p); ok {
			c.negative = append(c.negative, d)
		}
	}
	for _, p := range c.h.probesFor(c.submitter, evidence.MappedPort) {
		if d, ok := direct(p); ok && c.donor.is(p.result.Peer) && connected(p) {
			c.open = true
			c.f.lack("No firewall was traversed: the donor's router has lent it a port, and %s reached it there, at %s over %s.",
				c.submitter.Name, d.addr.hostPort(), d.addr.transport)
			c.f.cite(p.seq)
		}
	}
	for _, p := range c.h.probesFor(c.donor, evidence.LocalControl) {
		if d, ok := direct(p); ok && p.result.Outcome == wire.OK && c.donor.is(p.result.Peer) {
			c.local = append(c.local, d)
		}
	}
	for _, p := range c.h.probesFor(c.submitter, evidence.RelayControl) {
		if d, ok := direct(p); ok && p.result.Outcome == wire.OK && !c.donor.is(p.result.Peer) {
			c.relay = append(c.relay, d)
		}
	}
}

// direct gives a probe with its address, unless that leads through a relay or
// is of another transport than the probe says.
func direct(p probe) (dialled, bool) {
	a, ok := parseAddr(p.result.Addr)
	if !ok || a.transport == "circuit" || p.result.Path == wire.Relayed {
		return dialled{}, false
	}
	if p.Transport != "" && p.Transport != a.transport {
		return dialled{}, false
	}
	return dialled{p, a}, true
}

// asNegative tells whether a probe counts as a negative control. One that got
// through says that there is no firewall.
func (c *controls) asNegative(p probe) (dialled, bool) {
	d, ok := direct(p)
	switch {
	case !ok || !c.donor.is(p.result.Peer):
		return d, false
	case connected(p):
		c.open = true
		c.f.lack("No firewall was traversed: %s reached %s directly at %s over %s.", c.submitter.Name, c.donor.Name, d.addr.hostPort(), d.addr.transport)
		c.f.cite(p.seq)
		return d, false
	case !refusedByNetwork(p):
		return d, false
	case !c.fresh(p):
		c.f.lack("The direct dial to %s was made with an identity that was in use before: a way may have been open for it.", d.addr.hostPort())
		return d, false
	case c.punchedBefore(p):
		c.f.lack("The direct dial to %s was made after a hole punch, which opens the way it tries.", d.addr.hostPort())
		return d, false
	}
	_, seen := c.egress[d.addr.ip]
	return d, seen
}

// connected tells whether a probe had a connection, even one that then failed.
func connected(p probe) bool { return p.result.Outcome == wire.OK || p.result.Remote != "" }

// refusedByNetwork tells whether a probe failed in a way for which a network can
// be to blame: it was made, and nobody else answered in the peer's place.
func refusedByNetwork(p probe) bool {
	failure := netcheck.Failure(p.result.Failure)
	return p.result.Outcome == wire.Failed && !connected(p) && !failure.Answered() && !slices.Contains(notTheNetwork, failure)
}

// notTheNetwork are other failures that say nothing about what lies between two hosts.
var notTheNetwork = []netcheck.Failure{
	netcheck.PermissionDenied, netcheck.NetworkDown, netcheck.AddressUnavailable, netcheck.AddressInUse, // the host's own doing
	netcheck.TooManyOpenFiles, netcheck.ResourceLimit, netcheck.Gated, netcheck.DialBackoff, netcheck.BlackHole, // the dialler's own
	netcheck.NoAddress, netcheck.NoTransport, netcheck.DialToSelf, netcheck.Aborted,
}

// fresh tells whether a probe had an identity of its own.
func (c *controls) fresh(p probe) bool {
	if p.result.Self == "" || c.h.hostOf(p.result.Self) != nil {
		return false
	}
	for _, other := range c.h.probes {
		if other.seq != p.seq && other.result.Self == p.result.Self {
			return false
		}
	}
	return true
}

// punchedBefore tells whether the donor had opened a way through its firewall
// for anybody before the probe ended. By the clocks or by the order of the
// trace: when in doubt, yes.
func (c *controls) punchedBefore(p probe) bool {
	for _, x := range []*host{c.donor, c.submitter} {
		for _, e := range x.of(wire.HolePunch) {
			between := x == c.donor || c.donor.is(e.Peer)
			earlier := e.line < p.seq || x.suiteTime(e.Time).Add(-x.clockError()).Before(p.event.TS)
			if e.Outcome == wire.OK && between && earlier {
				return true
			}
		}
	}
	return false
}

// transport judges one transport. It needs an IP version in which the
// submitter's own dials work, and there every control.
func (c *controls) transport(t string) {
	tried := false
	for _, fam := range []string{"ip4", "ip6"} {
		works, ok := first(c.relay, func(d dialled) bool { return d.addr.transport == t && d.addr.family() == fam })
		if !ok || !c.reachable(t, fam) {
			continue
		}
		tried = true
		c.family(t, fam, works)
	}
	if !tried {
		c.f.lack("%s: no positive control: %s reached no relay over it, so that its failed dials prove nothing.", t, c.submitter.Name)
	}
}

// reachable tells whether the donor listens in an IP version and has an egress
// address of it.
func (c *controls) reachable(t, fam string) bool {
	return c.egress.families()[fam] &&
		slices.ContainsFunc(c.listens[t], func(a address) bool { return a.family() == fam })
}

// family judges one transport in one IP version.
func (c *controls) family(t, fam string, works dialled) {
	var failed []dialled
	for _, d := range c.negative {
		if d.addr.transport == t && d.addr.family() == fam && c.listensAt(t, d.addr.port) {
			failed = append(failed, d)
		}
	}
	if len(failed) == 0 {
		c.f.lack("%s (%s): no failed dial from %s to a port that %s listens on, at its egress address.", t, fam, c.submitter.Name, c.donor.Name)
		return
	}
	local, ok := first(c.local, func(d dialled) bool {
		return d.addr.transport == t && slices.ContainsFunc(failed, func(n dialled) bool { return n.addr.port == d.addr.port })
	})
	if !ok {
		c.f.lack("%s: no positive control: nothing shows that %s accepts on port %s at all.", t, c.donor.Name, failed[0].addr.port)
		return
	}
	c.f.cite(works.seq, local.seq)
	for _, d := range failed {
		c.f.cite(d.seq)
	}
	c.f.see("%s: %s could not reach %s at %s, while %s itself got through to %s in %.0f ms and %s to %s over %s in %.0f ms.",
		t, c.submitter.Name, c.donor.Name, ends(failed), c.donor.Name, local.addr.hostPort(), local.result.MS,
		c.submitter.Name, c.h.peerName(works.result.Peer), t, works.result.MS)
}

func (c *controls) listensAt(t, port string) bool {
	return slices.ContainsFunc(c.listens[t], func(a address) bool { return a.port == port })
}

// ends lists where dials led and how they failed.
func ends(ds []dialled) string {
	words := make([]string, len(ds))
	for i, d := range ds {
		words[i] = fmt.Sprintf("%s (%s)", d.addr.hostPort(), failureOf(d.probe))
	}
	return strings.Join(unique(words), ", ")
}

// blockedBy says which addresses try a word of expect_blocked.
var blockedBy = map[string]func(address) bool{
	"udp":            overUDP,
	"quic":           overUDP,
	"tcp-high-ports": func(a address) bool { return !overUDP(a) && highPort(a.port) },
	"libp2p":         func(a address) bool { return a.transport == "tcp" || a.transport == "quic-v1" },
}

func overUDP(a address) bool { return a.transport == "quic-v1" || a.transport == "webtransport" }

// highPort: those that need no privilege (RFC 6335 calls the others system ports).
func highPort(port string) bool {
	n, err := strconv.Atoi(port)
	return err == nil && n >= 1024
}

// expected judges one word of the operator's expect_blocked: the donor's dials of
// that kind fail, while the submitter reaches the same peer the same way.
func (c *controls) expected(word string) {
	if word == "inbound" {
		return // that is the negative control
	}
	fits, known := blockedBy[word]
	if !known {
		c.f.lack("expect_blocked: nobody knows how to try %q.", word)
		return
	}
	var failed []dialled
	for _, p := range c.h.probesFor(c.donor, evidence.ExpectBlocked) {
		d, ok := direct(p)
		if !ok || p.Blocked != word || !fits(d.addr) {
			continue
		}
		switch {
		case p.result.Outcome == wire.OK:
			c.f.fail("expect_blocked: %s is not blocked: %s reached %s at %s over %s.", word, c.donor.Name, c.h.peerName(p.result.Peer), d.addr.hostPort(), d.addr.transport)
			c.f.cite(p.seq)
			return
		case refusedByNetwork(p) && c.egress.families()[d.addr.family()]:
			failed = append(failed, d) // in an IP version that the donor has
		}
	}
	c.blocked(word, failed)
}

// blocked looks for the control of a word's failed dials.
func (c *controls) blocked(word string, failed []dialled) {
	if len(failed) == 0 {
		c.f.lack("expect_blocked: nothing shows that %s is blocked: %s made no dial for it that the network has stopped.", word, c.donor.Name)
		return
	}
	for _, d := range failed {
		works, ok := first(c.relay, func(r dialled) bool {
			return r.result.Peer == d.result.Peer && r.addr.transport == d.addr.transport && r.addr.family() == d.addr.family()
		})
		if ok {
			c.f.cite(d.seq, works.seq)
			c.f.see("expect_blocked: %s is blocked: %s could not reach %s at %s (%s), which %s did in %.0f ms.", word, c.donor.Name,
				c.h.peerName(d.result.Peer), d.addr.hostPort(), failureOf(d.probe), c.submitter.Name, works.result.MS)
			return
		}
	}
	c.f.lack("expect_blocked: %s: no positive control: %s did not reach %s that way either.", word, c.submitter.Name, c.h.peerName(failed[0].result.Peer))
}

func first(ds []dialled, fits func(dialled) bool) (dialled, bool) {
	i := slices.IndexFunc(ds, fits)
	if i < 0 {
		return dialled{}, false
	}
	return ds[i], true
}

// peerName is a host's name, or the short form of a stranger's peer ID.
func (h *history) peerName(peer string) string {
	if x := h.hostOf(peer); x != nil {
		return x.Name
	}
	const short = 12 // the libraries' own short form ends in so many
	if len(peer) > short {
		return "peer …" + peer[len(peer)-short:]
	}
	return "peer " + word(peer, "without an ID")
}
