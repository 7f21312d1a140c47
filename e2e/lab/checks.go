//go:build linux

package lab

import (
	"io"
	"net/http"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// webServer has the pages of this internet; it stands on the core.
var webServer = netip.AddrFrom4([4]byte{9, 80, 80, 80})

// checkName is where Android looks whether it is online.
const checkName = "connectivitycheck.gstatic.com"

// startChecks serves, over plain HTTP, what Android and Firefox ask for to find
// out whether they are online or behind a captive portal.
func startChecks(core netNS, world *zone, fail func(error)) error {
	err := core.edit(func(h *netlink.Handle) error { return addAddr(h, "lo", netip.PrefixFrom(webServer, 32)) })
	if err != nil {
		return err
	}
	pages := http.NewServeMux()
	page := func(host, path string, h http.HandlerFunc) {
		world.addName(host, webServer)
		pages.HandleFunc("GET "+host+path, h)
	}
	page(checkName, "/generate_204", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	})
	page("detectportal.firefox.com", "/success.txt", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, "success\n")
	})
	return serveHTTP(core, netip.AddrPortFrom(webServer, 80), pages, fail)
}
