package localnet

import (
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	oneMAC     = "02:00:00:00:00:01"
	anotherMAC = "02:00:00:00:00:02"
)

// nameServers makes a file say what the network tells about names.
func nameServers(t *testing.T, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "resolv.conf")
	must(t, os.WriteFile(file, []byte(text), 0o600))
	before := resolvConfs
	resolvConfs = []string{file}
	t.Cleanup(func() { resolvConfs = before })
}

func fingerprint(t *testing.T) string {
	t.Helper()
	id, err := Fingerprint(t.Context())
	must(t, err)
	if id != "" && !regexp.MustCompile("^[0-9a-f]{32}$").MatchString(id) {
		t.Errorf("a fingerprint that looks like %q", id)
	}
	return id
}

// differ notes a fingerprint, and complains when it was seen before.
type differ map[string]string

func (d differ) note(t *testing.T, where string) {
	t.Helper()
	id := fingerprint(t)
	if other, seen := d[id]; seen {
		t.Errorf("%s has the fingerprint of %s: %q", where, other, id)
	}
	d[id] = where
}

func TestEveryNetworkHasAFingerprintOfItsOwn(t *testing.T) {
	if !alone(t) {
		return
	}
	nameServers(t, "nameserver 10.1.2.53\nsearch campus.edu\n")
	seen := differ{}
	seen.note(t, "no network")
	if _, ok := seen[""]; !ok {
		t.Errorf("offline has a fingerprint: %v", seen)
	}
	wlan0 := cable(t, "wlan0")
	if id := fingerprint(t); id != "" {
		t.Errorf("a link without an address has the fingerprint %s", id)
	}
	addAddr(t, wlan0, "10.1.2.3/24")
	seen.note(t, "a network without a way out")
	leaveBy(t, wlan0, "10.1.2.1")
	neighbourIs(t, wlan0, "10.1.2.1", oneMAC)
	seen.note(t, "a network")
	neighbourIs(t, wlan0, "10.1.2.1", anotherMAC)
	seen.note(t, "a network with another router")
	nameServers(t, "nameserver 10.1.2.53\nsearch hospital.org\n")
	seen.note(t, "a network of another name")
	nameServers(t, "nameserver 10.1.2.54\nsearch hospital.org\n")
	seen.note(t, "a network with another name server")
	addAddr(t, wlan0, "10.7.7.3/24")
	leaveBy(t, wlan0, "10.7.7.1")
	neighbourIs(t, wlan0, "10.7.7.1", anotherMAC)
	seen.note(t, "another subnet")
}

func TestTheFingerprintStaysInTheSameNetwork(t *testing.T) {
	if !alone(t) {
		return
	}
	nameServers(t, "nameserver 10.1.2.53\nnameserver 10.1.2.54\nsearch campus.edu\n")
	wlan0 := cable(t, "wlan0")
	addAddr(t, wlan0, "10.1.2.3/24")
	leaveBy(t, wlan0, "10.1.2.1")
	neighbourIs(t, wlan0, "10.1.2.1", oneMAC)
	was := fingerprint(t)
	for _, step := range []struct {
		after string
		do    func()
	}{
		{"nothing", func() {}},
		{"another lease in the same subnet", func() {
			delAddr(t, wlan0, "10.1.2.3/24")
			addAddr(t, wlan0, "10.1.2.77/24")
			leaveBy(t, wlan0, "10.1.2.1")
			neighbourIs(t, wlan0, "10.1.2.1", oneMAC) // the kernel forgets it with the last address
		}},
		{"IPv6 has arrived", func() {
			addAddr(t, wlan0, "2a00:1::5/64")
			neighbourIs(t, wlan0, "fe80::1", oneMAC)
			leaveBy(t, wlan0, "fe80::1")
		}},
		{"the name servers came in another order, with one of IPv6", func() {
			nameServers(t, "search campus.edu.\nnameserver 10.1.2.54\nnameserver fe80::53%wlan0\nnameserver 10.1.2.53\n")
		}},
		{"a tunnel and a container network", func() {
			addAddr(t, cable(t, "tailscale0"), "100.64.3.3/32")
			must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "docker0"}}))
			addAddr(t, linkOf(t, "docker0"), "172.17.0.1/16")
			must(t, netlink.LinkSetUp(linkOf(t, "docker0")))
		}},
	} {
		step.do()
		if now := fingerprint(t); now != was || now == "" {
			t.Errorf("after %s: %q, and before %q", step.after, now, was)
		}
	}
}

func TestAnIPv6NetworkIsKnownByItsRouterThroughChangesOfPrefix(t *testing.T) {
	if !alone(t) {
		return
	}
	nameServers(t, "")
	wlan0 := cable(t, "wlan0")
	addAddr(t, wlan0, "2a00:1::5/64")
	neighbourIs(t, wlan0, "fe80::1", oneMAC)
	leaveBy(t, wlan0, "fe80::1")
	was := fingerprint(t)
	addAddr(t, wlan0, "2a00:2::5/64")
	delAddr(t, wlan0, "2a00:1::5/64")
	if now := fingerprint(t); now != was || now == "" {
		t.Errorf("%q, and before %q", now, was)
	}
	neighbourIs(t, wlan0, "fe80::1", anotherMAC)
	if now := fingerprint(t); now == was || now == "" {
		t.Errorf("another router: %q, and before %q", now, was)
	}
}

func TestAGatewayThatWasNotSpokenWithIsAskedForItsHardwareAddress(t *testing.T) {
	if !alone(t) {
		return
	}
	nameServers(t, "")
	eth0 := cable(t, "eth0", "10.1.2.1/24", "fe80::1/64")
	addAddr(t, eth0, "10.1.2.3/24")
	leaveBy(t, eth0, "10.1.2.1")
	start := time.Now()
	was := fingerprint(t)
	t.Logf("took %s", time.Since(start))
	if mac := neighbour(way{index: eth0.Attrs().Index, gateway: mustAddr(t, "10.1.2.1")}); mac == "" {
		t.Error("its hardware address is not known")
	}
	forget(t, eth0)
	if now := fingerprint(t); now != was {
		t.Errorf("%q, and before %q", now, was)
	}
	delAddr(t, eth0, "10.1.2.3/24")
	addAddr(t, eth0, "2a00:1::5/64")
	leaveBy(t, eth0, "fe80::1")
	awaitLinkLocal(t, eth0) // before, no router's advertisement would have been heard
	six := fingerprint(t)
	if mac := neighbour(way{index: eth0.Attrs().Index, gateway: mustAddr(t, "fe80::1")}); mac == "" || six == was {
		t.Errorf("IPv6: hardware address %q, fingerprint %q", mac, six)
	}
}

func TestAGatewayThatDoesNotAnswerHoldsNobodyUp(t *testing.T) {
	if !alone(t) {
		return
	}
	nameServers(t, "")
	eth0 := cable(t, "eth0")
	addAddr(t, eth0, "10.1.2.3/24")
	leaveBy(t, eth0, "10.1.2.1")
	start := time.Now()
	id := fingerprint(t)
	if took := time.Since(start); id == "" || took < macPatience || took > 3*macPatience {
		t.Errorf("%q after %s", id, took)
	}
}

func mustAddr(t *testing.T, s string) netip.Addr {
	t.Helper()
	a, err := netip.ParseAddr(s)
	must(t, err)
	return a
}

// forget empties the kernel's table of neighbours.
func forget(t *testing.T, l netlink.Link) {
	t.Helper()
	list, err := netlink.NeighList(l.Attrs().Index, netlink.FAMILY_ALL)
	must(t, err)
	for _, n := range list {
		must(t, netlink.NeighDel(&n))
	}
}

// awaitLinkLocal waits until the link has an address for its neighbours that is
// known to be nobody else's.
func awaitLinkLocal(t *testing.T, l netlink.Link) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		list, err := netlink.AddrList(l, netlink.FAMILY_V6)
		must(t, err)
		for _, a := range list {
			if a.IP.IsLinkLocalUnicast() && a.Flags&unix.IFA_F_TENTATIVE == 0 {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("no link-local address after %s: %v", patience, list)
		}
	}
}
