package report

import (
	"strconv"
	"time"

	"github.com/worldcompute/wce2e/evidence"
)

// page is everything that report.html and index.md show, in words.
type page struct {
	Title     string
	Label     string
	Overall   string // pass | fail | inconclusive
	Facts     []fact
	Warnings  []string // what is wrong with the bundle itself
	Claims    []claimCard
	Topology  topology
	Incidents []incident
	Hold      holdChart
	Lanes     laneChart
	Controls  []controlRow
	Jobs      []jobRow
	Dials     []hostDials
	Hosts     []hostRow
	Env       []fact
	Lines     []line
	MoreLines int
	LastSeq   uint64 // of Lines: what can be linked
	Diagnosis string // the page of the diagnosis; empty: there is none
}

// maxLines bounds the table of events.
const maxLines = 20_000

func (s *story) page() page {
	p := page{
		Title: s.runTitle(), Label: s.label(), Overall: s.overall(), Facts: s.headFacts(), Warnings: s.warnings(),
		Claims: s.claims(), Topology: s.topology(), Incidents: s.incidents(), Hold: s.holdChart(), Lanes: s.laneChart(),
		Controls: s.controls(), Jobs: s.jobRows(), Dials: s.dials(), Hosts: s.hostRows(), Env: s.environment(), Lines: s.lines,
	}
	if len(p.Lines) > maxLines {
		p.Lines, p.MoreLines = p.Lines[:maxLines], len(p.Lines)-maxLines
	}
	if s.diagnosed {
		p.Diagnosis = DiagnosisFile
	}
	if n := len(p.Lines); n > 0 {
		p.LastSeq = p.Lines[n-1].Seq
	}
	return p
}

// runTitle is the name of the run.
func (s *story) runTitle() string {
	return or(s.started.Inventory, "unnamed inventory") + ", " + or(s.started.Area, "unknown area")
}

// label is what the run may call itself.
func (s *story) label() string {
	if s.bundle.Results == nil {
		return "no verdicts"
	}
	return string(s.bundle.Results.Label)
}

func (s *story) overall() string {
	if s.bundle.Results == nil {
		return evidence.Inconclusive.String()
	}
	return s.bundle.Results.Verdict().String()
}

func (s *story) headFacts() []fact {
	machines := "real"
	if s.started.Lab {
		machines = "simulated (lab)"
	}
	return []fact{
		{"run", or(s.started.RunID, "not known")},
		{"started", clock(s.from)},
		{"lasted", span(s.to.Sub(s.from))},
		{"hold", span(time.Duration(s.started.Hold)) + " planned"},
		{"machines", strconv.Itoa(len(s.hosts)) + ", " + machines},
		{"job", or(s.started.Fixture, "not known")},
	}
}

// warnings tells what is wrong with the bundle itself.
func (s *story) warnings() []string {
	const most = 20
	var list []string
	for i, p := range s.bundle.Problems {
		if i == most {
			list = append(list, strconv.Itoa(len(s.bundle.Problems)-most)+" more problems")
			break
		}
		list = append(list, "This bundle is not whole: "+p)
	}
	if s.ended == nil {
		list = append(list, "The run did not come to its end: the trace stops at line "+strconv.Itoa(s.bundle.Lines)+".")
	} else if s.ended.How != "finished" {
		list = append(list, words("The run was "+s.ended.How+".", s.ended.Err))
	}
	return list
}
