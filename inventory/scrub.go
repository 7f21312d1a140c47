package inventory

import (
	"bytes"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// Scrub writes the inventory as it was understood, defaults filled in, for a
// bundle that strangers read: no login name, no comment, no key path. The same
// inventory gives the same bytes, and Parse reads them.
func (inv *Inventory) Scrub() []byte {
	doc := fields("version", inv.Version, "name", inv.Name, "area", inv.Area)
	hosts := fields()
	for _, h := range inv.Hosts {
		add(hosts, h.Name, scrubHost(h))
	}
	add(doc, "hosts", hosts)
	add(doc, "relays", inv.Relays)
	add(doc, "run", fields("hold", short(inv.Run.Hold), "observe", short(inv.Run.Observe), "lease", short(inv.Run.Lease)))
	add(doc, "job", fields("fixture", inv.Job.Fixture))
	if inv.Lab != nil {
		add(doc, "lab", scrubLab(inv.Lab))
	}
	if len(inv.Faults) > 0 {
		add(doc, "faults", scrubFaults(inv.Faults))
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(doc); err != nil {
		// Unreachable: the tree holds text and whole numbers only, and a
		// bytes.Buffer takes everything.
		return []byte("# not written: " + err.Error() + "\n")
	}
	return out.Bytes()
}

func scrubHost(h Host) *yaml.Node {
	return fields("ssh", h.Scrubbed(), "role", string(h.Role), "network", h.Network,
		"expect_blocked", h.ExpectBlocked, "listen", h.Listen, "announce", h.Announce)
}

func scrubLab(l *Lab) *yaml.Node {
	networks, hosts := fields(), fields()
	for _, n := range l.Networks {
		network := fields("profile", n.Profile)
		if n.Link != (Link{}) {
			add(network, "link", scrubLink(n.Link))
		}
		add(networks, n.Name, network)
	}
	for _, h := range l.Hosts {
		add(hosts, h.Name, h.Network)
	}
	return fields("latency", short(l.Latency), "zone", l.Zone, "bystanders", l.Bystanders, "networks", networks, "hosts", hosts)
}

func scrubFaults(faults []Fault) *yaml.Node {
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for _, f := range faults {
		n := fields("during", f.During, "after", short(f.After), "do", string(f.Do), "host", f.Host, "network", f.Network, "to", f.To, "profile", f.Profile)
		if f.For > 0 {
			add(n, "for", short(f.For))
		}
		n.Style = yaml.FlowStyle
		list.Content = append(list.Content, n)
	}
	return list
}

// fields makes a mapping of names and values, in this order.
func fields(pairs ...any) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for i := 0; i+1 < len(pairs); i += 2 {
		name, _ := pairs[i].(string)
		add(n, name, pairs[i+1])
	}
	return n
}

// add puts a field into a mapping, unless it is empty.
func add(n *yaml.Node, name string, v any) {
	var node *yaml.Node
	switch v := v.(type) {
	case *yaml.Node:
		node = v
	case string:
		if v == "" {
			return
		}
		node = text(v)
	case int:
		node = &yaml.Node{}
		node.Encode(v) // of an int there is always a scalar
	case []string:
		if len(v) == 0 {
			return
		}
		node = &yaml.Node{Kind: yaml.SequenceNode}
		for _, s := range v {
			node.Content = append(node.Content, text(s))
		}
	}
	n.Content = append(n.Content, text(name), node)
}

// text makes a scalar that is read as text again, quoted where it has to be.
func text(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	return n
}

// short writes a duration without its zero parts: 10m, not 10m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
