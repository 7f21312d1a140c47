package localnet

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// patience is how long a test waits for a Change that has to come.
const patience = 10 * time.Second

// changes watches the network until the test ends.
func changes(t *testing.T) <-chan Change {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, ended := make(chan Change, 16), make(chan error, 1)
	go func() { ended <- Watch(ctx, func(c Change) { out <- c }) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("watch: %v", err)
			}
		case <-time.After(patience):
			t.Error("watch does not end")
		}
	})
	awaitListening(t)
	return out
}

// awaitListening waits until the watch has made its socket and its first
// survey. That shows nowhere, so it gets a time in which it surely has.
func awaitListening(t *testing.T) {
	t.Helper()
	time.Sleep(200 * time.Millisecond)
}

// next is the next Change, in words. That there is none between two that are
// awaited is seen by what they say.
func next(t *testing.T, from <-chan Change) string {
	t.Helper()
	select {
	case c := <-from:
		return c.What
	case <-time.After(patience):
		t.Fatal("no change was told")
		return ""
	}
}

func expect(t *testing.T, from <-chan Change, want string) {
	t.Helper()
	if got := next(t, from); got != want {
		t.Errorf("told %q, want %q", got, want)
	}
}

func TestEachChangeOfTheNetworkIsToldOnce(t *testing.T) {
	if !alone(t) {
		return
	}
	told := changes(t)

	wlan0 := cable(t, "wlan0")
	addAddr(t, wlan0, "10.1.2.3/24")
	expect(t, told, "new: address 10.1.2.3/24 on wlan0, link wlan0")
	addAddr(t, wlan0, "10.1.2.4/24")
	expect(t, told, "new: address 10.1.2.4/24 on wlan0")
	leaveBy(t, wlan0, "10.1.2.1")
	expect(t, told, "new: IPv4 default route by 10.1.2.1 on wlan0")
	leaveBy(t, wlan0, "10.1.2.254")
	expect(t, told, "new: IPv4 default route by 10.1.2.254 on wlan0; gone: IPv4 default route by 10.1.2.1 on wlan0")
	must(t, netlink.LinkSetDown(wlan0))
	expect(t, told, "gone: IPv4 default route by 10.1.2.254 on wlan0, address 10.1.2.3/24 on wlan0, address 10.1.2.4/24 on wlan0, link wlan0")
}

func TestALinkCountsBeforeItHasAnAddressUnlessContainersHaveSuch(t *testing.T) {
	up := netlink.LinkAttrs{Name: "x", Index: 7, RawFlags: unix.IFF_UP | unix.IFF_RUNNING}
	some := []netip.Prefix{netip.MustParsePrefix("10.1.2.3/24")}
	for name, c := range map[string]struct {
		link netlink.Link
		own  []netip.Prefix
		ways []way
		want bool
	}{
		"a card":                            {link: &netlink.Device{LinkAttrs: up}, want: true},
		"a tunnel":                          {link: &netlink.Tuntap{LinkAttrs: up}, want: true},
		"a container's cable":               {link: &netlink.Veth{LinkAttrs: up}},
		"one with an address":               {link: &netlink.Veth{LinkAttrs: up}, own: some, want: true},
		"one that leads out":                {link: &netlink.Veth{LinkAttrs: up}, ways: []way{{index: 7}}, want: true},
		"a container's cable of newer kind": {link: &netlink.Netkit{LinkAttrs: up}},
		"a bridge with an address":          {link: &netlink.Bridge{LinkAttrs: up}, own: some},
		"one that leads the way out":        {link: &netlink.Bridge{LinkAttrs: up}, own: some, ways: []way{{index: 7}}, want: true},
	} {
		if got := counts(c.link, c.own, c.ways); got != c.want {
			t.Errorf("%s counts: %v", name, got)
		}
	}
}

func TestABurstOfChangesIsOne(t *testing.T) {
	if !alone(t) {
		return
	}
	told := changes(t)
	start := time.Now()
	wlan0 := cable(t, "wlan0")
	for range 5 { // what a lease that is refused and taken looks like
		addAddr(t, wlan0, "169.254.7.7/16")
		addAddr(t, wlan0, "10.1.2.3/24")
		delAddr(t, wlan0, "10.1.2.3/24")
		delAddr(t, wlan0, "169.254.7.7/16")
		time.Sleep(settle / 6)
	}
	addAddr(t, wlan0, "10.1.2.3/24")
	leaveBy(t, wlan0, "10.1.2.1")
	last := time.Now()
	expect(t, told, "new: IPv4 default route by 10.1.2.1 on wlan0, address 10.1.2.3/24 on wlan0, link wlan0")
	if took := time.Since(last); took < settle/2 || took > settle*3 {
		t.Errorf("told %s after the last of the burst (%s after the first)", took, time.Since(start))
	}
}

func TestANetworkThatIsNeverQuietIsToldNevertheless(t *testing.T) {
	if !alone(t) {
		return
	}
	wlan0 := cable(t, "wlan0")
	addAddr(t, wlan0, "10.1.2.2/24")
	told := changes(t)
	addAddr(t, wlan0, "10.1.2.3/24")
	for start := time.Now(); time.Since(start) < patience; time.Sleep(settle / 6) {
		addAddr(t, wlan0, "169.254.7.7/16")
		delAddr(t, wlan0, "169.254.7.7/16")
		select {
		case c := <-told:
			if took := time.Since(start); c.What != "new: address 10.1.2.3/24 on wlan0" || took < settleMost/2 {
				t.Errorf("told %q after %s", c.What, took)
			}
			return
		default:
		}
	}
	t.Error("nothing is told while there is noise")
}

func TestWhatDoesNotMatterIsNotTold(t *testing.T) {
	if !alone(t) {
		return
	}
	wlan0 := cable(t, "wlan0")
	addAddr(t, wlan0, "10.1.2.3/24")
	leaveBy(t, wlan0, "10.1.2.1")
	told := changes(t)
	for what, make := range map[string]func(){
		"an address that is deprecated": func() {
			a := addrOf(t, "2a00:1::5/64")
			a.PreferedLft, a.ValidLft = 0, 3600
			must(t, netlink.AddrAdd(wlan0, a))
		},
		"a link-local address": func() { addAddr(t, wlan0, "169.254.7.7/16") },
		"an address prolonged": func() {
			a := addrOf(t, "10.1.2.3/24")
			a.PreferedLft, a.ValidLft = 3000, 3600
			must(t, netlink.AddrReplace(wlan0, a))
		},
		"a container network": func() {
			must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "docker0"}}))
			bridge := linkOf(t, "docker0")
			addAddr(t, bridge, "172.17.0.1/16")
			must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "veth1", MasterIndex: bridge.Attrs().Index}, PeerName: "inner"}))
			must(t, netlink.LinkSetNsFd(linkOf(t, "inner"), elsewhere(t)))
			must(t, netlink.LinkSetUp(bridge))
			must(t, netlink.LinkSetUp(linkOf(t, "veth1")))
		},
		"a container's cable": func() { cable(t, "cali1") },
		"a route to a part of the world": func() {
			must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: wlan0.Attrs().Index, Dst: &net.IPNet{IP: net.IPv4(9, 9, 0, 0), Mask: net.CIDRMask(16, 32)}}))
		},
		"a second default route that is not taken": func() {
			must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: wlan0.Attrs().Index, Dst: everywhere("10.0.0.1"), Gw: net.ParseIP("10.1.2.77"), Priority: 500}))
		},
	} {
		make()
		select {
		case c := <-told:
			t.Errorf("%s: told %q", what, c.What)
		case <-time.After(2 * settle):
		}
	}
	addAddr(t, wlan0, "10.9.9.9/32")
	expect(t, told, "new: address 10.9.9.9/32 on wlan0")
}

func TestTemporaryAddressesComeAndGoUntold(t *testing.T) {
	if !alone(t) {
		return
	}
	wlan0 := cable(t, "wlan0")
	addAddr(t, wlan0, "10.1.2.2/24")
	sysctl(t, "net/ipv6/conf/wlan0/use_tempaddr", "2")
	told := changes(t)
	a := addrOf(t, "2a00:1::5/64")
	a.Flags |= unix.IFA_F_MANAGETEMPADDR
	a.PreferedLft, a.ValidLft = 3000, 3600
	must(t, netlink.AddrAdd(wlan0, a))
	expect(t, told, "new: address 2a00:1::5/64 on wlan0")
	temporary := func() (out []netlink.Addr) {
		list, err := netlink.AddrList(wlan0, netlink.FAMILY_V6)
		must(t, err)
		for _, a := range list {
			if a.Flags&unix.IFA_F_TEMPORARY != 0 {
				out = append(out, a)
			}
		}
		return out
	}
	for end := time.Now().Add(patience); len(temporary()) == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Skip("SKIPPED: this kernel makes no temporary addresses")
		}
	}
	must(t, netlink.AddrDel(wlan0, &temporary()[0]))
	time.Sleep(2 * settle)
	addAddr(t, wlan0, "10.1.2.3/24")
	expect(t, told, "new: address 10.1.2.3/24 on wlan0")
}

func TestTheDefaultRouteOfAVPNIsSeen(t *testing.T) {
	if !alone(t) {
		return
	}
	wlan0 := cable(t, "wlan0")
	addAddr(t, wlan0, "10.1.2.3/24")
	leaveBy(t, wlan0, "10.1.2.1")
	tun := cable(t, "tun0")
	addAddr(t, tun, "10.8.0.2/24")
	told := changes(t)
	for _, half := range []string{"0.0.0.0/1", "128.0.0.0/1"} {
		_, dst, err := net.ParseCIDR(half)
		must(t, err)
		must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: tun.Attrs().Index, Dst: dst, Gw: net.ParseIP("10.8.0.1")}))
	}
	expect(t, told, "new: IPv4 default route by 10.8.0.1 on tun0; gone: IPv4 default route by 10.1.2.1 on wlan0")
}

func TestASleepIsTold(t *testing.T) {
	t.Parallel()
	told := make(chan Change, 4)
	asleep := make(chan time.Duration, 1)
	total := time.Duration(0)
	w := watcher{
		look: func() (survey, error) { return survey{}, nil },
		clock: func() time.Duration {
			select {
			case d := <-asleep:
				total += d
			default:
			}
			return clock() + total
		},
		tell: func(c Change) { told <- c }, awake: clock(),
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { w.run(ctx, make(chan struct{})); close(ended) }()
	asleep <- 25 * time.Second // a nap, which the pings survive
	time.Sleep(tick + tick/2)
	asleep <- 3 * time.Hour
	select {
	case c := <-told:
		if c.Slept < 3*time.Hour-2*tick || c.Slept > 3*time.Hour+tick || !strings.HasPrefix(c.What, "slept for ") {
			t.Errorf("%+v", c)
		}
	case <-time.After(patience):
		t.Error("it is not told")
	}
	cancel()
	<-ended
	if len(told) > 0 {
		t.Errorf("told once more: %+v", <-told)
	}
}

func TestAStoppedProcessSeesThatItSlept(t *testing.T) {
	before := clock()
	time.Sleep(50 * time.Millisecond)
	if gone := clock() - before; gone < 50*time.Millisecond || gone > 10*time.Second {
		t.Errorf("the clock went on by %s in 50ms", gone)
	}
}

func TestASystemThatDoesNotTellIsAsked(t *testing.T) {
	t.Parallel()
	told := make(chan Change, 4)
	addr := make(chan survey, 1)
	addr <- survey{links: []link{{name: "eth0"}}}
	w := watcher{
		look: func() (survey, error) {
			select {
			case s := <-addr:
				return s, nil
			default:
				return survey{}, nil
			}
		},
		clock: clock, tell: func(c Change) { told <- c }, awake: clock(),
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { w.run(ctx, nil); close(ended) }()
	expect(t, told, "new: link eth0")
	expect(t, told, "gone: link eth0")
	cancel()
	<-ended
}
