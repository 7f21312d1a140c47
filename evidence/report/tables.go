package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/worldcompute/wce2e/evidence"
)

// maxRows bounds a table of the page. The trace has what is left out.
const maxRows = 5000

// claimCard is one claim.
type claimCard struct {
	Name, Verdict      string
	Expected, Observed string
	Because            []uint64
	More               int // lines beyond those
}

func (s *story) claims() []claimCard {
	if s.bundle.Results == nil {
		return nil
	}
	var list []claimCard
	for _, a := range s.bundle.Results.Assertions {
		const most = 24 // links of one claim
		c := claimCard{Name: string(a.Name), Verdict: a.Verdict.String(), Expected: a.Expected, Observed: a.Observed, Because: a.Because}
		if len(c.Because) > most {
			c.Because, c.More = c.Because[:most], len(a.Because)-most
		}
		list = append(list, c)
	}
	return list
}

// controlRow is one dial that the suite made from a host.
type controlRow struct {
	Seq                                  uint64
	Since, Purpose, Phase, Host          string
	Transport, Addr, Outcome, Path, Took string
	Reason                               string
}

func (s *story) controls() []controlRow {
	var list []controlRow
	for _, p := range s.probes {
		r := p.result
		list = append(list, controlRow{
			Seq: p.seq, Since: s.since(p.at), Purpose: words(string(p.data.Purpose), p.data.Blocked), Phase: string(p.data.Phase), Host: p.host,
			Transport: or(p.data.Transport, r.Transport), Addr: r.Addr, Outcome: or(r.Outcome, "no result"), Path: r.Path, Took: millis(r.MS),
			Reason: reason(r.Failure, r.Err),
		})
	}
	return list
}

// reason puts the word and the raw error together.
func reason(failure, err string) string {
	if failure != "" && err != "" {
		return failure + ": " + err
	}
	return failure + err
}

type jobRow struct {
	Seq                                       uint64
	Since, Phase, Host, Fixture, Nonce        string
	Status, Path, Relay, Ran, RoundTrip, Note string
	Same                                      bool // the answer is the expected one
}

func (s *story) jobRows() []jobRow {
	var list []jobRow
	for _, j := range s.jobs {
		r := j.result
		row := jobRow{
			Seq: j.seq, Since: s.since(j.at), Phase: string(j.data.Phase), Host: j.host, Fixture: j.data.Fixture, Nonce: j.data.Nonce,
			Status: or(r.Status, "not delivered"), Path: r.Path, Relay: s.peer(r.Relay), Ran: millis(r.DurationMS), RoundTrip: millis(r.RoundTripMS),
			Same: r.OutputSHA256 != "" && r.OutputSHA256 == j.data.ExpectedSHA256, Note: r.Error,
		}
		list = append(list, row)
	}
	return list
}

// hostDials are the dial attempts of one host's nodes.
type hostDials struct {
	Host, Summary string
	Rows          []dialRow
	More          int // rows left out
}

type dialRow struct {
	Seq                                                       uint64
	Since, Transport, Addr, Peer, Outcome, Took, Failure, Err string
}

func (s *story) dials() []hostDials {
	var list []hostDials
	for _, h := range s.hosts {
		d := hostDials{Host: h.name, Rows: s.dialRows(h)}
		if len(d.Rows) == 0 {
			continue
		}
		d.Summary = dialSummary(d.Rows)
		if len(d.Rows) > maxRows {
			d.Rows, d.More = d.Rows[:maxRows], len(d.Rows)-maxRows
		}
		list = append(list, d)
	}
	return list
}

// dialRows has a row for each dial, in the order of their ends; those without
// one come last.
func (s *story) dialRows(h *host) []dialRow {
	var rows []dialRow
	open := map[string]*moment{}
	var order []string
	for i := range h.events {
		m := &h.events[i]
		key := m.Boot + "/" + m.Dial
		switch m.Kind {
		case "dial.started":
			open[key] = m
			order = append(order, key)
		case "dial.ended":
			delete(open, key)
			rows = append(rows, dialRow{m.seq, s.since(m.at), m.Transport, m.Addr, s.peer(m.Peer), or(m.Outcome, "no outcome"), millis(m.MS), m.Failure, m.Err})
		}
	}
	for _, key := range order {
		if m := open[key]; m != nil {
			delete(open, key)
			rows = append(rows, dialRow{m.seq, s.since(m.at), m.Transport, m.Addr, s.peer(m.Peer), "no outcome", "-", "", "it has no end in the trace"})
		}
	}
	return rows
}

func dialSummary(rows []dialRow) string {
	n := map[string]int{}
	for _, r := range rows {
		n[r.Outcome]++
	}
	parts := []string{count(len(rows), "dial", "dials")}
	for _, o := range slices.Sorted(maps.Keys(n)) {
		parts = append(parts, fmt.Sprintf("%d %s", n[o], o))
	}
	return strings.Join(parts, ", ")
}

type hostRow struct {
	Name, Role, Network, Expect, Machine, System, Hardware, Clock, Addrs, Target string
	Peer, Binary, Log, Residue                                                   string
}

func (s *story) hostRows() []hostRow {
	var list []hostRow
	for _, h := range s.hosts {
		r := hostRow{Name: h.name, Role: or(h.said.Role, "-"), Network: s.network(h), Expect: strings.Join(h.said.ExpectBlocked, ", "), Target: h.target.Target}
		if h.facts != nil {
			factsInto(&r, *h.facts)
		}
		if h.node != nil {
			r.Peer = h.node.PeerID
		}
		if h.deploy != nil {
			r.Binary = words(h.deploy.Platform, head(h.deploy.SHA256, 12))
		}
		if h.log != nil {
			r.Log = fmt.Sprintf("%s, %s of %s", h.log.File, size(h.log.Kept), size(h.log.Size))
		}
		r.Residue = residue(h.residue)
		list = append(list, r)
	}
	return list
}

func factsInto(r *hostRow, f evidence.Facts) {
	r.Machine = f.Hostname
	r.System = words(or(f.Distro, f.OS)+",", f.Kernel, f.Arch)
	r.Hardware = fmt.Sprintf("%s, %s, %.1f GB", or(f.CPUModel, "unknown CPU"), count(f.CPUs, "core", "cores"), f.MemoryGB)
	if len(f.GPUs) > 0 {
		r.Hardware += ", " + strings.Join(f.GPUs, ", ")
	}
	r.Clock = fmt.Sprintf("%+.1f ms ± %.1f ms", f.ClockOffsetMS, f.ClockErrorMS)
	r.Addrs = strings.Join(f.Addrs, ", ")
}

// network says what the operator believes, and what the lab built there.
func (s *story) network(h *host) string {
	network := or(h.said.Network, "not stated")
	if s.lab == nil {
		return network
	}
	if profile := s.lab.Networks[s.labNetwork(h)]; profile != "" {
		return fmt.Sprintf("%s, profile %s", network, profile)
	}
	return network
}

func residue(list []mark[evidence.Leftovers]) string {
	var parts []string
	for _, m := range list {
		l := m.data
		parts = append(parts, fmt.Sprintf("%s: %s, %s, %s", or(l.When, "?"), count(len(l.Processes), "process", "processes"), count(len(l.Listeners), "listener", "listeners"), count(len(l.Files), "file", "files")))
	}
	return strings.Join(parts, "; ")
}

// incident is something that went wrong, or was broken on purpose.
type incident struct {
	Seq               uint64
	Since, Host, Text string
	Detail            string // several lines, as the host wrote them
}

func (s *story) incidents() []incident {
	var list []incident
	for _, f := range s.faults {
		list = append(list, incident{f.seq, s.since(f.at), f.host, words("done on purpose:", f.data.Say(f.host), parenthesis(f.data.Detail)), ""})
	}
	for _, e := range s.exits {
		list = append(list, incident{e.seq, s.since(e.at), e.host, exitText(e.data), e.data.Tail})
	}
	for _, f := range s.failed {
		what := "step failed: "
		if f.name == evidence.SuiteFailed {
			what = "the suite failed: "
		}
		list = append(list, incident{f.seq, s.since(f.at), f.host, what + f.data.Step, f.data.Err})
	}
	slices.SortFunc(list, func(a, b incident) int { return int(a.Seq) - int(b.Seq) })
	return list
}

func parenthesis(text string) string {
	if text == "" {
		return ""
	}
	return "(" + text + ")"
}

func exitText(e evidence.Exit) string {
	text := fmt.Sprintf("the node ended with exit status %d", e.Code)
	if e.Signal != "" {
		text = "the node was ended by signal " + e.Signal
	}
	if e.Lease {
		text += ", by its supervisor: the suite's lease had lapsed"
	}
	return text
}

// environment lists what was run.
func (s *story) environment() []fact {
	var list []fact
	put := func(name, value string) {
		if value != "" {
			list = append(list, fact{name, value})
		}
	}
	put("run", s.started.RunID)
	if m := s.bundle.Metadata; m != nil {
		put("software", m.SoftwareVersion)
		put("spec", m.Spec)
	}
	src := s.started.Source
	put("commit", words(src.Commit, map[bool]string{true: "(with changes)"}[src.Dirty]))
	put("source tree, SHA-256", src.Tree)
	put("toolchain", src.Go)
	if s.lab != nil {
		put("latency of a link, one way", s.lab.Latency.String())
	}
	if m := s.bundle.Metadata; m != nil {
		for _, p := range slices.Sorted(maps.Keys(m.Binaries)) {
			put("binary for "+p, m.Binaries[p])
		}
		for _, name := range slices.Sorted(maps.Keys(m.Env)) {
			put(name, m.Env[name])
		}
	}
	return list
}
