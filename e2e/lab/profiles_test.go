//go:build linux

package lab

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/inventory"
)

// silence is how long nothing has to arrive for it to have been dropped: five
// round trips.
const silence = 200 * time.Millisecond

// behind is a lab with a host of each profile's name in a network of it, and two
// public hosts.
func behind(t *testing.T) *internet {
	l := &inventory.Lab{
		Latency:  10 * time.Millisecond,
		Networks: []inventory.LabNetwork{{Name: "core", Profile: open}},
		Hosts:    []inventory.LabHost{{Name: "relay1", Network: "core"}, {Name: "relay2", Network: "core"}},
	}
	for _, p := range Profiles()[1:] {
		l.Networks = append(l.Networks, inventory.LabNetwork{Name: p.Name, Profile: p.Name})
		l.Hosts = append(l.Hosts, inventory.LabHost{Name: p.Name, Network: p.Name})
	}
	i := &internet{T: t, lab: bring(t, Config{Lab: l})}
	i.relay1, i.relay2 = i.lab.hand(t, "relay1"), i.lab.hand(t, "relay2")
	i.tcp = map[string]int{}
	for _, port := range []string{"80", "443", "4001"} {
		i.tcp[port] = i.relay1.do(order{Do: "listen", Network: "tcp4", Addr: ":" + port}).ID
	}
	i.udp1 = i.relay1.do(order{Do: "listen", Network: "udp4", Addr: ":4001"}).ID
	i.udp2 = i.relay2.do(order{Do: "listen", Network: "udp4", Addr: ":4001"}).ID
	return i
}

type internet struct {
	*testing.T
	lab            *Lab
	relay1, relay2 *hand
	tcp            map[string]int // relay1's listeners by port
	udp1, udp2     int            // the relays' UDP sockets
}

func (i *internet) addr(host, port string) string {
	return i.lab.host(i, host).Addr.String() + ":" + port
}

func (i *internet) egress(host, port string) string {
	return i.lab.host(i, host).Egress.String() + ":" + port
}

func TestProfilesDoWhatTheirSentencesSay(t *testing.T) {
	i := behind(t)
	for _, c := range []struct {
		profile string
		tcp     map[string]bool // port of relay1 -> connects
		udp     bool
	}{
		{"home", map[string]bool{"80": true, "443": true, "4001": true}, true},
		{"symmetric", map[string]bool{"443": true, "4001": true}, true},
		{"udp-blocked", map[string]bool{"443": true, "4001": true}, false},
		{"institutional", map[string]bool{"80": true, "443": true, "4001": false}, false},
		{"dartmouth", map[string]bool{"80": true, "443": true, "4001": true}, false},
		{"blocked", map[string]bool{"443": false, "4001": false}, false},
	} {
		t.Run(c.profile, func(t *testing.T) {
			h := i.lab.hand(t, c.profile)
			for port, passes := range c.tcp {
				i.wantTCP(t, h, port, passes)
			}
			first, second := i.mappings(t, h)
			if (first != "") != c.udp {
				t.Errorf("UDP arrived: %t, want %t", first != "", c.udp)
			}
			if same := first == second; c.udp && same != (c.profile != "symmetric") {
				t.Errorf("two destinations see it as %s and %s", first, second)
			}
			i.wantClosedInbound(t, h)
		})
	}
}

// wantTCP dials relay1. What does not pass must end in silence: a reset or an
// ICMP error would be another firewall.
func (i *internet) wantTCP(t *testing.T, h *hand, port string, passes bool) {
	t.Helper()
	patience := silence
	if passes {
		patience = 2 * time.Second
	}
	a := h.ask(order{Do: "dial", Network: "tcp4", Addr: i.addr("relay1", port), Timeout: patience})
	switch {
	case passes && a.Err != "":
		t.Errorf("TCP %s: %s", port, a.Err)
	case passes:
		in := i.relay1.do(order{Do: "accept", ID: i.tcp[port], Timeout: time.Second})
		if host, _, _ := strings.Cut(in.Remote, ":"); host != i.lab.host(t, h.name).Egress.String() {
			t.Errorf("TCP %s arrived from %s", port, in.Remote)
		}
	case !strings.Contains(a.Err, "i/o timeout"):
		t.Errorf("TCP %s is not dropped silently: connected %t, error %q", port, a.Err == "", a.Err)
	}
}

// mappings sends from one UDP socket to both relays, and returns what they see
// as its address; empty when nothing came. It then tries the filter: only whom
// the host has written to may answer, and only from that port.
func (i *internet) mappings(t *testing.T, h *hand) (first, second string) {
	t.Helper()
	s := h.do(order{Do: "listen", Network: "udp4", Addr: ":4001"}).ID
	h.do(order{Do: "write", ID: s, Addr: i.addr("relay1", "4001"), Data: []byte("one")})
	a := i.relay1.ask(order{Do: "read", ID: i.udp1, Timeout: silence})
	if a.Err != "" {
		return "", ""
	}
	i.relay2.do(order{Do: "write", ID: i.udp2, Addr: a.Remote, Data: []byte("unsolicited")})
	other := i.relay1.do(order{Do: "listen", Network: "udp4", Addr: ":0"}).ID
	i.relay1.do(order{Do: "write", ID: other, Addr: a.Remote, Data: []byte("another port")})
	if got := h.ask(order{Do: "read", ID: s, Timeout: silence}); got.Err == "" {
		t.Errorf("%q came in from %s, which nobody had written to", got.Data, got.Remote)
	}
	i.relay1.do(order{Do: "write", ID: i.udp1, Addr: a.Remote, Data: []byte("an answer")})
	if got := h.ask(order{Do: "read", ID: s, Timeout: time.Second}); string(got.Data) != "an answer" {
		t.Errorf("the answer did not come in: %q, %s", got.Data, got.Err)
	}
	h.do(order{Do: "write", ID: s, Addr: i.addr("relay2", "4001"), Data: []byte("two")})
	b := i.relay2.do(order{Do: "read", ID: i.udp2, Timeout: time.Second})
	return a.Remote, b.Remote
}

// wantClosedInbound dials the host's public address, where it listens.
func (i *internet) wantClosedInbound(t *testing.T, h *hand) {
	t.Helper()
	l := h.do(order{Do: "listen", Network: "tcp4", Addr: ":4001"}).ID
	if a := i.relay2.ask(order{Do: "dial", Network: "tcp4", Addr: i.egress(h.name, "4001"), Timeout: silence}); !strings.Contains(a.Err, "i/o timeout") {
		t.Errorf("inbound TCP: %q, want silence", a.Err)
	}
	self := h.ask(order{Do: "dial", Network: "tcp4", Addr: i.addr(h.name, "4001"), Timeout: time.Second})
	if self.Err != "" {
		t.Errorf("it listens, and yet: %s", self.Err)
	}
	h.do(order{Do: "close", ID: l})
}

func TestDartmouthSwallowsThePlainHandshakeOnly(t *testing.T) {
	i := behind(t)
	h := i.lab.hand(t, "dartmouth")
	connect := func(port string) (out, in int) {
		out = h.do(order{Do: "dial", Network: "tcp4", Addr: i.addr("relay1", port), Timeout: time.Second}).ID
		return out, i.relay1.do(order{Do: "accept", ID: i.tcp[port], Timeout: time.Second}).ID
	}
	passes := func(from *hand, out int, to *hand, in int, text string) error {
		from.do(order{Do: "write", ID: out, Data: []byte(text)})
		if got := to.ask(order{Do: "read", ID: in, Timeout: silence}); string(got.Data) != text {
			return errors.New("got " + string(got.Data) + got.Err)
		}
		return nil
	}
	const header = "\x13/multistream/1.0.0\n"
	out, in := connect("443")
	if err := passes(h, out, i.relay1, in, "\x16\x03\x01 a TLS hello"); err != nil {
		t.Errorf("TLS on 443 is swallowed: %v", err)
	}
	out, in = connect("4001")
	if passes(h, out, i.relay1, in, header) == nil {
		t.Error("the handshake of a dialler passes")
	}
	if passes(h, out, i.relay1, in, "more") == nil || passes(i.relay1, in, h, out, "an answer") == nil {
		t.Error("the flow lives on after its handshake was swallowed")
	}
	out, in = connect("4001")
	if passes(i.relay1, in, h, out, header) == nil {
		t.Error("the handshake of a listener passes")
	}
}

func TestLinksHaveTheLatencyAskedFor(t *testing.T) {
	const latency = 10 * time.Millisecond
	l := bring(t, Config{Lab: pair(latency)})
	from, to := l.hand(t, "a"), l.hand(t, "b")
	to.do(order{Do: "listen", Network: "tcp4", Addr: ":4001"})
	if arp := must(t, l.login(t, "a"), "cat /proc/net/arp"); !strings.Contains(arp, " 0x6 ") {
		t.Errorf("the link's other end is not known for good, and the first packet waits for ARP:\n%s", arp)
	}
	took := roundTrips(from, l.host(t, "b").Addr.String()+":4001", 20)
	t.Logf("TCP connects over two links: %v", took)
	if shortest := took[0]; shortest < 4*latency {
		t.Errorf("a round trip over two links took %s, want at least %s", shortest, 4*latency)
	}
	if p50 := took[len(took)/2]; p50 > 6*latency {
		t.Errorf("half of the round trips took %s and more, want about %s", p50, 4*latency)
	}
}
