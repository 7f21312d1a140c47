package report

import (
	"fmt"
	"strings"
)

// renderIndex writes index.md.
func renderIndex(p page) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s: %s\n\n", md(p.Title), md(p.Label))
	fmt.Fprintf(&b, "**%s**", md(p.Overall))
	for _, f := range p.Facts {
		fmt.Fprintf(&b, " · %s %s", f.Name, md(f.Value))
	}
	b.WriteString("\n\n")
	for _, w := range p.Warnings {
		fmt.Fprintf(&b, "> **%s**\n\n", md(w))
	}
	b.WriteString(md(p.Topology.Sentence) + "\n")
	if p.Diagnosis != "" {
		fmt.Fprintf(&b, "\n[%s](%s) explains what is between the donor and the relays.\n", p.Diagnosis, p.Diagnosis)
	}
	indexClaims(&b, p.Claims)
	indexIncidents(&b, p.Incidents)
	indexHold(&b, p.Hold)
	indexDials(&b, p.Dials)
	indexHosts(&b, p.Hosts)
	indexEnv(&b, p.Env)
	b.WriteString("\n[report.html](report.html) shows the timelines; [trace.jsonl](trace.jsonl) has every observation; `wce2e check` judges it anew.\n")
	return []byte(b.String())
}

func indexClaims(b *strings.Builder, claims []claimCard) {
	b.WriteString("\n## Claims\n\n")
	if len(claims) == 0 {
		b.WriteString("No verdicts: the bundle has no results.json that can be read.\n")
		return
	}
	row(b, "claim", "verdict", "observed", "lines of the trace")
	rule(b, 4)
	for _, c := range claims {
		lines := ranges(c.Because)
		if c.More > 0 {
			lines += fmt.Sprintf(" and %d more", c.More)
		}
		row(b, md(c.Name), "**"+md(c.Verdict)+"**", md(c.Observed), lines)
	}
}

func indexIncidents(b *strings.Builder, list []incident) {
	if len(list) == 0 {
		return
	}
	b.WriteString("\n## What went wrong, or was broken on purpose\n\n")
	row(b, "line", "after", "host", "what")
	rule(b, 4)
	for _, i := range list {
		row(b, fmt.Sprint(i.Seq), i.Since, md(i.Host), md(words(i.Text, head(i.Detail, 300))))
	}
}

func indexHold(b *strings.Builder, h holdChart) {
	b.WriteString("\n## The hold\n\n")
	if h.Missing != "" {
		b.WriteString(h.Missing + "\n")
		return
	}
	fmt.Fprintf(b, "%s\n\n![Round trips during the hold](%s)\n\n", md(h.Caption), HoldFile)
	for _, f := range h.Stats {
		fmt.Fprintf(b, "- %s: %s\n", f.Name, md(f.Value))
	}
}

func indexDials(b *strings.Builder, dials []hostDials) {
	b.WriteString("\n## Dials\n\n")
	if len(dials) == 0 {
		b.WriteString("No node dialled anybody.\n")
	}
	for _, d := range dials {
		fmt.Fprintf(b, "- %s: %s\n", md(d.Host), md(d.Summary))
	}
}

func indexHosts(b *strings.Builder, hosts []hostRow) {
	b.WriteString("\n## Hosts\n\n")
	if len(hosts) == 0 {
		b.WriteString("The trace names no host.\n")
		return
	}
	row(b, "host", "role", "network", "system", "addresses", "clock, against the suite's")
	rule(b, 6)
	for _, h := range hosts {
		row(b, md(h.Name), md(h.Role), md(h.Network), md(h.System), md(h.Addrs), md(h.Clock))
	}
}

func indexEnv(b *strings.Builder, env []fact) {
	b.WriteString("\n## Environment\n\n")
	if len(env) == 0 {
		b.WriteString("Nothing is recorded.\n")
	}
	for _, f := range env {
		fmt.Fprintf(b, "- %s: %s\n", md(f.Name), md(f.Value))
	}
}

// ranges writes numbers shortly: 1 3-5.
func ranges(list []uint64) string {
	var parts []string
	for i := 0; i < len(list); {
		j := i
		for j+1 < len(list) && list[j+1] == list[j]+1 {
			j++
		}
		if j > i {
			parts = append(parts, fmt.Sprintf("%d-%d", list[i], list[j]))
		} else {
			parts = append(parts, fmt.Sprint(list[i]))
		}
		i = j + 1
	}
	return strings.Join(parts, " ")
}

func row(b *strings.Builder, cells ...string) {
	b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}

func rule(b *strings.Builder, cells int) {
	b.WriteString("|" + strings.Repeat("---|", cells) + "\n")
}

// md makes text of a bundle plain in Markdown: no markup, no HTML, no line of
// its own.
func md(s string) string {
	return mdEscaper.Replace(strings.Join(strings.Fields(s), " "))
}

var mdEscaper = strings.NewReplacer(
	`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "|", `\|`, "#", `\#`, "~", `\~`,
	"<", "&lt;", ">", "&gt;", "&", "&amp;",
)
