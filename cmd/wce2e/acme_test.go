package main

import (
	"slices"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/inventory"
	"github.com/worldcompute/wce2e/node/wire"
)

// certifiedWithin is for an order, the authority's dial back, and the certificate.
const certifiedWithin = time.Minute

func TestARelayGetsACertificateByWhichDonorsPassStrictInspection(t *testing.T) {
	f := newFleet(t, &inventory.Lab{
		Latency:  10 * time.Millisecond,
		Networks: []inventory.LabNetwork{{Name: "core", Profile: "open"}, {Name: "office", Profile: "tls-intercept-strict"}},
		Hosts:    []inventory.LabHost{{Name: "relay1", Network: "core"}, {Name: "desk", Network: "office"}},
	})
	const name = "relay1.mesh.wce2e.net"
	relay, _ := f.ship("relay1").relay("relay", "--domain", name, "--acme-directory", "https://acme.mesh.wce2e.net/dir")
	self := f.ship("relay1").identity("relay")
	address := "/dns4/" + name + "/tcp/443/tls/ws/p2p/" + self
	if _, err := relay.await("name among its addresses", certifiedWithin, func(st wire.Status) bool { return slices.Contains(st.Addrs, address) }); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	donor := f.ship("desk").start("donor", "--bootstrap", address)
	st, err := donor.await("reservation", getOutWithin, func(st wire.Status) bool { return reserved(st) && st.Way != nil })
	if err != nil {
		t.Fatal(err)
	}
	inspected := slices.ContainsFunc(st.Relays, func(r wire.RelayStatus) bool { return r.Inspected != nil && *r.Inspected })
	if st.Way.Transport != "wss" || !inspected {
		t.Errorf("it got out over %s, inspected: %t", st.Way.Transport, inspected)
	}
	t.Logf("it got out after %s: %s", time.Since(began).Round(time.Millisecond), st.Way.Addr)
}
