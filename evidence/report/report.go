// Package report renders a bundle for people: index.md, short, for a code
// host's page, report.html, one file without scripts that shows the claims, the
// hold, and every host's dials, connections and jobs on a common clock, and the
// picture of the hold by itself.
//
// It reads the bundle and nothing else, and it judges nothing: the verdicts are
// those of results.json, and each links the lines of the trace that decided it.
package report

import (
	"fmt"

	"github.com/worldcompute/wce2e/evidence"
)

// The files that a bundle's renderings go to, as paths below it.
const (
	IndexFile = "index.md"
	HTMLFile  = "report.html"
	HoldFile  = "screenshots/hold.svg"

	// DiagnosisFile is there where a network was diagnosed: see RenderDiagnosis.
	DiagnosisFile = "diagnosis.html"
)

// Files names those that every bundle has.
var Files = []string{IndexFile, HTMLFile, HoldFile}

// Render gives the content of each of Files. A bundle that is not whole is
// rendered as well, and says so on top. The same bundle gives the same bytes.
func Render(b *evidence.Bundle) (map[string][]byte, error) {
	p := tell(b).page()
	files := map[string][]byte{IndexFile: renderIndex(p)}
	for file, render := range map[string]func(page) ([]byte, error){HTMLFile: renderHTML, HoldFile: renderHold} {
		content, err := render(p)
		if err != nil {
			return nil, fmt.Errorf("render %s: %w", file, err)
		}
		files[file] = content
	}
	return files, nil
}
