// Package report renders a bundle for people: index.md, short, for a code
// host's page, and report.html, one file without scripts that shows the claims,
// the hold, and every host's dials, connections and jobs on a common clock.
//
// It reads the bundle and nothing else, and it judges nothing: the verdicts are
// those of results.json, and each links the lines of the trace that decided it.
package report

import (
	"fmt"

	"github.com/worldcompute/wce2e/evidence"
)

// The files that a bundle's renderings go to.
const (
	IndexFile = "index.md"
	HTMLFile  = "report.html"
)

// Render gives the content of IndexFile and HTMLFile. A bundle that is not whole
// is rendered as well, and says so on top. The same bundle gives the same bytes.
func Render(b *evidence.Bundle) (index, html []byte, err error) {
	p := tell(b).page()
	html, err = renderHTML(p)
	if err != nil {
		return nil, nil, fmt.Errorf("render %s: %w", HTMLFile, err)
	}
	return renderIndex(p), html, nil
}
