package report

import (
	"bytes"
	_ "embed"
	"html/template"
)

//go:embed report.html.tmpl
var htmlText string

//go:embed report.css
var css string

var htmlTemplate = template.Must(template.New(HTMLFile).Funcs(template.FuncMap{
	"css":  func() template.CSS { return template.CSS(css) }, // ours, not the bundle's
	"icon": icon,
	"addr": shortAddr,
	"add":  func(a, b float64) float64 { return round(a + b) },
}).Parse(htmlText))

// icon repeats a state for those who do not see its color.
func icon(state string) string {
	switch state {
	case "pass", "ok", "Succeeded":
		return "✓"
	case "fail", "failed":
		return "✗"
	case "aborted":
		return "–"
	}
	return "?"
}

func renderHTML(p page) ([]byte, error) {
	var b bytes.Buffer
	if err := htmlTemplate.Execute(&b, p); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
