//go:build linux

package lab

import (
	"encoding/base64"
	"strings"
	"testing"
)

func TestOfficesLetNothingOutButThroughTheirProxies(t *testing.T) {
	s := serve(t, "proxy-only", "proxy-auth", "proxy-443", "proxy-wpad", "proxy-socks")
	const asked = "HTTP/1.1 407 "
	const forbidden = "HTTP/1.1 403 "
	login := "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(proxyUser+":"+proxyPassword)) + "\r\n"
	wrong := "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(proxyUser+":guess")) + "\r\n"
	for _, c := range []struct{ profile, header, to, want string }{
		{"proxy-only", "", s.addr + ":4001", ""},
		{"proxy-only", "", relayName + ":4001", ""},
		{"proxy-only", "", "nobody.example.org:443", "HTTP/1.1 502 "},
		{"proxy-auth", "", s.addr + ":4001", asked},
		{"proxy-auth", wrong, s.addr + ":4001", asked},
		{"proxy-auth", login, s.addr + ":4001", ""},
		{"proxy-443", "", s.addr + ":4001", forbidden},
		{"proxy-443", "", s.addr + ":443", ""},
		{"proxy-wpad", "", relayName + ":4001", ""},
	} {
		h := s.hands[c.profile]
		near := dial(t, h, s.gateway(t, c.profile)+":3128")
		near.send("CONNECT " + c.to + " HTTP/1.1\r\nHost: " + c.to + "\r\n" + c.header + "\r\n")
		if c.want != "" {
			if got := near.receive("\n"); !strings.HasPrefix(got, c.want) {
				t.Errorf("%s: CONNECT %s is answered with %q", c.profile, c.to, got)
			} else if c.want == asked && !strings.Contains(got, "Proxy-Authenticate: Basic ") {
				t.Errorf("%s: it is not said what to log in with: %q", c.profile, got)
			}
			continue
		}
		if got := near.receive("\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
			t.Errorf("%s: CONNECT %s is answered with %q", c.profile, c.to, got)
		} else if strings.HasSuffix(c.to, ":4001") {
			wantSpliced(t, near, s.accept(t, "4001"))
		}
	}
	for profile, h := range s.hands {
		for _, port := range []string{"80", "443", "4001"} {
			wantDropped(t, h, s.addr+":"+port)
		}
		if got := query(t, h, "udp", s.gateway(t, profile)+":53", relayName+" A"); got != "NXDOMAIN" {
			t.Errorf("%s: the resolver knows public names: %s", profile, got)
		}
		if a := h.ask(order{Do: "query", Network: "udp", Addr: "1.1.1.1:53", Data: []byte(relayName + " A"), Timeout: silence}); a.Err == "" {
			t.Errorf("%s: a public resolver answers: %s", profile, a.Data)
		}
		if got := must(t, s.lab.login(t, profile), "getent hosts proxy"); !strings.HasPrefix(got, s.gateway(t, profile)+" ") {
			t.Errorf("%s: proxy is %q in the office's domain", profile, got)
		}
	}
}

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

func TestASOCKSProxyConnectsByAddressAndName(t *testing.T) {
	s := serve(t, "proxy-socks")
	const port = "\x0f\xa1" // 4001
	name := func(n string) string { return "\x03" + string(rune(len(n))) + n }
	address := "\x01" + string(s.lab.host(t, "relay1").Addr.AsSlice())
	for _, c := range []struct {
		to     string
		status byte
	}{{address, 0}, {name(relayName), 0}, {name("nobody.example.org"), 4}} {
		near := dial(t, s.hands["proxy-socks"], s.gateway(t, "proxy-socks")+":1080")
		near.send("\x05\x01\x00")
		near.receive("\x05\x00")
		near.send("\x05\x01\x00" + c.to + port)
		got := near.on.do(order{Do: "read", ID: near.id, Timeout: patience}).Data
		if len(got) < 2 || got[1] != c.status {
			t.Errorf("CONNECT to %q is answered with %x, want status %d", c.to, got, c.status)
		} else if c.status == 0 {
			wantSpliced(t, near, s.accept(t, "4001"))
		}
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
