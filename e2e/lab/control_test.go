//go:build linux

package lab

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestABlockIsLiftedAndComesBack(t *testing.T) {
	t.Parallel()
	i := behind(t, "blocked")
	h := i.behind(t, "blocked")
	i.wantTCP(t, h, "4001", false)
	i.setProfile(t, "blocked", "home")
	f := i.connect(t, h, "4001")
	if err := f.alive(); err != nil {
		t.Errorf("the block is lifted: %v", err)
	}
	i.setProfile(t, "blocked", "dartmouth")
	if err := f.alive(); err != nil {
		t.Errorf("a flow that dartmouth lets pass: %v", err)
	}
	if err := f.near.lost(f.far, plainHandshake); err != nil {
		t.Errorf("one that it does not: %v", err)
	}
	i.setProfile(t, "blocked", "udp-idle-15s + pmtu-blackhole")
	if err := f.near.lost(f.far, strings.Repeat("x", 1300)); err != nil {
		t.Errorf("a long segment on a short link: %v", err)
	}
	i.setProfile(t, "blocked", "home")
	if got := i.stream(t, h, 0, 4<<10); got != 4<<10 {
		t.Errorf("%d of %d bytes arrived: the link is still short", got, 4<<10)
	}
	i.setProfile(t, "blocked", "blocked")
	i.wantTCP(t, h, "4001", false)
}

func (i *internet) setProfile(t *testing.T, network, profile string) {
	t.Helper()
	if err := i.lab.SetProfile(t.Context(), network, profile); err != nil {
		t.Fatal(err)
	}
}

func TestOrdersThatCannotBeCarriedOutComeBack(t *testing.T) {
	t.Parallel()
	l := bring(t, Config{Lab: small()})
	ctx := t.Context()
	_, traffic := l.Traffic(ctx, "nobody")
	_, readdress := l.Readdress(ctx, "core")
	for want, err := range map[string]error{
		"set the profile of moon: there is no network of this name":       l.SetProfile(ctx, "moon", "home"),
		"set the profile of core: there is no network":                    l.SetProfile(ctx, "core", "home"),
		`set the profile of campus: unknown profile "moon"`:               l.SetProfile(ctx, "campus", "home + moon"),
		"set the profile of campus: open is a network without a router":   l.SetProfile(ctx, "campus", "open"),
		"set the profile of campus: ipv6-broken needs IPv6":               l.SetProfile(ctx, "campus", "ipv6-broken"),
		"rebind core: there is no network of this name that has a router": l.Rebind(ctx, "core"),
		"readdress core: there is no network":                             readdress,
		"unplug nobody: there is no host of this name":                    l.Unplug(ctx, "nobody"),
		"plug in nobody: there is no host":                                l.Plug(ctx, "nobody"),
		"count the traffic of nobody: there is no host":                   traffic,
	} {
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if err := l.Rebind(cancelled, "campus"); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits: %v", err)
	}
	if err := l.Rebind(ctx, "campus"); err != nil {
		t.Errorf("after all these: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Rebind(ctx, "campus"); err == nil {
		t.Error("a lab that has ended obeys")
	}
}

func TestAnUnpluggedHostIsSilentAndDoesNotKnow(t *testing.T) {
	t.Parallel()
	i := behind(t, "home")
	h := i.behind(t, "home")
	f, u := i.connect(t, h, "4001"), i.datagrams(t, h, "443")
	for _, host := range []string{"home", "relay1"} {
		if err := errors.Join(f.alive(), u.alive()); err != nil {
			t.Fatalf("before %s is unplugged: %v", host, err)
		}
		// What a router kept for a host that did not answer comes late.
		for h.ask(order{Do: "read", ID: u.near.id, Timeout: silence}).Err == "" {
		}
		up := i.relay2.do(order{Do: "flags"}).Data
		if err := i.lab.Unplug(t.Context(), host); err != nil {
			t.Fatal(err)
		}
		for what, err := range map[string]error{"from it": u.near.lost(u.far, "a question"), "to it": u.far.lost(u.near, "an answer"), "over TCP": f.near.lost(f.far, "a question")} {
			if err != nil {
				t.Errorf("%s is unplugged, %s: %v", host, what, err)
			}
		}
		for _, at := range []*hand{h, i.relay1} {
			if flags := at.do(order{Do: "flags"}).Data; string(flags) != string(up) || !strings.Contains(string(flags), "running") {
				t.Errorf("%s is unplugged, and the interface of %s is %s", host, at.name, flags)
			}
		}
		if err := i.lab.Plug(t.Context(), host); err != nil {
			t.Fatal(err)
		}
		if got := i.relay1.ask(order{Do: "read", ID: f.far.id, Timeout: patience}); string(got.Data) != "a question" {
			t.Errorf("%s is plugged in again; what TCP sends again: %q %s", host, got.Data, got.Err)
		}
	}
	if a := i.relay2.ask(order{Do: "dial", Network: "tcp4", Addr: i.addr("relay1", "80"), Timeout: time.Second}); a.Err != "" {
		t.Errorf("others at the core: %s", a.Err)
	}
}

func TestANetworkGetsAnotherAddress(t *testing.T) {
	t.Parallel()
	i := behind(t, "home", "nat-rebind")
	for _, network := range []string{"home", "nat-rebind"} {
		h := i.behind(t, network)
		u, f := i.datagrams(t, h, "4001"), i.connect(t, h, "443")
		if err := errors.Join(u.alive(), f.alive()); err != nil {
			t.Fatal(err)
		}
		addr, err := i.lab.Readdress(t.Context(), network)
		if err != nil {
			t.Fatal(err)
		}
		if old := i.lab.host(t, network).Egress; addr == old || !addr.IsValid() {
			t.Errorf("the new address of %s is %s, the old one %s", network, addr, old)
		}
		if err := u.far.says(u.near, "an answer"); err == nil {
			t.Errorf("%s is still at its old address", network)
		}
		if err := f.far.says(f.near, "an answer"); err == nil {
			t.Errorf("TCP to the old address of %s arrives", network)
		}
		u = i.datagrams(t, h, "4001")
		if from := netip.MustParseAddrPort(u.far.peer).Addr(); from != addr {
			t.Errorf("%s is seen at %s, want %s", network, from, addr)
		}
		if err := u.alive(); err != nil {
			t.Errorf("at the new address: %v", err)
		}
	}
}

func TestTrafficIsWhatTheKernelCounted(t *testing.T) {
	t.Parallel()
	i := behind(t, "home")
	f := i.datagrams(t, i.behind(t, "home"), "4001")
	count := func(host string) Traffic {
		c, err := i.lab.Traffic(t.Context(), host)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	near, far := count("home"), count("relay1")
	const packets, size, headers = 20, 1000, 14 + 20 + 8
	for range packets {
		if err := f.near.says(f.far, strings.Repeat("x", size)); err != nil {
			t.Fatal(err)
		}
	}
	within := func(what string, got, want, slack uint64) {
		if got < want || got > want+slack {
			t.Errorf("%s: %d, want %d and at most %d more", what, got, want, slack)
		}
	}
	const arp = 500 // bytes of others' packets meanwhile
	near2, far2 := count("home"), count("relay1")
	within("packets sent", near2.SentPackets-near.SentPackets, packets, 5)
	within("bytes sent", near2.SentBytes-near.SentBytes, packets*(size+headers), arp)
	within("packets received", far2.ReceivedPackets-far.ReceivedPackets, packets, 5)
	within("bytes received", far2.ReceivedBytes-far.ReceivedBytes, packets*(size+headers), arp)
	within("bytes received by who only sent", near2.ReceivedBytes-near.ReceivedBytes, 0, arp)
}
