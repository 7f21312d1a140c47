package main

import (
	"slices"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/e2e/lab"
	"github.com/worldcompute/wce2e/inventory"
	"github.com/worldcompute/wce2e/node/netcheck"
)

// aboutNAT are the causes that are the NAT's.
var aboutNAT = []netcheck.Cause{netcheck.NATPerDestination, netcheck.NATNoHairpin, netcheck.UDPTimeout}

// behindNATs are networks whose NATs differ. Silence is looked at by the patient only;
// one on the open internet is what it is compared with. What remembers flows for 15 s
// and more is not among them: relays say something every 15 s.
var behindNATs = []netchecked{
	{profile: "open", patient: true}, {profile: "home"}, {profile: "full-cone"}, {profile: "address-restricted"}, {profile: "symmetric"},
	{profile: "cgnat-ports"}, {profile: "nat-pool"}, {profile: "nat-rebind"}, {profile: "double-nat"}, {profile: "cloud-1to1"},
	{profile: "no-hairpin"}, {profile: "hairpin"}, {profile: "upnp"}, {profile: "ipv6-stateful"}, {profile: "doh-only"}, {profile: "dns-hijack"},
	{profile: "udp-blocked"}, {profile: "home", patient: true}, {profile: "udp-idle-8s", patient: true},
}

func TestOneLookAtANetworkTellsWhatItsNATDoes(t *testing.T) {
	l := &inventory.Lab{
		Latency:  10 * time.Millisecond,
		Networks: []inventory.LabNetwork{{Name: "core", Profile: "open"}},
		Hosts:    []inventory.LabHost{{Name: "relay1", Network: "core"}},
	}
	for _, n := range behindNATs {
		l.Networks = append(l.Networks, inventory.LabNetwork{Name: n.name(), Profile: n.profile})
		l.Hosts = append(l.Hosts, inventory.LabHost{Name: n.name(), Network: n.name()})
	}
	f := newFleet(t, l)
	_, list := f.ship("relay1").relay("relay")
	reports, errs := f.netcheckAll(behindNATs, list)
	for i, n := range behindNATs {
		t.Run(n.name(), func(t *testing.T) {
			noErr(t, errs[i])
			r := reports[i]
			r.Controls = []netcheck.Control{{Host: "open", Records: reports[0].Records}}
			got, want := natCauses(r), n.natTruth(t)
			if !slices.Equal(got, want) {
				t.Errorf("found %v, want %v", got, want)
			}
			for _, rec := range r.Records {
				switch rec.Operation {
				case netcheck.Mapping, netcheck.Hairpin, netcheck.Keepalive:
					t.Logf("#%d %s %s %s %s: observed %s, arrived %d, %s", rec.Transaction, rec.Transport, rec.Operation, rec.Proto, rec.Addr, rec.Facts.Observed, rec.Facts.Arrived, rec.Error)
				}
			}
		})
	}
}

func natCauses(r netcheck.Report) (list []netcheck.Cause) {
	found := netcheck.Diagnose(r).Causes
	for _, c := range aboutNAT {
		if slices.ContainsFunc(found, func(f netcheck.Finding) bool { return f.Cause == c }) {
			list = append(list, c)
		}
	}
	return list
}

// natTruth is what the lab says of the profile, as far as it can be seen.
func (n netchecked) natTruth(t *testing.T) (list []netcheck.Cause) {
	t.Helper()
	p, err := lab.ProfileNamed(n.profile)
	noErr(t, err)
	for _, c := range aboutNAT {
		if slices.Contains(p.Truth.Causes, string(c)) && (n.patient || c != netcheck.UDPTimeout) {
			list = append(list, c)
		}
	}
	return list
}
