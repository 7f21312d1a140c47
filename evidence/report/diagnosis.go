package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"strings"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/netcheck"
)

// Network is one host's network, diagnosed: what the host saw, with the controls,
// and what it means.
type Network struct {
	Host      string
	Line      uint64 // of the trace
	Report    netcheck.Report
	Diagnosis netcheck.Diagnosis
}

//go:embed diagnosis.html.tmpl
var diagnosisText string

var diagnosisTemplate = template.Must(template.New(DiagnosisFile).Funcs(template.FuncMap{
	"css": func() template.CSS { return template.CSS(css + diagnosisCSS) }, // ours, not the bundle's
	"add": func(a, b float64) float64 { return round(a + b) },
}).Parse(diagnosisText))

//go:embed diagnosis.css
var diagnosisCSS string

// RenderDiagnosis renders the page of a diagnosis: for each host the verdict, every
// address of the list explained, and a waterfall of everything that was tried.
func RenderDiagnosis(b *evidence.Bundle, list []Network) ([]byte, error) {
	s := tell(b)
	page := struct {
		Title  string
		Facts  []fact
		Hosts  []diagnosisPage
		Others string // the page of the run
	}{Title: s.runTitle(), Facts: s.headFacts(), Others: HTMLFile}
	for _, n := range list {
		page.Hosts = append(page.Hosts, n.page())
	}
	var out bytes.Buffer
	if err := diagnosisTemplate.Execute(&out, page); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// diagnosisPage is one host in words.
type diagnosisPage struct {
	Host       string
	Line       uint64
	State      string // pass | fail | inconclusive
	Verdict    string
	Facts      []fact
	Causes     []causeCard
	Hypothesis string
	Daemon     string
	Advice     []fact
	Targets    []targetRow
	Ways       []waterfall
	Arrivals   []arrivalRow
}

// arrivalRow is a connection that came to nothing, as its relay saw it.
type arrivalRow struct{ At, Lasted, Relay, Local, Remote, Received, Sent, Failure, Error string }

type causeCard struct{ Cause, Confidence, Sentence, Records string }

// targetRow is one address of the list with all that was tried of it.
type targetRow struct {
	Addr string
	Ways []wayRow
}

type wayRow struct{ State, Transport, Addr, Reached, Failure, Cause, Sentence string }

var hypothesisWords = map[netcheck.Hypothesis]string{
	netcheck.H1: "H1 held: the daemon dies.",
	netcheck.H2: "H2 held: its dials fail, and that is all it says.",
	netcheck.H3: "H3 held: connections are established, and die at the security handshake.",
}

func (n Network) page() diagnosisPage {
	d, l := n.Diagnosis, n.Report.Local
	p := diagnosisPage{Host: n.Host, Line: n.Line, Hypothesis: hypothesisWords[d.Hypothesis], Targets: n.targets(), Ways: n.waterfalls(), Arrivals: n.arrivals()}
	p.State, p.Verdict = verdictWords(d)
	p.Facts = []fact{
		{"addresses", or(strings.Join(l.Addrs, ", "), "none")}, {"routes out", or(strings.Join(l.Routes, ", "), "none")},
		{"resolvers", or(strings.Join(l.Resolvers, ", "), "none")}, {"proxies", proxyWords(l.Proxies)}, {"compared with", or(controlWords(n.Report.Controls), "nobody")},
	}
	for _, f := range d.Causes {
		p.Causes = append(p.Causes, causeCard{string(f.Cause), string(f.Confidence), f.Sentence, recordWords(f.Because)})
	}
	if x := n.Report.Daemon; x != nil {
		p.Daemon = fmt.Sprintf("It lived for %.0f s, began %s, of which %d have no outcome and %d waited in vain for the security handshake. %s",
			x.Lived, count(x.Dials, "dial", "dials"), x.Silent, x.Stalled, joinedWords(*x))
	}
	for _, a := range []fact{{"What the donor does", d.Donor}, {"What you can do", d.Operator}, {"For the network's administrator", d.Administrator}} {
		if a.Value != "" {
			p.Advice = append(p.Advice, a)
		}
	}
	return p
}

func verdictWords(d netcheck.Diagnosis) (state, text string) {
	switch {
	case !d.Explained():
		return evidence.Inconclusive.String(), "something is unexplained"
	case len(d.Ways) == 0:
		return evidence.Fail.String(), "no relay is reached"
	}
	return evidence.Pass.String(), "a relay is reached by " + strings.Join(d.Ways, ", ")
}

func joinedWords(d netcheck.Daemon) string {
	text := "It did not join."
	if d.Joined {
		text = "It joined, by " + or(d.Way, "an unknown transport") + "."
	}
	if d.Ended {
		text += fmt.Sprintf(" It ended by itself with exit status %d.", d.Exit)
	}
	if d.Said != "" {
		text += " Its last words: " + d.Said
	}
	return text
}

func proxyWords(list []netcheck.Proxy) string {
	var words []string
	for _, p := range list {
		words = append(words, p.URL+" ("+p.Source+")")
	}
	return or(strings.Join(words, ", "), "none")
}

func controlWords(list []netcheck.Control) string {
	var names []string
	for _, c := range list {
		names = append(names, c.Host)
	}
	return strings.Join(names, ", ")
}

func recordWords(ids []int) string {
	const most = 12
	var words []string
	for _, id := range ids[:min(len(ids), most)] {
		words = append(words, fmt.Sprint(id))
	}
	if more := len(ids) - most; more > 0 {
		words = append(words, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(words, " ")
}

func (n Network) targets() []targetRow {
	var list []targetRow
	for i, t := range n.Report.Targets {
		row := targetRow{Addr: shortAddr(t.Addr)}
		for _, e := range n.Diagnosis.Targets {
			if e.Target == i {
				row.Ways = append(row.Ways, wayRow{stateOf(e), e.Transport, shortAddr(e.Addr), string(e.Reached), string(e.Failure), string(e.Cause), e.Sentence})
			}
		}
		list = append(list, row)
	}
	return list
}

func (n Network) arrivals() []arrivalRow {
	var list []arrivalRow
	for _, a := range n.Report.Arrivals {
		list = append(list, arrivalRow{fmt.Sprintf("%.3f s", a.T0), millis(a.T * 1000), a.Host, a.Local, a.Remote, size(a.Received), size(a.Sent), string(a.Failure), a.Error})
	}
	return list
}

func stateOf(e netcheck.Explanation) string {
	switch {
	case e.Addr == "" && e.Failed == "":
		return "" // its addresses are explained elsewhere
	case e.Failed == "":
		return "ok"
	case e.Cause == netcheck.NoControl:
		return "no"
	}
	return "failed"
}
