//go:build linux

package lab

import (
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/worldcompute/wce2e/inventory"
)

// house is behind with a second host in a network.
func house(t *testing.T, profile string) (i *internet, first, second *hand) {
	t.Helper()
	i = behindWith(t, []inventory.LabHost{{Name: "second", Network: strings.ReplaceAll(profile, " + ", "-and-")}}, profile)
	return i, i.behind(t, profile), i.lab.hand(t, "second")
}

func TestEveryHostOfACloudHasAPublicAddress(t *testing.T) {
	t.Parallel()
	i, first, second := house(t, "cloud-1to1")
	if a, b := i.lab.host(t, first.name).Egress, i.lab.host(t, second.name).Egress; a == b {
		t.Errorf("both hosts are to be seen at %s", a)
	}
	for _, h := range []*hand{first, second} {
		f := i.datagrams(t, h, "4001")
		if at := netip.MustParseAddrPort(f.far.peer).Addr(); at != i.lab.host(t, h.name).Egress {
			t.Errorf("%s is seen at %s, want %s", h.name, at, i.lab.host(t, h.name).Egress)
		}
		i.wantTCP(t, h, "4001", true) // which compares as well
	}
	moved, err := i.lab.Readdress(t.Context(), "cloud-1to1")
	if err != nil {
		t.Fatal(err)
	}
	f := i.datagrams(t, second, "443")
	if at := netip.MustParseAddrPort(f.far.peer).Addr(); at == i.lab.host(t, "second").Egress || at == moved {
		t.Errorf("after its network has got %s, the second host is seen at %s, and was at %s", moved, at, i.lab.host(t, "second").Egress)
	}
	if err := f.alive(); err != nil {
		t.Errorf("at another address: %v", err)
	}
}

// How two hosts meet that know each other's public address only.
func TestNeighboursMeetByTheOutsideOnlyWhereTheRouterTurnsAround(t *testing.T) {
	t.Parallel()
	for profile, refusal := range map[string]string{"home": "connection refused", "no-hairpin": "i/o timeout", "nat-pool + no-hairpin": "i/o timeout"} {
		t.Run(profile, func(t *testing.T) {
			t.Parallel()
			i, a, b := house(t, profile)
			a.do(order{Do: "listen", Network: "tcp4", Addr: ":4001"})
			if got := b.ask(order{Do: "dial", Network: "tcp4", Addr: i.egress(a.name, "4001"), Timeout: 2 * silence}); !strings.Contains(got.Err, refusal) {
				t.Errorf("by the outside: %q, want %s", got.Err, refusal)
			}
			if got := b.ask(order{Do: "dial", Network: "tcp4", Addr: i.addr(a.name, "4001"), Timeout: patience}); got.Err != "" {
				t.Errorf("by the inside: %s", got.Err)
			}
		})
	}
}

func TestAProvidersRouterIsThereForGood(t *testing.T) {
	t.Parallel()
	i := behind(t, "double-nat", "home")
	h := i.behind(t, "double-nat")
	for network, profile := range map[string]string{"double-nat": "home", "home": "double-nat"} {
		err := i.lab.SetProfile(t.Context(), network, profile)
		if err == nil || !strings.Contains(err.Error(), "differ in what is behind the router") {
			t.Errorf("%s becomes %s: %v", network, profile, err)
		}
	}
	i.setProfile(t, "double-nat", "double-nat + udp-443-blocked")
	i.wantTCP(t, h, "443", true)

	u, c := i.datagrams(t, h, "4001"), i.connect(t, h, "443")
	if err := errors.Join(u.alive(), c.alive()); err != nil {
		t.Fatal(err)
	}
	if err := i.lab.Rebind(t.Context(), "double-nat"); err != nil {
		t.Fatal(err)
	}
	if err := u.far.lost(u.near, "an answer"); err != nil {
		t.Errorf("after a reboot: %v", err)
	}

	moved, err := i.lab.Readdress(t.Context(), "double-nat")
	if err != nil {
		t.Fatal(err)
	}
	u = i.datagrams(t, h, "80")
	if at := netip.MustParseAddrPort(u.far.peer).Addr(); at != moved {
		t.Errorf("it is seen at %s, want %s", at, moved)
	}
}

func TestANetworkGetsAPoolOfAddressesWhileItStands(t *testing.T) {
	t.Parallel()
	i := behind(t, "home")
	h := i.behind(t, "home")
	i.setProfile(t, "home", "nat-pool")
	if _, err := i.lab.Readdress(t.Context(), "home"); err != nil {
		t.Fatal(err)
	}
	seen := map[netip.Addr]bool{}
	for _, port := range []string{"22", "53", "80", "443"} {
		f := i.datagrams(t, h, port)
		seen[netip.MustParseAddrPort(f.far.peer).Addr()] = true
	}
	if len(seen) != poolSize {
		t.Errorf("%d flows are seen at %v", poolSize, seen)
	}
}

func TestRulesProveThemselvesBesideOthers(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves the lab out")
	}
	found, err := SelfTest(t.Context(), slog.New(slog.NewTextHandler(t.Output(), nil)),
		"double-nat + ipv6-stateful", "double-nat + symmetric + udp-443-blocked", "double-nat + no-hairpin", "double-nat + port-forward", "nat-pool + tcp-443-only", "cloud-1to1-open + udp-blocked",
		"hairpin + full-cone", "hairpin + udp-443-blocked", "lifetime-5m + conn-limit-8", "idle-rst + udp-idle-8s", "mss-clamp + ipv6-stateful + lifetime-5m")
	if r, ok := errors.AsType[*RefusedError](err); ok {
		t.Skipf("SKIPPED: no lab on this machine: %v", r)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range found {
		if p.Err != "" {
			t.Errorf("%s: %s: %s", p.Profile, p.Name, p.Err)
		}
	}
}

func TestBlocksOfAddressesArePublicAndNobodyElses(t *testing.T) {
	taken := map[netip.Addr]bool{resolver: true, webServer: true}
	for i := range maxLinks {
		a := nthAccess(i, false)
		taken[a.Addr], taken[a.Core] = true, true
	}
	blocks := map[netip.Prefix]bool{}
	for i := range maxLinks {
		a := nthAccess(i, false)
		b := a.block()
		all := netip.PrefixFrom(b.Addr(), 16).Masked()
		if !manet.IsPublicAddr(ma.StringCast("/ip4/" + b.Addr().Next().String())) {
			t.Errorf("%s is not public", b)
		}
		for addr := range taken {
			if all.Contains(addr) {
				t.Errorf("%s has %s", all, addr)
			}
		}
		if blocks[all] {
			t.Errorf("%s is routed to two networks", all)
		}
		blocks[all] = true
		moved, err := a.next()
		if err != nil {
			t.Fatal(err)
		}
		if !all.Contains(moved.block().Addr()) || moved.block() == b {
			t.Errorf("after %s, %s is where nothing is routed to", b, moved.block())
		}
	}
}
