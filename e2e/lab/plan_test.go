//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/worldcompute/wce2e/inventory"
)

func TestCheckReportsEveryMistakeAtItsLine(t *testing.T) {
	l := &inventory.Lab{
		File: "x.yaml", Latency: time.Minute, Zone: "mesh.local", Line: 3,
		Networks: []inventory.LabNetwork{{Name: "campus", Profile: "instituional", Line: 5}},
		Hosts: []inventory.LabHost{
			{Name: "a_b", Network: "campus", Line: 7},
			{Name: "bystander1", Network: "campus", Line: 8},
			{Name: "c", Network: "moon", Line: 9},
			{Name: "d", Network: "campus", Line: 10},
			{Name: "d", Network: "campus", Line: 11},
		},
	}
	ps, ok := errors.AsType[inventory.Problems](Check(l))
	if !ok {
		t.Fatal("no problems reported")
	}
	for _, want := range []string{
		"x.yaml:3: lab.latency: 1m0s is not between",
		"x.yaml:3: lab.zone: names below .local are private",
		`x.yaml:5: lab.networks.campus.profile: unknown profile "instituional"`,
		`x.yaml:7: lab.hosts.a_b: "a_b" cannot be a host name`,
		"x.yaml:8: lab.hosts.bystander1: names that begin with bystander",
		`x.yaml:9: lab.hosts.c: there is no network "moon"`,
		"x.yaml:11: lab.hosts.d: a second host",
	} {
		if !strings.Contains(ps.Error(), want) {
			t.Errorf("missing %q in\n%v", want, ps)
		}
	}
	if len(ps) != 7 {
		t.Errorf("%d problems, want 7:\n%v", len(ps), ps)
	}
	if err := Check(small()); err != nil {
		t.Errorf("a good lab: %v", err)
	}
	l = small()
	l.Bystanders = maxLinks
	if Check(l) == nil {
		t.Error("a lab without addresses for all passes")
	}
	l = small()
	for i := range maxInside {
		l.Hosts = append(l.Hosts, inventory.LabHost{Name: fmt.Sprintf("h%d", i), Network: "campus"})
	}
	if err := Check(l); err == nil || !strings.Contains(err.Error(), "lab.networks.campus: 251 hosts: a network has addresses for 250") {
		t.Errorf("a network without addresses for all: %v", err)
	}
	l.Networks[0].Profile = open // whose hosts are on the core
	if err := Check(l); err != nil {
		t.Error(err)
	}
}

func TestProfilesComposeInAnyOrder(t *testing.T) {
	a, errA := profileNamed("udp-blocked + symmetric")
	b, errB := profileNamed("symmetric+udp-blocked")
	if err := errors.Join(errA, errB); err != nil {
		t.Fatal(err)
	}
	if a.Name != "symmetric + udp-blocked" || b.Name != a.Name || a.Sentence != b.Sentence {
		t.Errorf("one order makes %q, the other %q", a.Name, b.Name)
	}
	if one, err := profileNamed("home + home"); err != nil || one.Name != "home" {
		t.Errorf("a profile with itself: %q %v", one.Name, err)
	}
	if v6, err := profileNamed("institutional + ipv6-broken"); err != nil || !v6.ipv6 {
		t.Errorf("the IPv6 of a part is not in the whole: %v", err)
	}
}

func TestProfilesThatContradictEachOtherAreRefused(t *testing.T) {
	for names, want := range map[string]string{
		"symmetric + cgnat-ports":        `"symmetric + cgnat-ports": a router has one kind of NAT, not both "a port drawn for every destination" and`,
		"symmetric + nat-rebind":         "one kind of NAT",
		"nat-pool + cloud-1to1":          "one kind of NAT",
		"nat-pool + double-nat":          "a router behind its provider's has one address, not several",
		"cloud-1to1 + double-nat":        "a router behind its provider's has one address, not several",
		"hairpin + double-nat":           "the public side of mappings is the provider's",
		"hairpin + symmetric":            "a port drawn for every destination: no host can be found at its port from the inside",
		"syn-proxy + tls-intercept":      "connections that the router takes for itself never come about where it answers every SYN in others' place",
		"lifetime-5m + syn-proxy":        "the age of a flow cannot be told where the router answers every SYN itself",
		"cloud-1to1 + ipv6-only-nat64":   "its hosts have no IPv4 addresses that the router could send anything to",
		"hairpin + ipv6-only-nat64":      "no IPv4 addresses",
		"port-forward + ipv6-only-nat64": "no IPv4 addresses",
		"open + udp-blocked":             `"open + udp-blocked": open is a network without a router`,
		"udp-blocked + moon":             `unknown profile "moon"`,
		"udp-blocked +":                  `unknown profile ""`,
	} {
		l := small()
		l.File, l.Networks[0].Profile, l.Networks[0].Line = "x.yaml", names, 5
		if err := Check(l); err == nil || !strings.Contains(err.Error(), "x.yaml:5: lab.networks.campus.profile: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", names, err)
		}
	}
	for _, names := range []string{"home + symmetric", "institutional + port-allow-list", "udp-idle-15s + tcp-idle-30s + dartmouth"} {
		if _, err := profileNamed(names); err != nil {
			t.Errorf("%s: %v", names, err)
		}
	}
}

func TestWhateverTwoProfilesPassTheCheckCanBePlanned(t *testing.T) {
	for i, a := range catalogue {
		for _, b := range catalogue[i+1:] {
			l := small()
			l.Networks[0].Profile = a.Name + " + " + b.Name
			if Check(l) == nil && len(newPlan(l).hosts()) == 0 {
				t.Errorf("%s: no host", l.Networks[0].Profile)
			}
		}
	}
}

func TestIPv6IsThereOnlyWhereANetworkAsksForIt(t *testing.T) {
	for _, m := range newPlan(small()).Machines {
		if m.Addr6.IsValid() || m.Access.Addr6.IsValid() {
			t.Errorf("%s has %s in a lab without IPv6", m.Name, m.Addr6)
		}
	}
	l := small()
	l.Networks[0].Profile = "ipv6-broken"
	p := newPlan(l)
	has := map[string]bool{}
	for _, m := range p.Machines {
		has[m.Name] = m.Addr6.IsValid() && m.Addr6.Contains(m.Gateway6)
	}
	if !p.IPv6 || !has["tensor02"] || !has["relay1"] || has["laptop"] {
		t.Errorf("with one network of IPv6, these hosts have it: %v", has)
	}
}

func TestPublicAddressesArePublicToLibp2pAndDifferent(t *testing.T) {
	seen := map[netip.Addr]bool{}
	for i := range maxLinks {
		a := nthAccess(i, true)
		if seen[a.Addr] || seen[a.Core] {
			t.Fatalf("link %d repeats %v", i, a)
		}
		if seen[a.Addr6] || seen[a.Core6] || a.Addr6 == a.Core6 {
			t.Fatalf("link %d repeats %v", i, a)
		}
		seen[a.Addr], seen[a.Core], seen[a.Addr6], seen[a.Core6] = true, true, true, true
		if !netip.PrefixFrom(a.Addr, accessBits).Contains(a.Core) {
			t.Errorf("link %d: %s and %s share no network", i, a.Addr, a.Core)
		}
		for _, m := range []string{"/ip4/" + a.Addr.String(), "/ip6/" + a.Addr6.String()} {
			if !manet.IsPublicAddr(ma.StringCast(m)) {
				t.Errorf("link %d: %s is not public to libp2p", i, m)
			}
		}
		if i > 0 && nthAccess(i-1, true).Addr.As4()[0] == a.Addr.As4()[0] {
			t.Errorf("links %d and %d are in the same /8", i-1, i)
		}
	}
}

func TestEveryNetworkHasARangeOfItsOwn(t *testing.T) {
	seen := map[netip.Prefix]bool{}
	for i := range maxLinks {
		p, p6 := nthLAN(i), nthLAN6(i)
		if !p.Addr().IsPrivate() || seen[p.Masked()] || seen[p6.Masked()] {
			t.Fatalf("network %d has %s and %s, which are not private or not its own", i, p, p6)
		}
		seen[p.Masked()], seen[p6.Masked()] = true, true
	}
	if first := nthLAN(0).String(); first != "192.168.10.1/24" {
		t.Errorf("the first network's router is at %s", first)
	}
}

func TestEveryAccessLinkHasHardwareAddressesOfItsOwn(t *testing.T) {
	seen := map[string]bool{}
	for i := range maxLinks {
		near, core := accessMACs(i)
		if seen[near.String()] || seen[core.String()] {
			t.Fatalf("link %d has %s and %s, which are not its own", i, near, core)
		}
		seen[near.String()], seen[core.String()] = true, true
	}
}

func TestHostsBehindARouterAreSeenAsIt(t *testing.T) {
	p := newPlan(small())
	hosts := map[string]Host{}
	for _, h := range p.hosts() {
		hosts[h.Name] = h
	}
	if h := hosts["tensor02"]; h.Addr == h.Egress || !h.Addr.IsPrivate() || h.Egress.IsPrivate() {
		t.Errorf("tensor02 is at %s, seen as %s", h.Addr, h.Egress)
	}
	if h := hosts["relay1"]; h.Addr != h.Egress {
		t.Errorf("relay1 has no NAT, is at %s, and seen as %s", h.Addr, h.Egress)
	}
	if hosts["tensor02"].Egress == hosts["laptop"].Egress {
		t.Error("campus and house have the same address")
	}
}

func TestARefusalNamesItsSettingAndItsRemedy(t *testing.T) {
	machine := func(files map[string]string) func(string) ([]byte, error) {
		return func(name string) ([]byte, error) {
			if text, ok := files[name]; ok {
				return []byte(text), nil
			}
			return nil, &os.PathError{Op: "open", Path: name, Err: syscall.ENOENT}
		}
	}
	const userNS = "/proc/self/ns/user"
	for name, c := range map[string]struct {
		files map[string]string
		cause error
		want  []string
	}{
		"Debian's switch":     {map[string]string{userNS: "", "/proc/sys/kernel/unprivileged_userns_clone": "0\n"}, syscall.EPERM, []string{"unprivileged_userns_clone is 0", "sysctl -w kernel.unprivileged_userns_clone=1"}},
		"a limit of zero":     {map[string]string{userNS: "", "/proc/sys/user/max_user_namespaces": "0\n"}, syscall.ENOSPC, []string{"max_user_namespaces is 0", "sysctl -w user.max_user_namespaces="}},
		"Ubuntu's AppArmor":   {map[string]string{userNS: "", "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"}, errDenied, []string{"apparmor_restrict_unprivileged_userns is 1", "kernel.apparmor_restrict_unprivileged_userns=0"}},
		"no such kernel":      {nil, syscall.EPERM, []string{"built without user namespaces", "sudo"}},
		"a container":         {map[string]string{userNS: "", "/proc/sys/user/max_user_namespaces": "100"}, syscall.EPERM, []string{"seccomp", "docker run"}},
		"a full disk, not":    {map[string]string{userNS: ""}, &os.PathError{Op: "write", Path: "/tmp/ssh_config", Err: syscall.ENOSPC}, nil},
		"something else, not": {map[string]string{userNS: "", "/proc/sys/user/max_user_namespaces": "0"}, syscall.EIO, nil},
	} {
		t.Run(name, func(t *testing.T) {
			err := explain(machine(c.files), c.cause)
			r, ok := errors.AsType[*RefusedError](err)
			if ok != (c.want != nil) {
				t.Fatalf("got %v", err)
			}
			for _, w := range c.want {
				if !strings.Contains(r.Error(), w) || strings.Contains(r.Error(), "\n") {
					t.Errorf("missing %q, or more than one line: %v", w, r)
				}
			}
			if !errors.Is(err, c.cause) {
				t.Errorf("%v has lost its cause", err)
			}
		})
	}
}

func TestPathsAreQuotedForSSHAndItsShell(t *testing.T) {
	p := plan{Dir: "/tmp/a b%c", Machines: []machine{{Name: "h", HostKey: "k"}}}
	config := p.sshConfig("/opt/my suite/it's")
	for _, want := range []string{
		`IdentityFile "/tmp/a b%%c/id_ed25519"`,
		`ProxyCommand '/opt/my suite/it'\''s' wce2e-lab-connect '/tmp/a b%%c/h.sock'`,
	} {
		if !strings.Contains(config, want) {
			t.Errorf("missing %s in\n%s", want, config)
		}
	}
}

func TestKernelReleasesCompare(t *testing.T) {
	for release, want := range map[string]bool{"6.2.0": true, "6.18.44-fc": true, "7.0": true, "6.1.0-18-amd64": false, "5.15.0-91-generic": false, "": false} {
		if got := atLeast(release, 6, 2); got != want {
			t.Errorf("%q at least 6.2: %t", release, got)
		}
	}
}
