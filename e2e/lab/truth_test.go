//go:build linux

package lab

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/nftables"
)

func truthOf(t *testing.T, name string) Truth {
	t.Helper()
	p, err := profileNamed(name)
	if err != nil {
		t.Fatal(err)
	}
	return p.Truth
}

func TestEveryProfileHasATruth(t *testing.T) {
	for _, p := range Profiles() {
		if len(p.Truth.Ways) == 0 && p.Truth.Verdicts["reservation"] != failed {
			t.Errorf("%s: no way out, and yet a reservation", p.Name)
		}
		for _, w := range p.Truth.Ways {
			if !slices.Contains(everyWay, w) {
				t.Errorf("%s: %q is no way to a relay", p.Name, w)
			}
		}
		for _, w := range p.Truth.Direct {
			if !slices.Contains(p.Truth.Ways, w) {
				t.Errorf("%s: direct by %s, by which no relay is reached", p.Name, w)
			}
		}
		hindered := len(p.Truth.Ways) < len(everyWay) || len(p.Truth.Direct) < len(punched)
		if hindered && len(p.Truth.Causes) == 0 {
			t.Errorf("%s: something is in the way, and nothing is its cause", p.Name)
		}
	}
}

func TestTheTruthOfAComposedProfileFollowsFromItsParts(t *testing.T) {
	for name, want := range map[string]Truth{
		"symmetric + udp-blocked":           {Ways: tcpWays, Causes: []Cause{NATPerDestination, UDPBlocked}},
		"udp-blocked + dpi-multistream-rst": {Ways: webWays, Causes: []Cause{MultistreamBlocked, UDPBlocked}},
		"udp-blocked + quic-blocked":        {Ways: tcpWays, Direct: []string{wayTCP}, Causes: []Cause{QUICBlocked, UDPBlocked}},
		"full-cone + udp-blocked": {Ways: tcpWays, Direct: []string{wayTCP}, Causes: []Cause{UDPBlocked},
			Verdicts: map[string]string{"firewall": inconclusive}},
		// No port is opened that nothing leaves by.
		"full-cone + institutional": {Ways: webWays, Causes: []Cause{TCPPortsBlocked, UDPBlocked}},
		"blocked + nat-rebind":      {Verdicts: isolated, Causes: []Cause{AllBlocked, NATRebinds}, Events: rebound.Events, Severs: tcpWays},
		// A provider's router lets nobody in to what is open behind it.
		"double-nat + port-forward": {Ways: everyWay, Direct: punched, Causes: []Cause{NATNoHairpin}},
		"home + dns-hijack":         {Ways: everyWay, Direct: punched, Causes: []Cause{DNSLies, NATNoHairpin}},
		// Only where there is a public side that is one for all.
		"hairpin + dns-hijack":   {Ways: everyWay, Direct: punched, Causes: []Cause{DNSLies}},
		"no-hairpin + symmetric": {Ways: everyWay, Causes: []Cause{NATPerDestination}},
	} {
		got := truthOf(t, name)
		got.holes, got.inner = nil, false
		if len(got.Direct) == 0 {
			got.Direct = nil
		}
		if len(got.Ways) == 0 {
			got.Ways = nil
		}
		if len(got.Events) == 0 {
			got.Events = nil
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, want)
		}
	}
}

func TestOfTwoTruthsTheWorseOneHolds(t *testing.T) {
	a := Truth{Ways: everyWay, Lifetime: 5 * time.Minute, Verdicts: map[string]string{"hold": failed, "firewall": inconclusive},
		Events: []Event{{9 * time.Second, "reboot-router"}}}
	b := Truth{Ways: everyWay, Lifetime: 0, Verdicts: map[string]string{"hold": inconclusive, "job": failed},
		Events: []Event{{2 * time.Second, "login"}, {9 * time.Second, "reboot-router"}}}
	for _, got := range []Truth{a.with(b), b.with(a)} {
		if want := map[string]string{"hold": failed, "firewall": inconclusive, "job": failed}; !reflect.DeepEqual(got.Verdicts, want) {
			t.Errorf("verdicts %v, want %v", got.Verdicts, want)
		}
		if got.Lifetime != 5*time.Minute {
			t.Errorf("a connection lasts %s", got.Lifetime)
		}
		if want := []Event{{2 * time.Second, "login"}, {9 * time.Second, "reboot-router"}}; !reflect.DeepEqual(got.Events, want) {
			t.Errorf("events %v, want %v", got.Events, want)
		}
	}
	b.Lifetime = time.Minute
	if got := a.with(b).Lifetime; got != time.Minute {
		t.Errorf("the shorter lifetime is %s", got)
	}
	if a.Verdicts["job"] != "" {
		t.Error("composing two truths changes one of them")
	}
}

func TestTimersAreAsLongAsTheProfileSaysWhereNothingIsProven(t *testing.T) {
	for name, want := range map[string][2]time.Duration{"udp-idle-15s": {15 * time.Second, 0}, "tcp-idle-30s": {0, 30 * time.Second}, "home": {}} {
		p, err := profileNamed(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, proving := range []bool{false, true} {
			f := newFirewall(new(nftables.Conn), surroundings{}) // which is never sent
			f.proving = proving
			p.apply(f)
			if proving {
				want = [2]time.Duration{min(want[0], provingTimer), min(want[1], provingTimer)}
			}
			if got := [2]time.Duration{f.idleUDP, f.idleTCP}; got != want {
				t.Errorf("%s, proving %t: flows are forgotten after %v, want %v", name, proving, got, want)
			}
		}
	}
}
