package report

import (
	"html"
	"slices"
	"strings"
	"testing"

	"github.com/worldcompute/wce2e/evidence"
)

// troubled is the synthetic run with more done on purpose in its hold, which
// begins 12 s after the run.
func troubled(t *testing.T) *evidence.Bundle {
	t.Helper()
	b := sample(t)
	h := &history{t: t}
	done := func(at float64, host string, f evidence.Fault) { h.add(at, host, evidence.FaultDone, f) }
	done(5, "tensor02", evidence.Fault{Fault: evidence.FaultLogin, Detail: "at http://portal.lan/login"})
	done(14, "", evidence.Fault{Fault: evidence.FaultReaddress, Network: "house", Addr: "45.2.1.2"})
	done(15, "tensor02", evidence.Fault{Fault: evidence.FaultUnplug})
	done(16.5, "tensor02", evidence.Fault{Fault: evidence.FaultPlug})
	done(17, "tensor02", evidence.Fault{Fault: evidence.FaultRoam, To: "house", Addr: "45.2.1.2"})
	done(18, "", evidence.Fault{Fault: evidence.FaultSetProfile, Network: "house", Profile: "institutional"})
	done(19, "", evidence.Fault{Fault: evidence.FaultSetProfile, Network: "campus", Profile: "blocked"})
	b.Events = append(b.Events, h.events...)
	slices.SortStableFunc(b.Events, func(x, y evidence.Event) int { return x.TS.Compare(y.TS) })
	for i := range b.Events {
		b.Events[i].Seq = uint64(i + 1)
	}
	return b
}

func TestFaultsAreDrawnWithTheirNameAndTime(t *testing.T) {
	c := tell(troubled(t)).holdChart()
	var labels []string
	for _, f := range c.Flags {
		if f.Class == "fault" {
			labels = append(labels, f.Label)
		}
	}
	want := []string{"readdress house, 2 s", "unplug tensor02, 3 s", "plug tensor02, 4.5 s", "roam tensor02 to house, 5 s",
		"set-profile house to institutional, 6 s", "set-profile campus to blocked, 7 s", "kill relay1, 15 s"}
	if !slices.Equal(labels, want) {
		t.Errorf("got  %q\nwant %q", labels, want)
	}
	if len(c.Dead) != 1 || c.Dead[0].X < c.Bar.X || c.Dead[0].W < 20 || c.Dead[0].W > 80 {
		t.Errorf("the link was cut for 1.5 of 30 s, drawn as %+v in %+v", c.Dead, c.Bar)
	}
	type label struct{ from, to, row float64 }
	var seen []label
	for _, f := range c.Flags {
		l := label{f.X, f.X + flagLetter*float64(len(f.Label)), f.Y}
		if f.End {
			l.from, l.to = f.X-flagLetter*float64(len(f.Label)), f.X
		}
		for _, other := range seen {
			if l.row == other.row && l.from < other.to && other.from < l.to {
				t.Errorf("the label %q is drawn over another one", f.Label)
			}
		}
		seen = append(seen, l)
		if f.Y > c.Top-10 {
			t.Errorf("the label %q reaches into the drawing", f.Label)
		}
	}
}

func TestTheTopologyTellsWhereAHostWent(t *testing.T) {
	_, text := render(t, troubled(t))
	page := html.UnescapeString(text)
	for what, want := range map[string]string{
		"the move, with the profile":          `+17.000 s: to house, profile home</text>`,
		"the firewall that it met there":      `+18.000 s: house, profile institutional</text>`,
		"the submitter's new address":         `+14.000 s: house at 45.2.1.2</text>`,
		"that something changed":              `That changed for tensor02, as said below the drawing.`,
		"what was done, in the table":         `done on purpose: tensor02 moved to the network house, seen at 45.2.1.2 from then on`,
		"the portal":                          `done on purpose: login of tensor02 at its captive portal (at http://portal.lan/login)`,
		"the time at which the link was dead": `<rect class="dead"`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("%s is not shown: no %q", what, want)
		}
	}
	if strings.Contains(page, "+19.000 s: campus") {
		t.Error("the firewall of a network that it had left is told of as its own")
	}
}
