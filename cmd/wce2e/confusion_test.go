package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"html"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/e2e/lab"
	"github.com/worldcompute/wce2e/inventory"
	"github.com/worldcompute/wce2e/node/netcheck"
)

// `make confusion` has every network of the lab diagnosed, and many of two: the
// causes that are found, against those that the lab put there.
var (
	confusion = flag.Bool("confusion", false, "diagnose every network of the lab, and write docs/confusion.svg and the table of docs/diagnosis.md; an hour")
	seeds     = flag.Int("seeds", 3, "with -confusion: how often")
	only      = flag.String("networks", "", "with -confusion: only those whose names hold this; the documents stay as they are")
	reportsIn = flag.String("reports", "", "with -confusion: a folder; the reports are kept in it, and when it holds some, those are graded and nothing is diagnosed anew: to work on rules")
)

const (
	compositions  = 40
	confusionFile = repoRoot + "/docs/confusion.svg"
	missed        = netcheck.Cause("(missed)")
	nothing       = netcheck.Cause("(nothing)")
	lookedAtOnce  = 5    // networks: their probes mostly wait
	unexplainable = 0.03 // of all diagnoses, at most: so many may say that they do not know
)

// hidden are causes that cannot be seen behind others: what drops all UDP leaves no
// QUIC to look at, and what dies at its first bytes never gets to a handshake.
var hidden = map[netcheck.Cause][]netcheck.Cause{
	netcheck.UDPBlocked:        {netcheck.QUICBlocked, netcheck.UDPPortBlocked, netcheck.UDPTimeout, netcheck.NATPerDestination},
	netcheck.FlowsLimited:      {netcheck.NATPerDestination, netcheck.NATNoHairpin}, // there may be no flow left to look with
	netcheck.MultistreamKilled: {netcheck.HandshakeKilled},
	netcheck.ProxyAuth:         {netcheck.ProxyRequired},  // which it says more of
	netcheck.TLSUntrusted:      {netcheck.TLSIntercepted}, // which it says more of
	netcheck.TLSServersRefused: {netcheck.TLSIntercepted},
	netcheck.TCPPortsBlocked:   {netcheck.MultistreamKilled, netcheck.HandshakeKilled, netcheck.ALPNKilled},
}

// implied are causes that come with others, and are as true where the lab does not
// name them: behind a proxy that is the only way out, no UDP gets out.
var implied = map[netcheck.Cause][]netcheck.Cause{
	netcheck.ProxyRequired: {netcheck.UDPBlocked, netcheck.TCPPortsBlocked},
}

// beside are causes that are no network's, and are there in this lab everywhere: a
// name of the list has no records, and most networks have no IPv6.
var beside = []netcheck.Cause{netcheck.NameUnknown, netcheck.TargetDead, netcheck.NoIPv6, netcheck.RelayRefuses, netcheck.NoControl}

// looked is one network of the lab and what was found there.
type looked struct {
	profile string
	host    string
	truth   []netcheck.Cause
	patient bool // only silence shows it
	reports []netcheck.Report
	errs    []error
}

func newLooked(i int, p lab.Profile) *looked {
	n := &looked{profile: p.Name, host: "h" + strconv.Itoa(i)}
	for _, c := range p.Truth.Causes {
		n.truth = append(n.truth, netcheck.Cause(c))
	}
	n.patient = slices.Contains(n.truth, netcheck.UDPTimeout) || slices.Contains(n.truth, netcheck.TCPTimeout)
	return n
}

// networksToLookAt are all profiles, and compositions of two that hinder in
// different ways, drawn the same way every time.
func networksToLookAt(t *testing.T) (list []*looked) {
	t.Helper()
	var hinder []string
	for _, p := range lab.Profiles() {
		list = append(list, newLooked(len(list), p))
		// Behind these nothing else can be seen.
		opaque := slices.ContainsFunc(p.Truth.Causes, func(c lab.Cause) bool {
			return c == lab.AllBlocked || c == lab.CaptivePortal || c == lab.ProxyRequired
		})
		// That neighbours do not reach each other is true of most.
		hinders := slices.ContainsFunc(p.Truth.Causes, func(c lab.Cause) bool { return c != lab.NATNoHairpin })
		if hinders && !opaque {
			hinder = append(hinder, p.Name)
		}
	}
	var pairs []string
	for i, a := range hinder {
		for _, b := range hinder[i+1:] {
			pairs = append(pairs, a+" + "+b)
		}
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(pairs), func(i, j int) { pairs[i], pairs[j] = pairs[j], pairs[i] })
	drawn := 0
	for _, names := range pairs {
		p, err := lab.ProfileNamed(names)
		if err != nil || drawn == compositions { // some contradict each other
			continue
		}
		drawn++
		list = append(list, newLooked(len(list), p))
	}
	if drawn < compositions {
		t.Fatalf("of %d pairs only %d can be built", len(pairs), drawn)
	}
	return slices.DeleteFunc(list, func(n *looked) bool { return !strings.Contains(n.profile, *only) })
}

func TestNoCauseIsTakenForAnother(t *testing.T) {
	if !*confusion {
		t.Skip("SKIPPED: without -confusion: it takes a quarter of an hour; make confusion does it")
	}
	list := networksToLookAt(t)
	anew := readReports(t, list) == 0
	if anew {
		lookAtAll(t, list)
	}
	m := newMatrixOfCauses(t, list)
	t.Logf("\n%s", m.table())
	for _, line := range m.wrong {
		t.Error(line)
	}
	if share := float64(m.unexplained) / float64(max(1, m.diagnoses)); share > unexplainable {
		t.Errorf("%.1f %% of the diagnoses do not know", 100*share)
	}
	if m.diagnoses == 0 {
		t.Error("nothing was diagnosed")
	}
	for _, n := range list {
		if len(n.reports)+len(n.errs) == 0 {
			t.Errorf("%s: nobody has looked at it", n.profile)
		}
		for _, err := range n.errs {
			t.Errorf("%s: %v", n.profile, err)
		}
	}
	if *only == "" && anew {
		m.write(t)
	}
}

// lookAtAll has every network looked at, as often as there are seeds.
func lookAtAll(t *testing.T, list []*looked) {
	t.Helper()
	l := &inventory.Lab{
		Latency:  10 * time.Millisecond,
		Zone:     "mesh.wce2e.net",
		Networks: []inventory.LabNetwork{{Name: "core", Profile: "open"}},
		Hosts:    []inventory.LabHost{{Name: "relay1", Network: "core"}, {Name: "relay2", Network: "core"}, {Name: "control", Network: "core"}},
	}
	for _, n := range list {
		l.Networks = append(l.Networks, inventory.LabNetwork{Name: n.host, Profile: n.profile})
		l.Hosts = append(l.Hosts, inventory.LabHost{Name: n.host, Network: n.host})
	}
	f := newFleet(t, l)
	_, addrs := f.ship("relay1").relay("relay")
	_, more := f.ship("relay2").relay("relay", "--http")
	noErr(t, f.lab.Publish(t.Context(), "relays", slices.Concat(addrs, more)...))
	targets := slices.Concat([]string{"/dnsaddr/relays.mesh.wce2e.net", "/dnsaddr/nobody.mesh.wce2e.net"}, addrs, more)
	for range *seeds {
		f.lookAround(list, targets)
	}
	writeReports(t, list)
}

// reportFile is where a network's n-th report is kept.
func (n *looked) reportFile(i int) string {
	return filepath.Join(*reportsIn, fmt.Sprintf("%s.%d.json", strings.ReplaceAll(n.profile, " ", ""), i))
}

func writeReports(t *testing.T, list []*looked) {
	t.Helper()
	if *reportsIn == "" {
		return
	}
	noErr(t, os.MkdirAll(*reportsIn, 0o755))
	for _, n := range list {
		for i, r := range n.reports {
			raw, err := json.Marshal(r)
			noErr(t, err)
			noErr(t, os.WriteFile(n.reportFile(i), raw, 0o644))
		}
	}
}

func readReports(t *testing.T, list []*looked) (count int) {
	t.Helper()
	for _, n := range list {
		for i := 0; *reportsIn != ""; i++ {
			raw, err := os.ReadFile(n.reportFile(i))
			if errors.Is(err, fs.ErrNotExist) {
				break
			}
			noErr(t, err)
			var r netcheck.Report
			noErr(t, json.Unmarshal(raw, &r))
			n.reports = append(n.reports, r)
			count++
		}
	}
	return count
}

// lookAround looks at all networks once, a few at a time.
func (f *fleet) lookAround(list []*looked, targets []string) {
	controls := map[bool]netcheck.Control{}
	for _, patient := range []bool{false, true} {
		if !slices.ContainsFunc(list, func(n *looked) bool { return n.patient == patient }) {
			continue
		}
		r, err := f.ship("control").netcheck(netchecked{patient: patient}, targets)
		if err != nil {
			f.Fatalf("the control: %v", err)
		}
		controls[patient] = netcheck.Control{Host: "control", Records: r.Records}
	}
	places := make(chan struct{}, lookedAtOnce)
	var all sync.WaitGroup
	for _, n := range list {
		all.Go(func() {
			if !n.patient { // who mostly waits takes nobody's place
				places <- struct{}{}
				defer func() { <-places }()
			}
			r, err := f.ship(n.host).netcheck(netchecked{patient: n.patient}, targets)
			if err != nil {
				n.errs = append(n.errs, err)
				return
			}
			r.Controls = []netcheck.Control{controls[n.patient]}
			n.reports = append(n.reports, r)
		})
	}
	all.Wait()
}

// matrixOfCauses counts which cause was found where another one was there.
type matrixOfCauses struct {
	cells       map[netcheck.Cause]map[netcheck.Cause]int // there -> found
	wrong       []string
	diagnoses   int
	exact       int // that found what was there, and nothing else
	unexplained int
}

func newMatrixOfCauses(t *testing.T, list []*looked) *matrixOfCauses {
	t.Helper()
	m := &matrixOfCauses{cells: map[netcheck.Cause]map[netcheck.Cause]int{}}
	for _, n := range list {
		for _, r := range n.reports {
			var found []netcheck.Cause
			for _, c := range netcheck.Diagnose(r).Causes {
				found = append(found, c.Cause)
			}
			t.Logf("%s: there are %v, found were %v", n.profile, n.truth, found)
			m.grade(n, found)
		}
	}
	return m
}

func (m *matrixOfCauses) count(there, found netcheck.Cause) {
	if m.cells[there] == nil {
		m.cells[there] = map[netcheck.Cause]int{}
	}
	m.cells[there][found]++
}

func (m *matrixOfCauses) grade(n *looked, found []netcheck.Cause) {
	m.diagnoses++
	if slices.Contains(found, netcheck.NoControl) {
		m.unexplained++
	}
	var lost, extra []netcheck.Cause
	for _, c := range n.truth {
		switch {
		case slices.Contains(found, c):
			m.count(c, c)
		case !follows(hidden, n.truth, c):
			lost = append(lost, c)
		}
	}
	for _, c := range found {
		if !slices.Contains(n.truth, c) && !slices.Contains(beside, c) && !follows(implied, n.truth, c) {
			extra = append(extra, c)
		}
	}
	for _, c := range extra {
		m.wrong = append(m.wrong, fmt.Sprintf("%s: found %s, which is not there; there are %v, found were %v", n.profile, c, n.truth, found))
		for _, l := range lost {
			m.count(l, c)
		}
		if len(lost) == 0 {
			m.count(nothing, c)
		}
	}
	for _, l := range lost {
		if len(extra) == 0 {
			m.count(l, missed)
		}
	}
	if len(lost)+len(extra) == 0 && !slices.Contains(found, netcheck.NoControl) {
		m.exact++
		if len(n.truth) == 0 {
			m.count(nothing, nothing)
		}
	}
}

// follows tells whether c is what from says about one of the causes that are there.
func follows(from map[netcheck.Cause][]netcheck.Cause, truth []netcheck.Cause, c netcheck.Cause) bool {
	return slices.ContainsFunc(truth, func(t netcheck.Cause) bool { return slices.Contains(from[t], c) })
}

// axes are the causes that occur, in the order of netcheck's list.
func (m *matrixOfCauses) axes() (there, found []netcheck.Cause) {
	in := map[netcheck.Cause]bool{}
	for _, row := range m.cells {
		for c := range maps.Keys(row) {
			in[c] = true
		}
	}
	for _, c := range append(netcheck.Causes(), nothing, missed) {
		if m.cells[c] != nil {
			there = append(there, c)
		}
		if in[c] {
			found = append(found, c)
		}
	}
	return there, found
}

func (m *matrixOfCauses) summary() string {
	return fmt.Sprintf("%d diagnoses: %d found exactly what is there, %d named a cause that is not there, %d left something unexplained.",
		m.diagnoses, m.exact, len(m.wrong), m.unexplained)
}

// table is one row for each cause that was there.
func (m *matrixOfCauses) table() string {
	var b strings.Builder
	b.WriteString(m.summary() + "\n\n| there | found | missed | taken for |\n|---|---:|---:|---|\n")
	there, found := m.axes()
	for _, t := range there {
		var others []string
		for _, f := range found {
			if n := m.cells[t][f]; n > 0 && f != t && f != missed {
				others = append(others, fmt.Sprintf("%s %d", f, n))
			}
		}
		fmt.Fprintf(&b, "| `%s` | %d | %d | %s |\n", t, m.cells[t][t], m.cells[t][missed], strings.Join(others, ", "))
	}
	return b.String()
}

// svg draws the matrix: rows are what was there, columns what was found.
func (m *matrixOfCauses) svg() string {
	const cell, left, top = 26, 200, 190
	there, found := m.axes()
	var b strings.Builder
	w, h := left+cell*len(found)+20, top+cell*len(there)+20
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui,sans-serif" font-size="12">`+"\n", w, h)
	fmt.Fprintf(&b, `<title>%s</title><rect width="%d" height="%d" fill="#fff"/>`+"\n", html.EscapeString(m.summary()), w, h)
	for i, f := range found {
		x := left + i*cell + cell/2 + 4
		fmt.Fprintf(&b, `<text transform="translate(%d,%d) rotate(-60)">%s</text>`+"\n", x, top-8, html.EscapeString(string(f)))
	}
	for j, t := range there {
		y := top + j*cell
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", left-8, y+17, html.EscapeString(string(t)))
		for i, f := range found {
			color := "#f0f3f6"
			n := m.cells[t][f]
			switch {
			case n > 0 && f == t:
				color = "#7ac48f"
			case n > 0 && f == missed:
				color = "#ecd27a"
			case n > 0:
				color = "#ec8a8a"
			}
			fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/>`, left+i*cell, y, cell-2, cell-2, color)
			if n > 0 {
				fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%d</text>`, left+i*cell+cell/2-1, y+17, n)
			}
			b.WriteString("\n")
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (m *matrixOfCauses) write(t *testing.T) {
	t.Helper()
	doc, err := os.ReadFile(diagnosisDoc)
	noErr(t, err)
	text, err := generated(string(doc), "confusion", m.table())
	noErr(t, err)
	noErr(t, os.WriteFile(diagnosisDoc, []byte(text), 0o644))
	noErr(t, os.WriteFile(confusionFile, []byte(m.svg()), 0o644))
}
