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

// Style is the style sheet of a report, for other pages that tell of runs.
func Style() template.CSS { return template.CSS(css) }

var htmlTemplate = template.Must(template.New(HTMLFile).Funcs(template.FuncMap{
	"css":  Style, // ours, not the bundle's
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

// renderHold draws the hold as a file of its own, whose links lead to the page.
func renderHold(p page) ([]byte, error) {
	c := p.Hold
	c.Page = "../" + HTMLFile
	if c.Missing != "" {
		c.Width, c.Height = 1120, 60
	}
	var b bytes.Buffer
	if err := htmlTemplate.ExecuteTemplate(&b, "hold.svg", c); err != nil {
		return nil, err
	}
	return bytes.Map(xmlChar, b.Bytes()), nil
}

// xmlChar drops what XML, other than HTML, has no way to write.
func xmlChar(c rune) rune {
	switch {
	case c < ' ' && c != '\t' && c != '\n' && c != '\r', c == 0xFFFE, c == 0xFFFF:
		return -1
	}
	return c
}
