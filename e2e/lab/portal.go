//go:build linux

package lab

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
)

const (
	portalName = "portal.lan"
	// portalPort takes logins as well, for those who know the router only.
	portalPort = 8080
)

// portal is what hotels, trains and guest networks have: every plain HTTP
// request is sent to a page, until somebody has logged in there (a POST to
// /login), which opens the network to that host.
var portal = service{name: "portal", does: "a page at which hosts log in, to which all plain HTTP is sent", proof: provePortal, ports: []uint16{80, portalPort}, start: func(r *router) error {
	r.local.addName(portalName, r.addr)
	pages := http.NewServeMux()
	pages.HandleFunc("POST /login", func(w http.ResponseWriter, q *http.Request) {
		from, err := netip.ParseAddrPort(q.RemoteAddr)
		if err == nil {
			err = admit(r.ns, from.Addr())
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, "You are online.\n")
	})
	pages.HandleFunc("/", func(w http.ResponseWriter, q *http.Request) {
		if !r.isAddressed(q.Host) {
			http.Redirect(w, q, "http://"+portalName+"/login", http.StatusFound)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, `<title>Welcome</title><form method="post" action="/login"><button>Log in</button></form>`)
	})
	// A connection that is kept would go on ending here after the login.
	here := withoutKeepAlive(pages)
	return errors.Join(r.serveHTTP(80, here), r.serveHTTP(portalPort, here))
}}

// isAddressed tells a request for the portal itself from one on its way elsewhere.
func (r *router) isAddressed(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return host == portalName || host == r.addr.String()
}

func withoutKeepAlive(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Connection", "close")
		h.ServeHTTP(w, q)
	})
}
