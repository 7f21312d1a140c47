//go:build linux

package lab

import (
	"strings"
	"testing"
)

func TestResolversDenyAndLie(t *testing.T) {
	s := serve(t, "home", "dns-no-txt", "dns-hijack")
	const txt = "_dnsaddr.bootstrap." + defaultZone + " TXT"
	told := query(t, s.hands["home"], "udp", "9.9.9.9:53", txt)
	if !strings.Contains(told, `"dnsaddr=/ip4/`+s.lab.host(t, "bystander1").Addr.String()+"/tcp/4001/p2p/") {
		t.Fatalf("there is nothing to deny: %s", told)
	}
	for _, c := range []struct {
		profile, server, question, want string
	}{
		{"home", "gateway", txt, told},
		{"dns-no-txt", "gateway", txt, "NXDOMAIN"},
		{"dns-no-txt", "9.9.9.9:53", txt, told},
		{"dns-no-txt", "gateway", relayName + " A", "NOERROR\n" + relayName + ". 60 IN A " + s.addr},
		{"dns-no-txt", "gateway", relayName + " TXT", "NOERROR"},
		{"dns-hijack", "gateway", relayName + " A", "NOERROR\n" + relayName + ". 60 IN A " + s.gateway(t, "dns-hijack")},
		{"dns-hijack", "9.9.9.9:53", relayName + " A", "NOERROR\n" + relayName + ". 60 IN A " + s.gateway(t, "dns-hijack")},
		{"dns-hijack", s.addr + ":53", relayName + " AAAA", "NOERROR"}, // nobody listens there
		{"dns-hijack", "9.9.9.9:53", txt, "NOERROR\n" + strings.TrimSuffix(txt, " TXT") + `. 60 IN TXT "this name is brought to you by your provider"`},
	} {
		server := c.server
		if server == "gateway" {
			server = s.gateway(t, c.profile) + ":53"
		}
		for _, network := range []string{"udp", "tcp"} {
			if got := query(t, s.hands[c.profile], network, server, c.question); got != c.want {
				t.Errorf("%s: %s over %s: %q, want %q", c.profile, c.question, network, got, c.want)
			}
		}
	}
	for profile, want := range map[string]int{"home": 204, "dns-hijack": 200} {
		a := s.hands[profile].do(order{Do: "fetch", Method: "GET", Addr: "http://connectivitycheck.gstatic.com/generate_204", Timeout: patience})
		if a.Status != want {
			t.Errorf("%s: the connectivity check is answered with %d, want %d", profile, a.Status, want)
		}
	}
}
