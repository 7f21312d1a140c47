package report

import (
	"fmt"
	"strings"

	"github.com/worldcompute/wce2e/evidence"
)

// topology is who was where, and how they met: a sentence and a drawing.
type topology struct {
	Sentence  string
	Donor     site
	Relay     site
	Submitter site
	Way       string // how the donor reached the relay: wss
	Held      bool
	Back      string // how the submitter reached the donor
	Circuit   bool   // at least one dial through the relay arrived
	Direct    string // how the direct dials fared
	Passed    bool   // one of them arrived
}

// Height of the drawing, with the remarks below it.
func (t topology) Height() float64 {
	height := drawnHeight
	for _, end := range []site{t.Donor, t.Submitter} {
		if n := len(end.Then); n > 0 {
			height = max(height, end.Then[n-1].Y+8)
		}
	}
	return height
}

// site is one end of the drawing.
type site struct {
	Name, Role, Network string
	Then                []remark // how that changed
}

// remark is a line of text below the drawing.
type remark struct {
	Y    float64
	Text string
}

// remarks gives lines of text their places.
func remarks(lines []string) []remark {
	var list []remark
	for i, l := range lines {
		list = append(list, remark{drawnHeight + 16*float64(i+1), l})
	}
	return list
}

// drawnHeight is how high the drawing of the topology is without remarks.
const drawnHeight = 190.0

func (s *story) siteOf(h *host, role string) site {
	if h == nil {
		return site{Name: "no " + role, Role: role}
	}
	return site{h.name, role, s.network(h), remarks(s.whereabouts(h))}
}

func (s *story) topology() topology {
	donor := s.byRole("donor")
	t := topology{Donor: s.siteOf(donor, "donor"), Submitter: s.siteOf(s.byRole("submitter"), "submitter")}
	t.Relay = site{Name: "no relay", Role: "relay"}
	relay, conn := s.heldRelay(donor)
	if relay != "" {
		t.Relay.Name = s.nameOf(relay)
		t.Relay.Network = "outside the inventory"
		if name := s.names[relay]; name != "" {
			t.Relay.Network = s.network(s.host(name))
		}
		t.Held = true
	}
	if conn != nil {
		t.Way = words(conn.Transport, port(conn.Remote))
	}
	t.Back, t.Circuit = outcomes(s.probes, evidence.CircuitDial)
	t.Direct, t.Passed = outcomes(s.probes, evidence.NegativeControl)
	t.Sentence = s.sentence(t)
	return t
}

// heldRelay is the relay of the hold, else of the donor's last reservation, and
// the connection to it.
func (s *story) heldRelay(donor *host) (relay string, conn *moment) {
	id := ""
	if start, _ := s.hold(); start != nil {
		relay, id = start.data.Relay, start.data.Conn
	}
	if donor == nil {
		return relay, nil
	}
	for i := range donor.events {
		if m := &donor.events[i]; relay == "" && m.Kind == "reservation.made" {
			relay, id = m.Relay, m.Conn
		}
	}
	for i := range donor.events {
		if m := &donor.events[i]; m.Kind == "conn.opened" && m.Conn == id && m.Peer == relay {
			conn = m
		}
	}
	return relay, conn
}

// port gives the port of a multiaddr with its protocol: tcp/443.
func port(addr string) string {
	parts := strings.Split(addr, "/")
	for i := 1; i+1 < len(parts); i++ {
		if parts[i] == "tcp" || parts[i] == "udp" {
			return parts[i] + "/" + parts[i+1]
		}
	}
	return ""
}

// outcomes counts the probes of one purpose that arrived.
func outcomes(probes []probe, purpose evidence.Purpose) (text string, any bool) {
	all, ok := 0, 0
	for _, p := range probes {
		if p.data.Purpose != purpose {
			continue
		}
		all++
		if p.result.Outcome == "ok" {
			ok++
		}
	}
	if all == 0 {
		return "not tried", false
	}
	return fmt.Sprintf("%d of %d arrived", ok, all), ok > 0
}

func (s *story) sentence(t topology) string {
	var b strings.Builder
	kind := "Real machines"
	if s.started.Lab {
		kind = "Simulated machines"
	}
	fmt.Fprintf(&b, "%s. The donor %s stood behind the network %s, the submitter %s behind %s. ",
		kind, t.Donor.Name, or(t.Donor.Network, "(none)"), t.Submitter.Name, or(t.Submitter.Network, "(none)"))
	for _, end := range []site{t.Donor, t.Submitter} {
		if len(end.Then) > 0 {
			fmt.Fprintf(&b, "That changed for %s, as said below the drawing. ", end.Name)
		}
	}
	if t.Held {
		fmt.Fprintf(&b, "The donor reached the relay %s, %s, over %s. ", t.Relay.Name, t.Relay.Network, or(t.Way, "a connection that the trace does not show"))
	} else {
		b.WriteString("The donor got no reservation on a relay. ")
	}
	fmt.Fprintf(&b, "Of the submitter's dials, through the relay: %s; directly: %s.", t.Back, t.Direct)
	return b.String()
}
