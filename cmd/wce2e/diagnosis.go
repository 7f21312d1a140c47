package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/worldcompute/wce2e/node/netcheck"
)

// networkExplained is what `node netcheck --json` prints: what was seen, and what
// it means.
type networkExplained struct {
	Report    netcheck.Report    `json:"report"`
	Diagnosis netcheck.Diagnosis `json:"diagnosis"`
}

// hypotheses are the three about a node of which nothing more was heard.
var hypotheses = map[netcheck.Hypothesis]string{
	netcheck.H1: "H1: the daemon dies",
	netcheck.H2: "H2: its dials fail, and that is all it says",
	netcheck.H3: "H3: connections are established, and die at the security handshake",
}

// printExplained prints flat facts first, then what they mean, then what to do.
func printExplained(w io.Writer, n networkExplained) error {
	var p paper
	p.machine(n.Report.Local)
	p.list(n)
	p.causes(n.Diagnosis)
	p.daemon(n.Report.Daemon, n.Diagnosis.Hypothesis)
	p.section("what the donor does", n.Diagnosis.Donor)
	p.section("what you can do", n.Diagnosis.Operator)
	p.section("for the network's administrator", n.Diagnosis.Administrator)
	if _, err := io.WriteString(w, p.String()); err != nil {
		return fmt.Errorf("print diagnosis: %w", err)
	}
	return nil
}

// paper is text of at most verdictWidth columns.
type paper struct{ strings.Builder }

// para prints one paragraph behind head; its other lines stand below its first.
func (p *paper) para(head, text string) {
	for _, line := range wrap(text, verdictWidth-len(head)) {
		p.WriteString(strings.TrimRight(head+line, " ") + "\n")
		head = strings.Repeat(" ", len(head))
	}
}

func (p *paper) section(title, text string) {
	if text != "" {
		p.WriteString("\n" + title + "\n")
		p.para("  ", text)
	}
}

// machine is what the machine says of its own network.
func (p *paper) machine(l netcheck.Local) {
	p.WriteString("\nthis machine\n")
	p.para("  addresses  ", cmp.Or(strings.Join(l.Addrs, ", "), "none"))
	p.para("  routes     ", cmp.Or(strings.Join(l.Routes, ", "), "none leads out"))
	p.para("  resolvers  ", cmp.Or(strings.Join(l.Resolvers, ", "), "none"))
	var proxies []string
	for _, x := range l.Proxies {
		proxies = append(proxies, fmt.Sprintf("%s (%s)", x.URL, x.Source))
	}
	p.para("  proxies    ", cmp.Or(strings.Join(proxies, ", "), "none"))
}

// list explains every address of the list.
func (p *paper) list(n networkExplained) {
	p.WriteString("\nthe list\n")
	for i, target := range n.Report.Targets {
		p.WriteString("  " + target.Addr + "\n")
		for _, e := range n.Diagnosis.Targets {
			if e.Target != i {
				continue
			}
			if e.Addr != "" && e.Addr != target.Addr {
				p.WriteString("    " + e.Addr + "\n")
			}
			p.para(fmt.Sprintf("    %-13s", e.Transport), e.Sentence)
		}
	}
}

// causes says what is in the way and how that is known.
func (p *paper) causes(d netcheck.Diagnosis) {
	p.WriteString("\nin the way\n")
	if len(d.Causes) == 0 {
		p.WriteString("  nothing\n")
	}
	for _, f := range d.Causes {
		p.para(fmt.Sprintf("  %-22s %-9s ", f.Cause, f.Confidence), f.Sentence+footnote(f.Because))
	}
	p.WriteString("\na relay is reached by\n")
	p.para("  ", cmp.Or(strings.Join(d.Ways, ", "), "no transport"))
}

// footnoteMost bounds the records that a finding names: the report has them all.
const footnoteMost = 6

// footnote names the records that led to a finding.
func footnote(ids []int) string {
	if len(ids) == 0 {
		return ""
	}
	words := make([]string, 0, footnoteMost)
	for _, id := range ids[:min(len(ids), footnoteMost)] {
		words = append(words, fmt.Sprint(id))
	}
	more := ""
	if n := len(ids) - footnoteMost; n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf(" [records %s%s]", strings.Join(words, ", "), more)
}

// daemon is what became of a node, and which hypothesis that speaks for.
func (p *paper) daemon(d *netcheck.Daemon, h netcheck.Hypothesis) {
	if d == nil {
		return
	}
	p.section("the daemon", daemonWords(*d))
	p.section("hypothesis", cmp.Or(hypotheses[h], "none of the three: the daemon lives, and says how its dials end"))
}

func daemonWords(d netcheck.Daemon) string {
	text := fmt.Sprintf("It lived for %.0f s and began %d dials, of which %d have no outcome and %d waited in vain for the security handshake.", d.Lived, d.Dials, d.Silent, d.Stalled)
	if !d.Started {
		text = "It never started."
	}
	if d.Joined {
		text += fmt.Sprintf(" It joined, by %s.", d.Way)
	} else {
		text += " It did not join."
	}
	if d.Ended {
		text += fmt.Sprintf(" It ended by itself with exit status %d.", d.Exit)
	}
	if d.Said != "" {
		text += " Its last words: " + d.Said
	}
	return text
}
