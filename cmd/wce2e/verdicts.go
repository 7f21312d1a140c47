package main

import (
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/worldcompute/wce2e/evidence"
)

// verdictWidth is where the sentences of a verdict are broken, in columns.
const verdictWidth = 100

// printVerdicts prints one paragraph per claim, and the label of the whole.
func printVerdicts(w io.Writer, r evidence.Results) error {
	var b strings.Builder
	for _, a := range r.Assertions {
		head := fmt.Sprintf("%-13s %-12s ", a.Verdict, printable(string(a.Name)))
		for _, line := range wrap(a.Observed, verdictWidth-len(head)) {
			b.WriteString(strings.TrimRight(head+printable(line), " ") + "\n")
			head = strings.Repeat(" ", len(head))
		}
	}
	fmt.Fprintf(&b, "%-13s %s\n", overall(r), r.Label)
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("print verdicts: %w", err)
	}
	return nil
}

// printable keeps what a bundle or a host smuggles into a line from moving the
// cursor, or starting another line.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return '?'
		}
		return c
	}, s)
}

// overall is the verdict of the whole as stored, which may be short of that of
// the claims: those of a run that did not end may all have passed.
func overall(r evidence.Results) evidence.Verdict {
	switch r.Overall {
	case "pass":
		return r.Verdict()
	case "fail":
		return evidence.Fail
	}
	return evidence.Inconclusive
}

// wrap breaks text at spaces into lines of at most width bytes, where its words
// allow it. Of an empty text it makes one empty line.
func wrap(text string, width int) []string {
	lines := []string{""}
	for _, word := range strings.Fields(text) {
		last := &lines[len(lines)-1]
		switch {
		case *last == "":
			*last = word
		case len(*last)+1+len(word) <= width:
			*last += " " + word
		default:
			lines = append(lines, word)
		}
	}
	return lines
}

// verdictError carries a verdict to the exit code. Pass is nil.
func verdictError(v evidence.Verdict) error {
	switch v {
	case evidence.Pass:
		return nil
	case evidence.Fail:
		return &exitError{code: exitFail}
	}
	return &exitError{code: exitInconclusive}
}
