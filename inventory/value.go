package inventory

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// value is a node of the file, or the absence of one, and the path to it.
type value struct {
	r    *reading
	path string
	line int        // where it stands, or where it is missing
	node *yaml.Node // aliases followed; nil when absent
	// muted: the value above it is wrong already, and one complaint is enough.
	muted bool
}

func (r *reading) value(path string, line int, n *yaml.Node) value {
	if n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias // of an alias there is no alias
	}
	r.lines[path] = line
	return value{r: r, path: path, line: line, node: n}
}

// set tells whether the file has it. A field with nothing behind the colon is
// as good as absent.
func (v value) set() bool { return v.node != nil && !isNull(v.node) }

func (v value) bad(format string, args ...any) { v.badHint("", format, args...) }

func (v value) badHint(hint, format string, args ...any) {
	if v.muted {
		return
	}
	v.r.add(Problem{Line: v.line, Path: v.path, Hint: hint, Text: fmt.Sprintf(format, args...)})
}

func (v value) child(name string, line int, n *yaml.Node) value {
	return v.r.value(joined(v.path, name), line, n)
}

// mapping is a value with known fields.
type mapping struct {
	value
	fields map[string]value
}

// mapping reads a value as fields, and reports those that are not known.
func (v value) mapping(known ...string) mapping {
	m := mapping{v, map[string]value{}}
	m.muted = v.muted || v.set() && v.node.Kind != yaml.MappingNode
	for _, e := range v.entries() {
		if !slices.Contains(known, e.name) {
			e.badHint(suggest(e.name, known), "unknown field")
			continue
		}
		m.fields[e.name] = e.value
	}
	return m
}

// get never fails: a field that is absent stands where its mapping does.
func (m mapping) get(name string) value {
	if v, ok := m.fields[name]; ok {
		return v
	}
	v := m.child(name, m.line, nil)
	v.muted = m.muted
	return v
}

// entry is one field of a mapping.
type entry struct {
	name string
	value
}

// entries reads a value as a mapping whose keys are free, in the order of the file.
func (v value) entries() []entry {
	if !v.set() {
		return nil
	}
	if v.node.Kind != yaml.MappingNode {
		v.bad("want fields (`name: value`), got %s", describe(v.node))
		return nil
	}
	if len(v.node.Content)/2 > maxEntries {
		v.bad("%d entries are too many: at most %d", len(v.node.Content)/2, maxEntries)
		return nil
	}
	var list []entry
	first := map[string]int{}
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		key, node := v.node.Content[i], v.node.Content[i+1]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		line := v.node.Content[i].Line
		name, ok := v.key(key, line)
		if !ok {
			continue
		}
		if at, dup := first[name]; dup {
			v.r.add(Problem{Line: line, Path: joined(v.path, name), Text: fmt.Sprintf("is there already, in line %d", at)})
			continue
		}
		first[name] = line
		list = append(list, entry{name, v.child(name, line, node)})
	}
	return list
}

func (v value) key(n *yaml.Node, line int) (string, bool) {
	switch {
	case n.Kind != yaml.ScalarNode:
		v.r.add(Problem{Line: line, Path: v.path, Text: "a name must be text, not " + describe(n)})
	case n.ShortTag() == "!!merge":
		v.r.add(Problem{Line: line, Path: v.path, Text: "merge keys (<<) are not understood", Hint: "write the fields out; an alias of a whole value works"})
	default:
		return n.Value, true
	}
	return "", false
}

var plainName = regexp.MustCompile(`^[\w.-]{1,100}$`)

// joined is the path of a field. A name that would not fit a line of a message
// is quoted.
func joined(path, name string) string {
	if !plainName.MatchString(name) {
		name = shortened(name)
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// items reads a value as a list.
func (v value) items() []value {
	if !v.set() {
		return nil
	}
	if v.node.Kind != yaml.SequenceNode {
		v.badHint("write "+v.name()+": [one, another]", "want a list, got %s", describe(v.node))
		return nil
	}
	if len(v.node.Content) > maxEntries {
		v.bad("%d entries are too many: at most %d", len(v.node.Content), maxEntries)
		return nil
	}
	var list []value
	for i, n := range v.node.Content {
		list = append(list, v.r.value(fmt.Sprintf("%s[%d]", v.path, i), n.Line, n))
	}
	return list
}

func (v value) name() string { return v.path[strings.LastIndexByte(v.path, '.')+1:] }

// text reads a value as text that must not be empty. Where it is absent, def
// holds; an empty def makes it required.
func (v value) text(def string) (string, bool) {
	switch {
	case !v.set() && def != "":
		return def, true
	case v.node == nil:
		v.bad("missing")
	case !v.set():
		v.bad("empty")
	case v.node.Kind != yaml.ScalarNode:
		v.bad("want text, got %s", describe(v.node))
	case v.node.ShortTag() != "!!str":
		v.badHint("put it in quotes", "want text, got %s", describe(v.node))
	case strings.TrimSpace(v.node.Value) == "":
		v.bad("empty")
	case strings.ContainsFunc(v.node.Value, func(r rune) bool { return r < ' ' || r == 0x7f }):
		v.bad("want one line of text without control characters")
	default:
		return v.node.Value, true
	}
	return "", false
}

// texts reads a value as a list of texts, each with where it stands.
func (v value) texts() (list []string, at []value) {
	for _, item := range v.items() {
		if s, ok := item.text(""); ok {
			list, at = append(list, s), append(at, item)
		}
	}
	return list, at
}

// wordShape fits a folder, a host name and a line of a log alike.
var wordShape = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)

// word reads a value as a plain name.
func (v value) word(def string) string {
	s, ok := v.text(def)
	if ok && !wordShape.MatchString(s) {
		v.notAWord(s)
	}
	return s
}

func (v value) notAWord(s string) {
	v.badHint("a name has at most 63 letters, digits, - and _, and starts with a letter or digit", "%s is not a name", quoted(s))
}

// duration reads a value such as 10m.
func (v value) duration(def time.Duration) time.Duration {
	const hint = "a duration has a unit: 30s, 10m, 1h30m"
	if !v.set() {
		return def
	}
	if v.node.Kind != yaml.ScalarNode {
		v.badHint(hint, "want a duration, got %s", describe(v.node))
		return def
	}
	d, err := time.ParseDuration(v.node.Value)
	if err != nil || v.node.Value == "0" {
		v.badHint(hint, "%s is not a duration", quoted(v.node.Value))
		return def
	}
	return d
}

// number reads a value as a whole number. It is required.
func (v value) number(low, high int) int {
	s := ""
	switch {
	case v.node == nil:
		v.bad("missing")
		return 0
	case v.node.Kind == yaml.ScalarNode && v.node.ShortTag() == "!!int":
		s = v.node.Value
	}
	n, err := strconv.Atoi(s)
	switch {
	case err != nil:
		v.bad("want a whole number, got %s", describe(v.node))
	case n < low || n > high:
		v.bad("%d is not from %d to %d", n, low, high)
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// describe says what a node is, in a person's words.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "fields"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
	default:
		return "something else"
	}
	kind := map[string]string{
		"!!int": "the number", "!!float": "the number", "!!bool": "the truth value", "!!timestamp": "the date", "!!str": "the text",
	}[n.ShortTag()]
	switch {
	case n.ShortTag() == "!!null":
		return "nothing"
	case kind == "":
		return "a value tagged " + n.ShortTag()
	}
	return kind + " " + shortened(n.Value)
}

func shortened(s string) string {
	const most = 60 // characters; a message is one line
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "..."
	}
	return quoted(s)
}
