package node

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/worldcompute/wce2e/node/wire"
)

// docsURL is where a reader of the page finds more.
const docsURL = "https://github.com/worldcompute/wce2e/blob/main/docs/running-a-relay.md"

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string

	pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
		"size": size, "span": span,
	}).Parse(pageHTML))

	// pagePolicy lets the page do nothing but show itself in its own style.
	pagePolicy = "default-src 'none'; style-src 'sha256-" + sha256Base64(pageCSS) + "'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

func sha256Base64(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// pageView is what the page of a relay shows: of the relay itself, and of its
// donors nothing but how many there are.
type pageView struct {
	PeerID, Version string
	Style           template.CSS
	Docs            string
	Up              time.Duration
	Addrs           []string
	Certificate     string
	Serving         *wire.Serving // nil: does not relay now
}

// page is what a relay tells browsers, on the port that donors come to; nil on
// a donor.
//
//	/         what this is, how to use it, how much it is used
//	/healthz  200 while it relays, else 503
func (n *node) page() http.Handler {
	if !n.cfg.Relay {
		return nil
	}
	return newPage(func() pageView {
		return pageView{
			PeerID: n.host.ID().String(), Version: n.cfg.Version, Up: time.Since(n.started),
			Addrs:       strs(n.addrs.withSelf(n.host.Addrs())),
			Certificate: describe(n.certs, n.cfg.ACME), Serving: n.relay.serving(),
		}
	})
}

func newPage(view func() pageView) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { showPage(w, view()) })
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { showHealth(w, view().Serving != nil) })
	return mux
}

func showPage(w http.ResponseWriter, v pageView) {
	v.Style, v.Docs = template.CSS(pageCSS), docsURL
	var out bytes.Buffer
	if err := pageTemplate.Execute(&out, v); err != nil {
		http.Error(w, "the page cannot be shown", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	out.WriteTo(w) // a browser that has gone needs no answer
}

func showHealth(w http.ResponseWriter, serving bool) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if !serving {
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, "not relaying\n")
		return
	}
	io.WriteString(w, "ok\n")
}

// span is a duration to the minute, or to the second below one.
func span(d time.Duration) string {
	if d < time.Minute {
		return d.Round(time.Second).String()
	}
	return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
}
