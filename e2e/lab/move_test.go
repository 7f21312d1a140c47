//go:build linux

package lab

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/inventory"
)

// moves takes a host elsewhere and gives the address it is seen at from then on.
func (i *internet) moves(t *testing.T, host, network string) netip.Addr {
	t.Helper()
	egress, err := i.lab.Move(t.Context(), host, network)
	if err != nil {
		t.Fatal(err)
	}
	return egress
}

// shell runs a command on a host, by a login of its own.
func (l *Lab) shell(t *testing.T, host, command string) string {
	t.Helper()
	s, err := l.login(t, host).NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, err := s.CombinedOutput(command)
	if err != nil {
		t.Fatalf("%s on %s: %v: %s", command, host, err, out)
	}
	return string(out)
}

// comesFrom dials relay1 and tells whom it sees.
func (i *internet) comesFrom(t *testing.T, h *hand, port string) netip.Addr {
	t.Helper()
	if a := h.ask(order{Do: "dial", Network: "tcp4", Addr: i.addr("relay1", port), Timeout: patience}); a.Err != "" {
		t.Fatalf("TCP %s: %s", port, a.Err)
	}
	in := i.relay1.do(order{Do: "accept", ID: i.tcp[port], Timeout: patience})
	return netip.MustParseAddrPort(in.Remote).Addr()
}

func TestAHostThatMovesIsInTheOtherNetworkFromThenOn(t *testing.T) {
	t.Parallel()
	i := behind(t, "home", "institutional", "proxy-wpad")
	h := i.behind(t, "home")
	before := i.lab.shell(t, "home", "cat /etc/hosts /etc/resolv.conf")
	f, u := i.connect(t, h, "443"), i.datagrams(t, h, "443")

	egress := i.moves(t, "home", "institutional")
	if want := i.lab.host(t, "institutional").Egress; egress != want {
		t.Errorf("it is said to be seen at %s, want %s", egress, want)
	}
	if err := f.far.lost(f.near, "an answer"); err != nil {
		t.Errorf("the flow from where it was: %v", err)
	}
	if err := u.far.lost(u.near, "an answer"); err != nil {
		t.Errorf("what is sent to where it was: %v", err)
	}
	if seen := i.comesFrom(t, h, "443"); seen != egress {
		t.Errorf("it is seen at %s, want %s", seen, egress)
	}
	i.wantTCP(t, h, "4001", false) // the firewall of where it is now
	after := i.lab.shell(t, "home", "cat /etc/hosts /etc/resolv.conf")
	if after == before || !strings.Contains(after, "home") {
		t.Errorf("it is told:\n%s", after)
	}
	_, resolver, _ := strings.Cut(strings.TrimSpace(after), "nameserver ")
	h.do(order{Do: "query", Network: "udp", Addr: resolver + ":53", Data: []byte("relay1." + defaultZone + " A"), Timeout: patience})
	neighbour := i.behind(t, "institutional")
	l := neighbour.do(order{Do: "listen", Network: "tcp4", Addr: ":7"})
	h.do(order{Do: "dial", Network: "tcp4", Addr: i.addr("institutional", "7"), Timeout: patience})
	neighbour.do(order{Do: "accept", ID: l.ID, Timeout: patience})

	if err := i.lab.Unplug(t.Context(), "home"); err != nil {
		t.Fatal(err)
	}
	i.wantTCP(t, h, "443", false)
	i.moves(t, "home", "proxy-wpad") // a cable that is dead is left behind
	if text := i.lab.shell(t, "home", "cat /etc/resolv.conf"); !strings.Contains(text, "search ") {
		t.Errorf("in an office it is told:\n%s", text)
	}
	i.moves(t, "home", "home")
	if again := i.lab.shell(t, "home", "cat /etc/hosts /etc/resolv.conf"); again != before {
		t.Errorf("back home it is told:\n%s\nand before:\n%s", again, before)
	}
	i.comesFrom(t, h, "4001")
}

func TestAHostThatMovesFindsIPv6WhereThereIsSome(t *testing.T) {
	t.Parallel()
	i := behind(t, "home", "ipv6-stateful")
	h := i.behind(t, "home")
	relay6 := "[" + i.lab.host(t, "relay1").Addr6.String() + "]:7"
	i.relay1.do(order{Do: "listen", Network: "tcp6", Addr: ":7"})
	dial := order{Do: "dial", Network: "tcp6", Addr: relay6, Timeout: patience}
	if a := h.ask(dial); a.Err == "" {
		t.Error("there is IPv6 at home")
	}
	i.moves(t, "home", "ipv6-stateful")
	h.do(dial)
	i.moves(t, "home", "home")
	if a := h.ask(dial); a.Err == "" {
		t.Error("it has taken IPv6 home")
	}
}

func TestAMoveThatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	l := bring(t, Config{Lab: small()})
	for want, move := range map[string][2]string{
		"move tensor02 to campus: it is there already":         {"tensor02", "campus"},
		"move tensor02 to moon: there is no network":           {"tensor02", "moon"},
		"move tensor02 to core: there is no network":           {"tensor02", "core"},
		"move relay1 to campus: it has a public address":       {"relay1", "campus"},
		"move nobody to campus: there is no host of this name": {"nobody", "campus"},
	} {
		if _, err := l.Move(t.Context(), move[0], move[1]); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
}

func TestFaultsThatNoLabCanCarryOutAreFoundBeforehand(t *testing.T) {
	inv := &inventory.Inventory{File: "f", Lab: small(), Hosts: []inventory.Host{{Name: "donor", SSH: "tensor02"}, {Name: "vps", SSH: "relay1"}}}
	for _, f := range []inventory.Fault{
		{Do: inventory.Kill, Host: "donor"},
		{Do: inventory.Roam, Host: "donor", To: "house", After: time.Second},
		{Do: inventory.RebootRouter, Network: "campus"},
		{Do: inventory.SetProfile, Network: "campus", Profile: "symmetric + udp-blocked"},
	} {
		inv.Faults = []inventory.Fault{f}
		if err := CheckFaults(inv); err != nil {
			t.Errorf("%s: %v", f.Do, err)
		}
	}
	for want, f := range map[string]inventory.Fault{
		"f:7: faults.host: the network core has no router":        {Do: inventory.Roam, Host: "vps", To: "house"},
		"f:7: faults.to: the network core has no router":          {Do: inventory.Roam, Host: "donor", To: "core"},
		"f:7: faults.network: the network core has no router":     {Do: inventory.Readdress, Network: "core"},
		`f:7: faults.profile: unknown profile "moon"`:             {Do: inventory.SetProfile, Network: "campus", Profile: "home + moon"},
		"f:7: faults.profile: open is a network without a router": {Do: inventory.SetProfile, Network: "campus", Profile: "open"},
		"f:7: faults.profile: ipv6-broken needs IPv6":             {Do: inventory.SetProfile, Network: "campus", Profile: "ipv6-broken"},
	} {
		f.Line = 7
		inv.Faults = []inventory.Fault{f}
		if err := CheckFaults(inv); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
}
