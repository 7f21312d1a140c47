//go:build linux

package lab

import (
	"strings"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/inventory"
)

// behind is a lab with two public hosts and a network of each profile, with a
// host in it that has the profile's name.
func behind(t *testing.T, profiles ...string) *internet {
	t.Helper()
	return behindWith(t, nil, profiles...)
}

// behindWith is behind with more hosts.
func behindWith(t *testing.T, more []inventory.LabHost, profiles ...string) *internet {
	t.Helper()
	l := &inventory.Lab{
		Latency:  10 * time.Millisecond,
		Networks: []inventory.LabNetwork{{Name: "core", Profile: open}},
		Hosts:    []inventory.LabHost{{Name: "relay1", Network: "core"}, {Name: "relay2", Network: "core"}},
	}
	for _, p := range profiles {
		name := networkName(p)
		l.Networks = append(l.Networks, inventory.LabNetwork{Name: name, Profile: p})
		l.Hosts = append(l.Hosts, inventory.LabHost{Name: name, Network: name})
	}
	l.Hosts = append(l.Hosts, more...)
	i := &internet{T: t, lab: bring(t, Config{Lab: l}), hands: map[string]*hand{}}
	i.relay1, i.relay2 = i.lab.hand(t, "relay1"), i.lab.hand(t, "relay2")
	i.tcp, i.udp = map[string]int{}, map[string]int{}
	for _, port := range []string{"22", "53", "80", "443", "853", "4001"} {
		i.tcp[port] = i.relay1.do(order{Do: "listen", Network: "tcp4", Addr: ":" + port}).ID
		i.udp[port] = i.relay1.do(order{Do: "listen", Network: "udp4", Addr: ":" + port}).ID
	}
	i.udp2 = i.relay2.do(order{Do: "listen", Network: "udp4", Addr: ":4001"}).ID
	return i
}

type internet struct {
	*testing.T
	lab            *Lab
	relay1, relay2 *hand
	tcp, udp       map[string]int // relay1's sockets by port
	udp2           int            // relay2's, on port 4001
	hands          map[string]*hand
}

func (i *internet) addr(host, port string) string {
	return i.lab.host(i, host).Addr.String() + ":" + port
}

func (i *internet) egress(host, port string) string {
	return i.lab.host(i, host).Egress.String() + ":" + port
}

// Profiles prove themselves in a lab whose hosts run nothing. These hosts do.
func TestTheProcessesOfAHostAreBehindItsProfile(t *testing.T) {
	t.Parallel()
	i := behind(t, "home", "institutional")
	for profile, passes := range map[string]map[string]bool{
		"home":          {"80": true, "443": true, "4001": true},
		"institutional": {"80": true, "443": true, "4001": false},
	} {
		h := i.behind(t, profile)
		for port, ok := range passes {
			i.wantTCP(t, h, port, ok)
		}
		near := h.do(order{Do: "listen", Network: "udp4", Addr: ":0"}).ID
		want(t, profile == "home", profile+", UDP", handEnd{h, near, i.addr("relay1", "4001")}, handEnd{i.relay1, i.udp["4001"], ""})
		i.wantClosedInbound(t, h)
	}
}

// behind is a hand on the host behind a profile, always the same.
func (i *internet) behind(t *testing.T, profile string) *hand {
	t.Helper()
	host := networkName(profile)
	if i.hands[host] == nil {
		i.hands[host] = i.lab.hand(i, host)
	}
	return i.hands[host]
}

// wantTCP dials relay1. What does not pass must end in silence: a reset or an
// ICMP error would be another firewall.
func (i *internet) wantTCP(t *testing.T, h *hand, port string, passes bool) {
	t.Helper()
	wait := silence
	if passes {
		wait = patience
	}
	a := h.ask(order{Do: "dial", Network: "tcp4", Addr: i.addr("relay1", port), Timeout: wait})
	switch {
	case passes && a.Err != "":
		t.Errorf("TCP %s: %s", port, a.Err)
	case passes:
		in := i.relay1.do(order{Do: "accept", ID: i.tcp[port], Timeout: patience})
		if host, _, _ := strings.Cut(in.Remote, ":"); host != i.lab.host(t, h.name).Egress.String() {
			t.Errorf("TCP %s arrived from %s", port, in.Remote)
		}
	case !strings.Contains(a.Err, "i/o timeout"):
		t.Errorf("TCP %s is not dropped silently: connected %t, error %q", port, a.Err == "", a.Err)
	}
}

// wantClosedInbound dials the host's public address, where it listens.
func (i *internet) wantClosedInbound(t *testing.T, h *hand) {
	t.Helper()
	l := h.do(order{Do: "listen", Network: "tcp4", Addr: ":4001"}).ID
	if a := i.relay2.ask(order{Do: "dial", Network: "tcp4", Addr: i.egress(h.name, "4001"), Timeout: silence}); !strings.Contains(a.Err, "i/o timeout") {
		t.Errorf("inbound TCP: %q, want silence", a.Err)
	}
	self := h.ask(order{Do: "dial", Network: "tcp4", Addr: i.addr(h.name, "4001"), Timeout: patience})
	if self.Err != "" {
		t.Errorf("it listens, and yet: %s", self.Err)
	}
	h.do(order{Do: "close", ID: l})
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

// networkName is what a network, and the host in it, is called after its profile.
func networkName(profile string) string {
	return strings.NewReplacer(" + ", "-and-", " ", "-").Replace(profile)
}
