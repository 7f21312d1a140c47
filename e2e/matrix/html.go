package matrix

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"time"

	"github.com/worldcompute/wce2e/evidence/report"
)

//go:embed matrix.html.tmpl
var pageText string

var page = template.Must(template.New(HTMLFile).Funcs(template.FuncMap{
	"css":   report.Style,
	"icon":  icon,
	"took":  took,
	"class": class,
	"told":  Outcome.told,
}).Parse(pageText))

// class is how a state looks, in the words of the report's style sheet.
func class(s State) string {
	return map[State]string{AsExpected: "pass", Differs: "fail", Failed: "inconclusive"}[s]
}

// HTML is the matrix as one page, without scripts and without anything from
// elsewhere.
func (r Results) HTML() ([]byte, error) {
	var b bytes.Buffer
	err := page.Execute(&b, struct {
		Results
		Columns  []string
		Sentence string
		State    State
		Took     time.Duration
		Heats    []heat
	}{r, Columns, r.Sentence(), r.State(), r.Ended.Sub(r.Began).Round(time.Second), r.heats()})
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", HTMLFile, err)
	}
	return b.Bytes(), nil
}

// Files are all renderings of a matrix, by name.
func (r Results) Files() (map[string][]byte, error) {
	files, err := r.HeatMaps()
	if err != nil {
		return nil, err
	}
	if files[HTMLFile], err = r.HTML(); err != nil {
		return nil, err
	}
	if files[JUnitFile], err = r.JUnit(); err != nil {
		return nil, err
	}
	files[IndexFile] = r.Markdown()
	return files, nil
}
