// Package report renders a bundle for people: index.md, short, for a code
// host's page, and report.html, one file without scripts that shows the claims,
// the hold, and every host's dials, connections and jobs on a common clock.
//
// It reads the bundle and nothing else, and it judges nothing: the verdicts are
// those of results.json, and each links the lines of the trace that decided it.
package report

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/worldcompute/wce2e/evidence"
)

// The files that Write writes.
const (
	IndexFile = "index.md"
	HTMLFile  = "report.html"
)

// Write renders the bundle in dir into dir, in place of what an earlier Write
// left there. A bundle that is not whole is rendered as well, and says so on
// top. SHA256SUMS is the caller's.
func Write(dir string) error {
	b, err := evidence.Open(dir)
	if err != nil {
		return fmt.Errorf("render report: %w", err)
	}
	index, html, err := Render(b)
	if err != nil {
		return err
	}
	if err := replace(filepath.Join(dir, IndexFile), index); err != nil {
		return err
	}
	return replace(filepath.Join(dir, HTMLFile), html)
}

// Render gives what Write writes. The same bundle gives the same bytes.
func Render(b *evidence.Bundle) (index, html []byte, err error) {
	p := tell(b).page()
	html, err = renderHTML(p)
	if err != nil {
		return nil, nil, fmt.Errorf("render %s: %w", HTMLFile, err)
	}
	return renderIndex(p), html, nil
}

// replace writes a file so that a crash leaves the old one or the new one.
func replace(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*") // so the bundle's reader knows what a crash left
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(f.Name()) // nothing to remove once it is renamed
	_, err = f.Write(content)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
