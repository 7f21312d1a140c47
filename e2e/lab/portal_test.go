//go:build linux

package lab

import (
	"strings"
	"testing"
)

func TestACaptivePortalOpensToWhoeverLogsIn(t *testing.T) {
	s := serve(t, "captive-portal")
	h := s.hands["captive-portal"]
	router := s.gateway(t, "captive-portal")
	check := order{Do: "fetch", Method: "GET", Addr: "http://connectivitycheck.gstatic.com/generate_204", Timeout: patience}
	if a := h.do(check); a.Status != 302 || a.Location != "http://portal.lan/login" {
		t.Errorf("the connectivity check is answered with %d, to %q", a.Status, a.Location)
	}
	if a := h.do(order{Do: "fetch", Method: "GET", Addr: "http://portal.lan/login", Timeout: patience}); a.Status != 200 || !strings.Contains(string(a.Data), "<form") {
		t.Errorf("the portal's page is %d %q", a.Status, a.Data)
	}
	kept := dial(t, h, s.addr+":80")
	kept.send("GET / HTTP/1.1\r\nHost: relay\r\n\r\n")
	a := h.ask(order{Do: "read", ID: kept.id, Timeout: patience})
	for a.Err == "" {
		a = h.ask(order{Do: "read", ID: kept.id, Timeout: patience})
	}
	if a.Err != "EOF" { // a connection that stays would end at the portal after the login, too
		t.Errorf("the portal keeps a connection: %s", a.Err)
	}
	if got := query(t, h, "udp", router+":53", relayName+" A"); !strings.HasSuffix(got, s.addr) {
		t.Errorf("DNS says %s", got)
	}
	if a := h.ask(order{Do: "dial", Network: "tcp4", Addr: s.addr + ":443", Timeout: patience}); !strings.Contains(a.Err, "refused") {
		t.Errorf("TCP 443 before the login: %q", a.Err)
	}
	udp := h.do(order{Do: "dial", Network: "udp4", Addr: "1.1.1.1:53"}).ID
	h.do(order{Do: "write", ID: udp, Data: message(t, relayName)})
	if a := h.ask(order{Do: "read", ID: udp, Timeout: patience}); !strings.Contains(a.Err, "no route to host") && !strings.Contains(a.Err, "refused") {
		t.Errorf("UDP before the login: %q, %s", a.Data, a.Err)
	}
	if a := h.do(order{Do: "fetch", Method: "POST", Addr: "http://" + router + ":8080/login", Timeout: patience}); a.Status != 200 {
		t.Fatalf("the login is answered with %d %q", a.Status, a.Data)
	}
	if a := h.do(check); a.Status != 204 {
		t.Errorf("the connectivity check after the login: %d", a.Status)
	}
	for _, port := range []string{"80", "4001"} {
		wantJoined(t, dial(t, h, s.addr+":"+port), s.accept(t, port))
	}
	h.do(order{Do: "write", ID: udp, Data: message(t, relayName)})
	if a := h.ask(order{Do: "read", ID: udp, Timeout: patience}); a.Err != "" {
		t.Errorf("UDP after the login: %s", a.Err)
	}
}
