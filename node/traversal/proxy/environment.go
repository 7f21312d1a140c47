package proxy

import (
	"net"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

// The variables that name proxies. They are written both ways; where both are
// set, the lower case is what other programs take.
var (
	httpProxy  = []string{"http_proxy", "HTTP_PROXY"}
	httpsProxy = []string{"https_proxy", "HTTPS_PROXY"}
	allProxy   = []string{"all_proxy", "ALL_PROXY"}
	noProxy    = []string{"no_proxy", "NO_PROXY"}
)

// fromEnvironment are the proxies that the environment names for a target. Most
// people set one of the variables and mean every kind of traffic, so that each
// is tried, the fitting one first.
func (f *Finder) fromEnvironment(target string) []server {
	order := [][]string{httpsProxy, allProxy, httpProxy}
	if isPlainWeb(target) {
		order = [][]string{httpProxy, allProxy, httpsProxy}
	}
	return f.fromVariables(order...)
}

func (f *Finder) fromVariables(variables ...[]string) []server {
	var out []server
	for _, names := range variables {
		value := f.getenv(names...)
		if value == "" {
			continue
		}
		source := names[len(names)-1]
		s, err := parseServer(value, source)
		if err != nil {
			f.warn("an environment variable is ignored", "variable", source, "err", err.Error())
			continue
		}
		out = append(out, s)
	}
	return distinct(out)
}

// distinct leaves out what was there before.
func distinct(servers []server) []server {
	seen := map[string]bool{}
	var out []server
	for _, s := range servers {
		if !seen[s.String()] {
			seen[s.String()] = true
			out = append(out, s)
		}
	}
	return out
}

// bypassed tells whether an address is to be reached without a proxy: it is this
// machine's, or NO_PROXY has it.
func (f *Finder) bypassed(target string) bool {
	rules := httpproxy.Config{HTTPSProxy: "http://any.invalid", NoProxy: f.getenv(noProxy...)}
	to, err := rules.ProxyFunc()(&url.URL{Scheme: "https", Host: target})
	return err == nil && to == nil
}

// isPlainWeb tells whether a target is the web's port without encryption.
func isPlainWeb(target string) bool {
	_, port, err := net.SplitHostPort(target)
	return err == nil && port == "80"
}

// targetURL is a target as PAC scripts want to see it.
func targetURL(target string) (address, host string) {
	host, port, _ := net.SplitHostPort(target)
	shown := host
	if strings.Contains(host, ":") {
		shown = "[" + host + "]"
	}
	switch port {
	case "80":
		return "http://" + shown + "/", host
	case "443":
		return "https://" + shown + "/", host
	}
	return "https://" + shown + ":" + port + "/", host
}
