package report

import (
	"fmt"
	"slices"
	"time"

	"github.com/worldcompute/wce2e/evidence"
)

// faultLabel names a fault where there is little room.
func faultLabel(f mark[evidence.Fault]) string {
	label := words(f.data.Fault, or(f.host, f.data.Network))
	return words(label, with("to", or(f.data.To, f.data.Profile)))
}

// faultFlags marks what was done on purpose, each with its time since zero.
func (s *story) faultFlags(x timeAxis) []callout {
	var flags []callout
	for _, f := range s.faults {
		label := faultLabel(f) + ", " + span(f.at.Sub(x.zero).Round(100*time.Millisecond))
		flags = append(flags, callout{X: x.x(f.at), Class: "fault", Label: label, Seq: f.seq})
	}
	return flags
}

// deadBands are the times at which a host's link was cut.
func (s *story) deadBands(x timeAxis, host string, until time.Time) []band {
	var bands []band
	var cut *time.Time
	add := func(to time.Time) {
		bands = append(bands, band{x.x(*cut), max(1, round(x.x(to)-x.x(*cut)))})
		cut = nil
	}
	for _, f := range s.faults {
		switch {
		case f.host != host:
		case f.data.Fault == evidence.FaultUnplug && cut == nil:
			cut = &f.at
		// Whoever moves leaves a cut link behind.
		case cut != nil && (f.data.Fault == evidence.FaultPlug || f.data.Fault == evidence.FaultRoam):
			add(f.at)
		}
	}
	if cut != nil {
		add(until)
	}
	return bands
}

// Sizes of the flags' labels, in pixels of their drawings.
const (
	flagTop    = 14.0
	flagRow    = 16.0
	flagLetter = 6.2 // an average letter of the drawings' font, rather more than less
	flagRows   = 2   // that every drawing has room for
)

// stagger keeps the labels of flags apart: each is in the first row that has room
// for it, on that side of its line where the drawing is. It tells how many rows
// there are beyond those that there is always room for.
func stagger(flags []callout) (list []callout, extra int) {
	slices.SortStableFunc(flags, func(a, b callout) int { return int(a.X - b.X) })
	var free []float64 // where each row is free from
	for i := range flags {
		f := &flags[i]
		f.End = f.End || f.X > 800
		from, to := f.X, f.X+flagLetter*float64(len([]rune(f.Label)))+8
		if f.End {
			from, to = 2*f.X-to, f.X
		}
		row := 0
		for row < len(free) && free[row] > from {
			row++
		}
		if row == len(free) {
			free = append(free, 0)
		}
		free[row] = max(to, f.X)
		f.Y = flagTop + flagRow*float64(row)
	}
	return flags, max(0, len(free)-flagRows)
}

// whereabouts tells how a host's network changed while the run went on: where it
// was moved to, and what became of the firewall there.
func (s *story) whereabouts(h *host) []string {
	var list []string
	add := func(at time.Time, format string, args ...any) {
		list = append(list, fmt.Sprintf("%s: ", s.since(at))+fmt.Sprintf(format, args...))
	}
	in, profiles := s.labNetwork(h), map[string]string{}
	if s.lab != nil {
		for n, p := range s.lab.Networks {
			profiles[n] = p
		}
	}
	for _, f := range s.faults {
		switch d := f.data; {
		case d.Fault == evidence.FaultRoam && f.host == h.name:
			in = d.To
			add(f.at, "to %s%s", d.To, with(", profile", profiles[d.To]))
		case d.Fault == evidence.FaultSetProfile:
			profiles[d.Network] = d.Profile
			if d.Network == in {
				add(f.at, "%s, profile %s", d.Network, d.Profile)
			}
		case d.Fault == evidence.FaultReaddress && d.Network == in:
			add(f.at, "%s at %s", d.Network, d.Addr)
		}
	}
	return list
}

// labNetwork is the lab's network that a host was in at first; empty for a real one.
func (s *story) labNetwork(h *host) string {
	if s.lab == nil {
		return ""
	}
	// The lab knows its hosts by the names by which they are reached.
	return or(s.lab.Hosts[h.target.Target], s.lab.Hosts[h.name])
}
