//go:build linux

package lab

import (
	"strings"
	"testing"
)

func TestOfficesTellTheirMachinesOfTheProxy(t *testing.T) {
	s := serve(t, "proxy-only", "proxy-auth", "proxy-wpad", "proxy-socks", "home")
	const url = "http://proxy.corp.lan:3128"
	for profile, want := range map[string]map[string]string{
		"proxy-only":  {"HTTPS_PROXY": url, "HTTP_PROXY": url, "https_proxy": url, "ALL_PROXY": "", "WCE2E_PROXY_CREDENTIALS": ""},
		"proxy-auth":  {"HTTPS_PROXY": url, "WCE2E_PROXY_CREDENTIALS": home + "/.proxy-credentials"},
		"proxy-wpad":  {"HTTPS_PROXY": "", "HTTP_PROXY": "", "https_proxy": "", "ALL_PROXY": ""},
		"proxy-socks": {"HTTPS_PROXY": "", "ALL_PROXY": "socks5h://proxy.corp.lan:1080"},
		"home":        {"HTTPS_PROXY": "", "HTTP_PROXY": "", "https_proxy": "", "ALL_PROXY": ""},
	} {
		env := s.environmentOf(t, profile)
		for name, value := range want {
			if env[name] != value {
				t.Errorf("%s: %s is %q, want %q", profile, name, env[name], value)
			}
		}
	}
	if got := must(t, s.lab.login(t, "proxy-auth"), `stat -c %a "$WCE2E_PROXY_CREDENTIALS" && cat "$WCE2E_PROXY_CREDENTIALS"`); got != "600\n"+proxyUser+":"+proxyPassword+"\n" {
		t.Errorf("the credentials are %q", got)
	}
	a := s.hands["proxy-wpad"].do(order{Do: "fetch", Method: "GET", Addr: "http://wpad/wpad.dat", Timeout: patience})
	if !strings.Contains(string(a.Data), "function FindProxyForURL(url, host)") || !strings.Contains(string(a.Data), `"PROXY proxy.corp.lan:3128"`) {
		t.Errorf("the PAC file is %d %q", a.Status, a.Data)
	}
	if got := must(t, s.lab.login(t, "home"), "cat /etc/resolv.conf"); strings.Contains(got, "search") {
		t.Errorf("homes have a search domain: %q", got)
	}
	// With such an environment an ordinary program gets out.
	h := s.hands["proxy-only"]
	a = h.do(order{Do: "fetch", Method: "GET", Addr: "http://detectportal.firefox.com/success.txt", Timeout: patience})
	if string(a.Data) != "success\n" {
		t.Errorf("plain HTTP through the proxy: %d %q", a.Status, a.Data)
	}
	a = h.do(order{Do: "fetch", Method: "POST", Addr: "https://dns.google/dns-query", Data: message(t, relayName),
		Headers: map[string]string{"Content-Type": dnsType}, Timeout: patience})
	if a.Status != 200 || a.Issuer != "Lab Web Root" {
		t.Errorf("HTTPS through the proxy: %d, certificate by %s", a.Status, a.Issuer)
	}
}

// environmentOf is what a login on a host has, sorted.
func (s *served) environmentOf(t *testing.T, host string) map[string]string {
	t.Helper()
	env := map[string]string{}
	for line := range strings.Lines(must(t, s.lab.login(t, host), "env")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		env[name] = value
	}
	return env
}
