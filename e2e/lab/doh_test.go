//go:build linux

package lab

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestPublicResolversAnswerOverTLSWithCertificatesThatHostsTrust(t *testing.T) {
	s := serve(t, "home")
	h := s.hands["home"]
	q := message(t, relayName)
	get := "?dns=" + base64.RawURLEncoding.EncodeToString(q)
	for _, p := range publicResolvers {
		for _, server := range append(slices.Clone(p.addrs), p.name) {
			for _, ask := range []order{
				{Method: "GET", Addr: "https://" + server + "/dns-query" + get},
				{Method: "POST", Addr: "https://" + server + "/dns-query", Data: q},
			} {
				ask.Do, ask.Timeout = "fetch", patience
				ask.Headers = map[string]string{"Content-Type": dnsType}
				a := h.do(ask)
				wantAddress(t, a.Data, s.addr)
				if a.Status != 200 || a.Proto != "HTTP/2.0" || a.Issuer != "Lab Web Root" {
					t.Errorf("%s %s: %d over %s, certificate by %s", ask.Method, ask.Addr, a.Status, a.Proto, a.Issuer)
				}
			}
		}
		for _, addr := range p.addrs {
			if got := query(t, h, "udp", addr+":53", relayName+" A"); !strings.HasSuffix(got, s.addr) {
				t.Errorf("plain DNS at %s: %q", addr, got)
			}
			if got := query(t, h, "tcp-tls", addr+":853", relayName+" A"); !strings.HasSuffix(got, s.addr) {
				t.Errorf("DNS over TLS at %s: %q", addr, got)
			}
		}
	}
	if a := h.ask(order{Do: "fetch", Addr: "https://8.8.8.8/dns-query", Timeout: patience, Method: "POST"}); a.Status != 415 {
		t.Errorf("a POST that is no DNS message: %d %s", a.Status, a.Err)
	}
	if a := h.ask(order{Do: "fetch", Addr: "https://8.8.8.8/dns-query?dns=AAAA", Timeout: patience, Method: "GET"}); a.Status != 400 {
		t.Errorf("a question of three bytes: %d %s", a.Status, a.Err)
	}
	// Nobody else's certificate verifies.
	if a := h.ask(order{Do: "fetch", Addr: "https://" + relayName + "/", Timeout: patience, Method: "GET"}); !strings.Contains(a.Err, "failed to verify certificate") {
		t.Errorf("a self-signed server: %d %s", a.Status, a.Err)
	}
	if a := h.ask(order{Do: "tls", Addr: s.addr + ":8443", Timeout: patience, Name: relayName}); a.Err != "" || a.Unverified != "" {
		t.Errorf("a public host's own certificate: %s %s", a.Err, a.Unverified)
	}
}

func wantAddress(t *testing.T, reply []byte, addr string) {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(reply); err != nil || len(m.Answer) != 1 || !strings.HasSuffix(m.Answer[0].String(), "\t"+addr) {
		t.Errorf("the answer is %v, %v", m.Answer, err)
	}
}
