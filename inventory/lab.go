package inventory

import (
	"regexp"
	"slices"
	"strings"
	"time"
)

// Bounds of a lab.
const (
	maxBystanders = 64
	MaxLatency    = 5 * time.Second // one way; beyond it every handshake times out
	maxHostName   = 32              // bytes: links are named after hosts
)

var zoneShape = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

// lab reads the section that makes the hosts simulated ones. Which profiles
// there are only the lab itself knows.
func (r *reading) lab(v value) *Lab {
	if v.node == nil {
		return nil
	}
	m := v.mapping("latency", "zone", "bystanders", "networks", "hosts")
	l := &Lab{File: r.file, Line: v.line}
	l.Latency = latency(m.get("latency"))
	l.Zone = zone(m.get("zone"))
	if b := m.get("bystanders"); b.set() {
		l.Bystanders = b.number(0, maxBystanders)
	}
	l.Networks = labNetworks(m.get("networks"))
	l.Hosts = labHosts(m.get("hosts"), l.Networks)
	return l
}

func latency(v value) time.Duration {
	d := v.duration(defaultLatency)
	if d < 0 || d > MaxLatency {
		v.bad("%s is not from 0s to %s", d, MaxLatency)
	}
	return d
}

func zone(v value) string {
	s, ok := v.text(defaultZone)
	if ok && (!zoneShape.MatchString(s) || len(s) > 200) {
		v.badHint("such as "+defaultZone, "%s is not a DNS zone", shortened(s))
	}
	return s
}

func labNetworks(v value) []LabNetwork {
	if !v.set() {
		v.badHint("networks: {campus: {profile: institutional}}", "missing")
		return nil
	}
	var list []LabNetwork
	for _, e := range v.entries() {
		if !wordShape.MatchString(e.name) {
			e.notAWord(e.name)
		}
		m := e.mapping("profile", "link")
		p := m.get("profile")
		list = append(list, LabNetwork{Name: e.name, Profile: profile(p), Link: link(m.get("link")), Line: p.line})
	}
	return list
}

// profile reads the name of a profile, or of several joined by +.
func profile(v value) string {
	names, ok := v.text("")
	for name := range strings.SplitSeq(names, "+") {
		if name = strings.TrimSpace(name); ok && !wordShape.MatchString(name) {
			v.notAWord(name)
		}
	}
	return names
}

func labHosts(v value, networks []LabNetwork) []LabHost {
	if !v.set() {
		v.badHint("hosts: {tensor02: campus}", "missing")
		return nil
	}
	var names []string
	for _, n := range networks {
		names = append(names, n.Name)
	}
	var list []LabHost
	for _, e := range v.entries() {
		if !wordShape.MatchString(e.name) || strings.Contains(e.name, "_") || len(e.name) > maxHostName {
			e.notAHostName()
		}
		network, ok := e.text("")
		if ok && !slices.Contains(names, network) {
			e.badHint(suggest(network, names), "unknown network %s", shortened(network))
		}
		list = append(list, LabHost{Name: e.name, Network: network, Line: e.line})
	}
	return list
}

func (v value) notAHostName() {
	v.badHint("letters, digits and -, at most 32, starting with a letter or digit", "%s is not a host name that the lab's DNS could serve", quoted(v.name()))
}
