package evidence

import (
	"encoding/json"
	"slices"
	"strings"
)

// minSecret is the shortest known secret that is replaced, in bytes: a shorter
// one would be found, and its absence seen, all over a text.
const minSecret = 4

// Scrubber takes out of a text what ScanSecrets would find in it, and what its
// fields know besides. Home directories become ~, secrets a word in brackets.
// Nil and the zero Scrubber work. It changes nothing in a text that it has
// scrubbed before.
type Scrubber struct {
	Homes   []string // home directories that are not below /home, /Users or /root
	Secrets []string // values known to be secret; shorter than 4 bytes: ignored
}

// String gives s without secrets.
func (c *Scrubber) String(s string) string {
	s = c.known(s)
	for _, p := range secrets {
		if p.hinted(s) {
			s = p.re.ReplaceAllString(s, p.into)
		}
	}
	return s
}

// json scrubs a JSON document. What comes out is JSON again; if a secret known
// by value should break it, the whole document is withheld.
func (c *Scrubber) json(b []byte) []byte {
	out := []byte(c.String(string(b)))
	if !json.Valid(out) {
		return []byte(`{"withheld":"what stood here held a secret"}`)
	}
	return out
}

func (c *Scrubber) known(s string) string {
	if c == nil {
		return s
	}
	// The longest first: one secret may be a part of another.
	for _, v := range slices.SortedFunc(slices.Values(c.Secrets), longest) {
		if len(v) < minSecret {
			continue
		}
		s = strings.ReplaceAll(s, v, "[secret]")
		if q, err := marshal(v); err == nil {
			s = strings.ReplaceAll(s, string(q[1:len(q)-1]), "[secret]")
		}
	}
	for _, home := range homes(c.Homes) {
		s = home.re.ReplaceAllString(s, home.into)
	}
	return s
}

func (s secret) hinted(text string) bool {
	return slices.ContainsFunc(s.hints, func(h string) bool { return strings.Contains(text, h) })
}
