package main

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/inventory"
	"github.com/worldcompute/wce2e/node/wire"
	wasmfixtures "github.com/worldcompute/wce2e/wasm-fixtures"
)

// lentWithin is for the router to be found and asked, and for two relays to dial
// back what it has lent.
const lentWithin = 90 * time.Second

func TestADonorWhoseRouterLendsPortsIsReachedWithoutARelay(t *testing.T) {
	f := newFleet(t, &inventory.Lab{
		Latency:  10 * time.Millisecond,
		Networks: []inventory.LabNetwork{{Name: "core", Profile: "open"}, {Name: "home", Profile: "home"}, {Name: "house", Profile: "upnp"}},
		Hosts: []inventory.LabHost{{Name: "relay1", Network: "core"}, {Name: "relay2", Network: "core"},
			{Name: "laptop", Network: "home"}, {Name: "desktop", Network: "house"}},
	})
	_, addrs := f.ship("relay1").relay("relay")
	_, more := f.ship("relay2").relay("relay")
	laptop := f.ship("laptop")
	self := laptop.identity("submitter")
	list := bootstraps(slices.Concat(addrs, more)...)
	submitter := laptop.start("submitter", list...)
	donor := f.ship("desktop").start("donor", append(list, "--allow", self)...)
	var egress netip.Addr
	for _, h := range f.lab.Hosts {
		if h.Name == "desktop" {
			egress = h.Egress
		}
	}
	direct := func(st wire.Status) []string {
		return slices.DeleteFunc(slices.Clone(st.Addrs), func(a string) bool {
			return !strings.HasPrefix(a, "/ip4/"+egress.String()+"/")
		})
	}
	began := time.Now()
	st, err := donor.await("lent port", lentWithin, func(st wire.Status) bool {
		return st.Reachability == "public" && len(direct(st)) > 0
	})
	if err != nil {
		t.Fatalf("%v: it is %s, at %v", err, st.Reachability, st.Addrs)
	}
	t.Logf("reachable after %s at %v", time.Since(began).Round(time.Millisecond), direct(st))
	fixture, err := wasmfixtures.Get("sha256")
	if err != nil {
		t.Fatal(err)
	}
	task, err := fixture.Task(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range direct(st) {
		got, err := submitter.dispatch(to, task.Module, task.Input, time.Minute, "--path", "direct")
		if err != nil || got.Status != string(wire.Succeeded) || got.Path != wire.Direct {
			t.Errorf("job to %s: %s by the path %q: %s, %v", to, got.Status, got.Path, got.Error, err)
		}
	}
}
