package main

import (
	"strings"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/inventory"
	"github.com/worldcompute/wce2e/node/wire"
)

func TestADonorJoinsFromANetworkWithoutIPv4(t *testing.T) {
	f := newFleet(t, &inventory.Lab{
		Latency:  10 * time.Millisecond,
		Networks: []inventory.LabNetwork{{Name: "core", Profile: "open"}, {Name: "home", Profile: "home"}, {Name: "carrier", Profile: "ipv6-only-nat64"}},
		Hosts: []inventory.LabHost{{Name: "relay1", Network: "core"}, {Name: "laptop", Network: "home"},
			{Name: "phone", Network: "carrier"}, {Name: "tablet", Network: "carrier"}},
	})
	_, addrs := f.ship("relay1").relay("relay")
	self := f.ship("laptop").identity("submitter")
	submitter := f.ship("laptop").start("submitter", bootstraps(addrs...)...)
	var names []string
	for _, a := range addrs {
		_, rest, _ := strings.Cut(strings.TrimPrefix(a, "/ip4/"), "/")
		names = append(names, "/dns/relay1.mesh.wce2e.net/"+rest)
	}
	for host, list := range map[string][]string{"phone": names, "tablet": addrs} {
		donor := f.ship(host).start("donor", append(bootstraps(list...), "--allow", self)...)
		st, err := donor.await("reservation", getOutWithin, func(st wire.Status) bool { return reserved(st) && st.Way != nil })
		if err != nil {
			t.Errorf("%s, which was told %v: %v", host, list, err)
			continue
		}
		t.Logf("%s: %s %s after %.0f ms", host, st.Way.Transport, st.Way.Addr, st.Way.TookMS)
		if first := st.CircuitAddrs[0]; !strings.HasPrefix(first, "/ip4/") {
			t.Errorf("%s tells the world of %s, which leads out of its own network only", host, first)
		}
		if err := submitter.job(st.CircuitAddrs[0]); err != nil {
			t.Error(err)
		}
	}
}
