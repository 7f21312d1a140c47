//go:build linux

package lab

import (
	"strings"
	"testing"
	"time"
)

func TestDNSAnswersFromEverySide(t *testing.T) {
	l := small()
	l.Zone, l.Bystanders = "mesh.example.org", 2
	lab := bring(t, Config{Lab: l, Binary: ownBinary(t)})
	relay := lab.host(t, "relay1").Addr.String()
	for host, server := range map[string]string{"tensor02": "192.168.10.1:53", "relay1": "9.53.53.53:53"} {
		h := lab.hand(t, host)
		for _, c := range []struct {
			network, query, rcode string
			contains              []string
		}{
			{"udp", "relay1.mesh.example.org A", "NOERROR", []string{"A " + relay}},
			{"tcp", "RELAY1.mesh.example.org A", "NOERROR", []string{"A " + relay}},
			{"udp", "relay1.mesh.example.org AAAA", "NOERROR", nil},
			{"udp", "tensor02.mesh.example.org A", "NXDOMAIN", nil},
			{"udp", "nobody.mesh.example.org TXT", "NXDOMAIN", nil},
			{"udp", "bootstrap.mesh.example.org A", "NOERROR", nil},
			{"udp", "bootstrap.libp2p.io A", "NXDOMAIN", nil},
			{"tcp", "_dnsaddr.bootstrap.mesh.example.org TXT", "NOERROR", []string{
				`"dnsaddr=/ip4/` + lab.host(t, "bystander1").Addr.String() + `/tcp/4001/p2p/StandIn-bystander1"`,
				`"dnsaddr=/ip4/` + lab.host(t, "bystander1").Addr.String() + `/udp/4001/quic-v1/p2p/StandIn-bystander1"`,
				`"dnsaddr=/ip4/` + lab.host(t, "bystander2").Addr.String() + `/tcp/4001/p2p/StandIn-bystander2"`,
			}},
		} {
			a := h.ask(order{Do: "query", Network: c.network, Addr: server, Data: []byte(c.query), Timeout: time.Second})
			rcode, records, _ := strings.Cut(string(a.Data), "\n")
			if a.Err != "" || rcode != c.rcode || (len(c.contains) == 0) != (records == "") {
				t.Errorf("%s over %s from %s: %s %s\n%s", c.query, c.network, host, rcode, a.Err, records)
			}
			for _, want := range c.contains {
				if !strings.Contains(records, want) {
					t.Errorf("%s from %s lacks %s:\n%s", c.query, host, want, records)
				}
			}
			if a.Took > 500*time.Millisecond {
				t.Errorf("%s from %s took %s", c.query, host, a.Took)
			}
		}
		if got := must(t, lab.login(t, host), "getent hosts relay1.mesh.example.org"); !strings.HasPrefix(got, relay+" ") {
			t.Errorf("the system's resolver on %s says %q", host, got)
		}
	}
}
