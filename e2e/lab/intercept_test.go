//go:build linux

package lab

import (
	"testing"
)

func TestInterceptorsShowTheirOwnCertificates(t *testing.T) {
	s := serve(t, "home", "tls-intercept", "tls-intercept-untrusted", "proxy-no-upgrade")
	const office = "Corp TLS Inspection CA"
	for _, c := range []struct {
		profile, issuer string
		verifies        bool
	}{
		{"home", "self", false},
		{"tls-intercept", office, true},
		{"tls-intercept-untrusted", office, false},
		{"proxy-no-upgrade", office, true},
	} {
		h := s.hands[c.profile]
		for _, name := range []string{"", relayName} {
			a := h.do(order{Do: "tls", Addr: s.addr + ":443", Timeout: patience, Name: name, ALPN: []string{"http/1.1"}})
			if a.Issuer != c.issuer || (a.Unverified == "") != c.verifies {
				t.Errorf("%s, name %q: issued by %s, %s", c.profile, name, a.Issuer, a.Unverified)
			}
			s.accept(t, "443")
		}
		intercepted := c.profile != "home"
		if a := h.ask(order{Do: "tls", Addr: s.addr + ":443", Timeout: patience, ALPN: []string{"libp2p"}}); (a.Err != "") != intercepted {
			t.Errorf("%s: ALPN libp2p: %q", c.profile, a.Err)
		}
		wait := patience
		if intercepted {
			wait = silence
		}
		a := h.ask(order{Do: "query", Network: "udp", Addr: "9.9.9.9:53", Data: []byte(relayName + " A"), Timeout: wait})
		if (a.Err != "") != intercepted {
			t.Errorf("%s: a question over UDP is answered with %q, %s", c.profile, a.Data, a.Err)
		}
		if !intercepted {
			continue
		}
		wantDropped(t, h, s.addr+":4001")
		if c.profile == "proxy-no-upgrade" {
			wantDropped(t, h, s.addr+":80")
		} else {
			wantJoined(t, dial(t, h, s.addr+":80"), s.accept(t, "80"))
		}
	}
}
