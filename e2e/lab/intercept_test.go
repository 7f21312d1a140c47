//go:build linux

package lab

import (
	"strings"
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

func TestAStrictInterceptorWantsCertificatesOfPublicAuthorities(t *testing.T) {
	s := serve(t, "tls-intercept-strict")
	h := s.hands["tls-intercept-strict"]
	shake := func(name string) answer {
		return h.ask(order{Do: "tls", Addr: s.addr + ":443", Timeout: patience, Name: name, ALPN: []string{"http/1.1"}})
	}
	if a := shake(relayName); a.Err == "" {
		t.Errorf("a self-signed server passes, with a certificate by %s", a.Issuer)
	}
	s.relay.do(order{Do: "close", ID: s.server["443"]})
	s.server["443"] = s.relay.do(order{Do: "tls listen", Addr: ":443", Public: true}).ID
	for _, name := range []string{"", relayName} {
		if a := shake(name); a.Err != "" || a.Unverified != "" {
			t.Errorf("name %q: a server with a public certificate: %s %s", name, a.Err, a.Unverified)
		}
	}
	if a := shake("another.example.org"); a.Err == "" {
		t.Error("a server passes by a name that its certificate does not have")
	}
}

// inside shakes hands through an interceptor and returns both ends.
func (s *served) inside(t *testing.T, profile string) (near, far socket) {
	t.Helper()
	near = socket{t, s.hands[profile], s.hands[profile].do(order{Do: "tls", Addr: s.addr + ":443", Timeout: patience,
		Name: relayName, ALPN: []string{"http/1.1"}}).ID}
	return near, s.accept(t, "443")
}

func TestAnInterceptorRelaysWebSocketsAndStreams(t *testing.T) {
	s := serve(t, "tls-intercept")
	near, far := s.inside(t, "tls-intercept")
	near.send(webSocketRequest)
	if got := far.receive("\r\n\r\n"); !strings.Contains(got, "Upgrade: websocket\r\n") || !strings.Contains(got, "Sec-Websocket-Key: ") {
		t.Errorf("the handshake arrives as %q", got)
	}
	far.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	near.receive("\r\n\r\n")
	wantJoined(t, near, far)

	near, far = s.inside(t, "tls-intercept")
	near.send("POST / HTTP/1.1\r\nHost: relay\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
	far.receive("\r\n\r\n3\r\none\r\n")
	far.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
	near.receive("5\r\nfirst\r\n")
	near.send("3\r\ntwo\r\n")
	far.receive("3\r\ntwo\r\n")
	far.send("6\r\nsecond\r\n")
	near.receive("6\r\nsecond\r\n")
}

func TestAProxyWithoutUpgradePassesOrdinaryRequestsOnly(t *testing.T) {
	s := serve(t, "proxy-no-upgrade")
	near, far := s.inside(t, "proxy-no-upgrade")
	near.send(webSocketRequest)
	got := far.receive("\r\n\r\n")
	if !strings.HasPrefix(got, "GET /chat HTTP/1.1\r\nHost: relay\r\n") {
		t.Errorf("the request arrives as %q", got)
	}
	for _, word := range []string{"upgrade", "websocket"} {
		if strings.Contains(strings.ToLower(got), word) {
			t.Errorf("it arrives with %q: %q", word, got)
		}
	}
	// The response streams, piece by piece.
	far.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
	near.receive("\r\n\r\n")
	for _, piece := range []string{"5\r\nfirst\r\n", "6\r\nsecond\r\n"} {
		far.send(piece)
		near.receive(piece)
	}
	far.send("0\r\n\r\n")
	near.receive("0\r\n\r\n")
	// A request does not: it arrives when it is whole.
	near.send("POST / HTTP/1.1\r\nHost: relay\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
	far.wantSilence()
	near.send("3\r\ntwo\r\n0\r\n\r\n")
	if got := far.receive("onetwo"); !strings.Contains(got, "Content-Length: 6\r\n") {
		t.Errorf("the whole request arrives as %q", got)
	}
	far.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none")
	near.receive("\r\n\r\none")
	far.send("two")
	near.receive("two")
}

func TestATransparentProxyTakesPlainHTTPOnly(t *testing.T) {
	s := serve(t, "transparent-80")
	h := s.hands["transparent-80"]
	near := dial(t, h, s.addr+":80")
	near.send(webSocketRequest)
	if got := s.accept(t, "80").receive("\r\n\r\n"); !strings.Contains(got, "Via: 1.1 proxy.corp.lan\r\n") || strings.Contains(got, "Upgrade") {
		t.Errorf("the request arrives as %q", got)
	}
	wantJoined(t, dial(t, h, s.addr+":4001"), s.accept(t, "4001"))
	if a := h.do(order{Do: "tls", Addr: s.addr + ":443", Timeout: patience}); a.Issuer != "self" {
		t.Errorf("TLS is intercepted by %s", a.Issuer)
	}
}
