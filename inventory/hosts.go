package inventory

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// roles and blockable are the closed word lists of a host.
var (
	roles     = []string{string(Donor), string(Submitter), string(Relay), string(Neighbour)}
	blockable = []string{"inbound", "udp", "quic", "tcp-high-ports", "libp2p"}
)

func (r *reading) hosts(v value) []Host {
	if !v.set() {
		v.badHint("a run takes a donor and a submitter", "missing")
		return nil
	}
	var hosts []Host
	for _, e := range v.entries() {
		hosts = append(hosts, r.host(e))
	}
	r.oneOf(Donor, hosts, v)
	r.oneOf(Submitter, hosts, v)
	r.distinct(hosts)
	return hosts
}

func (r *reading) host(e entry) Host {
	m := e.mapping("ssh", "role", "network", "expect_blocked", "listen", "announce")
	h := Host{Name: e.name, Line: e.line}
	switch {
	case e.name == HeldRelay:
		e.bad("this name means whichever relay holds the reservation, in faults")
	case !wordShape.MatchString(e.name):
		e.notAWord(e.name)
	}
	h.SSH = target(m.get("ssh"))
	h.Role = role(m.get("role"))
	if n := m.get("network"); n.set() {
		h.Network, _ = n.text("")
	}
	h.ExpectBlocked = expectBlocked(m.get("expect_blocked"), h.Role)
	h.Listen = listens(m.get("listen"))
	h.Announce = announced(m.get("announce"), h.Role)
	return h
}

func target(v value) string {
	s, ok := v.text("")
	if !ok {
		return ""
	}
	if _, err := ParseTarget(s); err != nil {
		v.badHint(targetHint(err), "%s", err)
	}
	return s
}

func role(v value) Role {
	s, ok := v.text("")
	if ok && !slices.Contains(roles, s) {
		v.badHint(suggest(s, roles), "unknown role %s", shortened(s))
		return ""
	}
	return Role(s)
}

func expectBlocked(v value, role Role) []string {
	words, at := v.texts()
	for i, w := range words {
		switch {
		case !slices.Contains(blockable, w):
			at[i].badHint(suggest(w, blockable), "%s is nothing that can be checked for being blocked", shortened(w))
		case slices.Index(words, w) < i:
			at[i].bad("%s is listed already", w)
		}
	}
	if v.set() && role != "" && role != Donor {
		v.bad("only the donor's firewall is checked, and this host is a %s", role)
	}
	return words
}

func announced(v value, role Role) []string {
	list, at := v.texts()
	for i, s := range list {
		switch a, err := netip.ParseAddr(s); {
		case err != nil:
			at[i].badHint("write the address alone: 1.2.3.4", "%s is not an IP address", shortened(s))
		case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Zone() != "":
			at[i].bad("nobody reaches a relay at %s", a)
		}
	}
	if v.set() && role != "" && role != Relay {
		v.bad("only a relay is announced, and this host is a %s", role)
	}
	return list
}

// oneOf reports a role that is not there exactly once.
func (r *reading) oneOf(role Role, hosts []Host, v value) {
	var first *Host
	for i, h := range hosts {
		switch {
		case h.Role != role:
		case first == nil:
			first = &hosts[i]
		default:
			r.at("hosts."+h.Name+".role", "", "%s is the %s already (line %d); a run takes exactly one for now", first.Name, role, first.Line)
		}
	}
	unclear := slices.ContainsFunc(hosts, func(h Host) bool { return h.Role == "" })
	if first == nil && !unclear {
		v.bad("no host has the role %s; a run takes exactly one for now", role)
	}
}

// distinct reports machines that are listed twice. This machine (local) may be
// several hosts, since each node has a folder of its own.
func (r *reading) distinct(hosts []Host) {
	type place struct {
		host string
		port int
	}
	seen := map[place]string{}
	for _, h := range hosts {
		t, err := ParseTarget(h.SSH)
		if err != nil || t.Local {
			continue
		}
		at := place{strings.ToLower(t.Host), t.Port}
		if other, dup := seen[at]; dup {
			r.at("hosts."+h.Name+".ssh", "", "is the machine of %s already: the claims are about different ones", other)
			continue
		}
		seen[at] = h.Name
	}
}

// Scrubbed is SSH without the login's name: what a bundle may show.
func (h Host) Scrubbed() string {
	t, err := ParseTarget(h.SSH)
	if err != nil {
		return fmt.Sprintf("(not a target: %v)", err)
	}
	t.User = ""
	return t.String()
}
