package inventory

import (
	"fmt"
	"slices"
	"strings"
)

// Problem is one mistake in an inventory.
type Problem struct {
	File string
	Line int    // from 1; 0 when it belongs to no line
	Path string // such as hosts.tensor02.ssh; empty for the file as a whole
	Text string
	Hint string // what to do about it; may be empty
}

// Error is `file:line: path: text`, short of what is not known.
func (p Problem) Error() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File + ":")
	}
	if p.Line > 0 {
		fmt.Fprintf(&b, "%d:", p.Line)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	return b.String() + p.Text
}

// Problems are all the mistakes of one inventory.
type Problems []Problem

// Error gives every problem a line, in the order of the file.
func (ps Problems) Error() string { return ps.text(false) }

// Hinted is Error with each problem's hint on a line of its own below it.
func (ps Problems) Hinted() string { return ps.text(true) }

func (ps Problems) text(hints bool) string {
	var lines []string
	said := map[string]bool{}
	for _, p := range ps.sorted() {
		lines = append(lines, p.Error())
		if hints && p.Hint != "" && !said[p.Hint] {
			said[p.Hint] = true
			lines = append(lines, "hint: "+p.Hint)
		}
	}
	return strings.Join(lines, "\n")
}

func (ps Problems) sorted() Problems {
	ps = slices.Clone(ps)
	slices.SortStableFunc(ps, func(a, b Problem) int { return a.Line - b.Line })
	return ps
}

// Err is nil when there are no problems.
func (ps Problems) Err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps.sorted()
}

// Problem is a mistake that only a later stage could see: a profile that the
// lab does not know, say.
func (inv *Inventory) Problem(line int, path, text string) Problem {
	return Problem{File: inv.File, Line: line, Path: path, Text: text}
}

// Problem is Inventory.Problem for a stage that sees the lab only.
func (l *Lab) Problem(line int, path, text string) Problem {
	return Problem{File: l.File, Line: line, Path: path, Text: text}
}
