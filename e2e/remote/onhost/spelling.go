package onhost

import (
	"path/filepath"
	"slices"
	"strings"
)

// spellings are the names that a file may go by in what processes tell of
// themselves: as it was given, and without symbolic links, as the kernel names a
// running binary. Homes of clusters are often links.
type spellings []string

// spell finds the spellings of a path, the absolute one as given first. The path
// need not be there.
func spell(path string) (spellings, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	return slices.Compact(spellings{abs, resolve(abs)}), nil
}

// resolve follows the symbolic links in as much of a path as is there.
func resolve(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	above := filepath.Dir(path)
	if above == path {
		return path
	}
	return filepath.Join(resolve(above), filepath.Base(path))
}

// given is the path in the words of whoever asked, absolute.
func (s spellings) given() string { return s[0] }

// real is the path without symbolic links.
func (s spellings) real() string { return s[len(s)-1] }

// hold tells whether a path is this one, or lies below it.
func (s spellings) hold(path string) bool {
	return slices.ContainsFunc(s, func(dir string) bool { return within(dir, path) })
}

// within tells whether a path is dir or lies below it.
func within(dir, path string) bool {
	return path == dir || strings.HasPrefix(path, dir+string(filepath.Separator))
}
