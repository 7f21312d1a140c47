package matrix

import (
	"fmt"
	"strings"
)

// Markdown is index.md, and what a code host shows as the summary of a job.
func (r Results) Markdown() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# Firewall matrix: %s\n\n", r.Sentence())
	fmt.Fprintf(&b, "Hold %s, seed %d, source `%.12s`, began %s.", r.Hold, r.Seed, r.Source.Tree, r.Began.UTC().Format("2006-01-02 15:04 UTC"))
	if len(r.Shards) > 0 {
		fmt.Fprintf(&b, " Shards: %s.", strings.Join(r.Shards, ", "))
	}
	b.WriteString(" What differs from the ground truth stands in bold, with what was expected.\n\n")
	for _, h := range r.heats() {
		fmt.Fprintf(&b, "%s\n\n![%s](%s)\n\n", h.Sentence, h.Sentence, h.file())
	}
	b.WriteString("| | profile | " + strings.Join(Columns, " | ") + " |\n")
	b.WriteString("|---|---|" + strings.Repeat("---|", len(Columns)) + "\n")
	for _, o := range r.Outcomes {
		fmt.Fprintf(&b, "| %s | %s |", icon(o.State()), escape(o.Cell.String()))
		for _, f := range o.Fields() {
			text := escape(f.Seen)
			if f.Differs {
				text = fmt.Sprintf("**%s**, expected %s", text, escape(f.Expected))
			}
			fmt.Fprintf(&b, " %s |", text)
		}
		b.WriteByte('\n')
	}
	r.markdownDifferences(&b)
	return []byte(b.String())
}

func (r Results) markdownDifferences(b *strings.Builder) {
	title := "\n## Differences\n\n"
	for _, o := range r.Outcomes {
		for _, line := range o.told() {
			fmt.Fprintf(b, "%s- %s: %s\n", title, escape(o.Cell.String()), escape(line))
			title = ""
		}
	}
}

func icon(s State) string {
	return map[State]string{AsExpected: "✓", Differs: "✗", Failed: "!"}[s]
}

// escape keeps what a host said from being markup.
func escape(s string) string {
	return markup.Replace(s)
}

var markup = strings.NewReplacer("\n", " ", "|", `\|`, "<", "&lt;", ">", "&gt;", "*", `\*`, "_", `\_`, "`", "'", "[", `\[`)
