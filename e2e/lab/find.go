//go:build linux

package lab

import (
	"slices"
	"strings"
)

// Find gives a profile by the name that inventories write, or composes those
// that + joins, with the truth of the whole.
func Find(names string) (Profile, error) {
	p, err := profileNamed(names)
	if err != nil {
		return Profile{}, err
	}
	first := true
	for name := range strings.SplitSeq(p.Name, " + ") {
		i := slices.IndexFunc(catalogue, func(c Profile) bool { return c.Name == name })
		if first {
			p.Truth, first = catalogue[i].Truth, false
			continue
		}
		p.Truth = p.Truth.and(catalogue[i].Truth)
	}
	return p, nil
}
