package inventory

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"gopkg.in/yaml.v3"
)

// Bounds that no inventory of a person meets. They keep the work on a hostile
// file, with its aliases of aliases, in proportion to its size.
const (
	maxBytes    = 1 << 20
	maxEntries  = 256 // of one mapping or list
	maxProblems = 1000
)

// reading is one pass over a file. It notes problems instead of stopping at one.
type reading struct {
	file     string
	problems Problems
	lines    map[string]int // by path, of all that was looked at
}

func (r *reading) add(p Problem) {
	if len(r.problems) < maxProblems {
		p.File, p.Path, p.Text, p.Hint = r.file, oneLine(p.Path), oneLine(p.Text), oneLine(p.Hint)
		r.problems = append(r.problems, p)
	}
}

// oneLine keeps what a file smuggles into a message from moving the cursor or
// starting a line.
func oneLine(s string) string {
	return strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return '?'
		}
		return c
	}, s)
}

// at notes a problem of a path that was read before.
func (r *reading) at(path, hint, format string, args ...any) {
	r.add(Problem{Line: r.lines[path], Path: path, Hint: hint, Text: fmt.Sprintf(format, args...)})
}

// document gives the one mapping that a file consists of.
func (r *reading) document(data []byte) (value, bool) {
	if len(data) > maxBytes {
		r.add(Problem{Line: 1, Text: fmt.Sprintf("larger than %d bytes: this is no inventory", maxBytes)})
		return value{}, false
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, next yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF), err == nil && isNull(doc.Content[0]):
		r.add(Problem{Line: 1, Text: "empty", Hint: "inventory/README.md explains every field"})
		return value{}, false
	case err != nil:
		r.add(syntax(err))
		return value{}, false
	}
	if err := dec.Decode(&next); err == nil {
		r.add(Problem{Line: next.Line, Text: "a second document: an inventory is one"})
	} else if !errors.Is(err, io.EOF) {
		r.add(syntax(err))
	}
	top := r.value("", doc.Content[0].Line, doc.Content[0])
	if top.node.Kind != yaml.MappingNode {
		top.bad("want fields such as `version: 1`, got %s", describe(top.node))
		return value{}, false
	}
	return top, true
}

var yamlLine = regexp.MustCompile(`^line (\d+): `)

// syntax turns yaml's "yaml: line 3: why" into a Problem.
func syntax(err error) Problem {
	text, line := strings.TrimPrefix(err.Error(), "yaml: "), 1
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		text = text[len(m[0]):]
		line, _ = strconv.Atoi(m[1])
	}
	return Problem{Line: line, Text: "not YAML: " + text}
}
