package main

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/inventory"
	"github.com/worldcompute/wce2e/node/wire"
)

// relayLosses is how often a relay is lost in each way.
const relayLosses = 20

// BenchmarkRelayLost times how long a donor has one reservation less than it
// wants, after a relay was ended in order (its connections close) and after its
// cable was pulled (nothing tells). The donor holds two of three relays, and so stays
// reachable meanwhile.
func BenchmarkRelayLost(b *testing.B) {
	for _, network := range []string{"home", "institutional"} {
		for _, how := range []string{"closed", "unplugged"} {
			b.Run(network+"/"+how, func(b *testing.B) {
				for b.Loop() {
					took := loseRelays(b, network, how)
					slices.Sort(took)
					b.ReportMetric(took[len(took)/2].Seconds()*1000, "ms-p50")
					b.ReportMetric(took[len(took)*95/100].Seconds()*1000, "ms-p95")
					b.ReportMetric(took[len(took)-1].Seconds()*1000, "ms-max")
				}
				b.ReportMetric(0, "ns/op") // says nothing here
			})
		}
	}
}

func loseRelays(b *testing.B, profile, how string) []time.Duration {
	l := &inventory.Lab{
		Latency:  10 * time.Millisecond,
		Networks: []inventory.LabNetwork{{Name: "core", Profile: "open"}, {Name: "net", Profile: profile}},
		Hosts:    []inventory.LabHost{{Name: "donor", Network: "net"}},
	}
	relays := map[string]*daemon{} // by peer ID
	for i := range 3 {
		l.Hosts = append(l.Hosts, inventory.LabHost{Name: fmt.Sprintf("relay%d", i), Network: "core"})
	}
	f := newFleet(b, l)
	var list []string
	for i := range 3 {
		s := f.ship(fmt.Sprintf("relay%d", i))
		d, addrs := s.relay("relay")
		relays[s.identity("relay")] = d
		list = append(list, addrs...)
	}
	donor := f.ship("donor").start("donor", bootstraps(list...)...)
	two := func(st wire.Status) bool { return len(st.Relays) == 2 }
	var took []time.Duration
	for range relayLosses {
		st, err := donor.await("two reservations", time.Minute, two)
		if err != nil {
			b.Fatal(err)
		}
		time.Sleep(3 * time.Second) // so that the third relay has been tried, or is about to be
		held := st.Relays[0].PeerID
		took = append(took, loseRelay(b, f, donor, relays, held, how))
	}
	return took
}

// loseRelay takes one relay away, waits for another reservation, and brings it
// back.
func loseRelay(b *testing.B, f *fleet, donor *daemon, relays map[string]*daemon, held, how string) time.Duration {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	relay := relays[held]
	lost := time.Now().UTC()
	back := func() { relays[held], _ = relay.ship.relay("relay") }
	if how == "closed" {
		relay.terminate()
	} else {
		if err := f.lab.Unplug(ctx, relay.ship.name); err != nil {
			b.Fatal(err)
		}
		back = func() {
			if err := f.lab.Plug(ctx, relay.ship.name); err != nil {
				b.Fatal(err)
			}
		}
	}
	defer back()
	made := donor.next(b, "another reservation", wire.ReservationMade, lost, func(e wire.Event) bool { return !e.Renewal && e.Relay != held })
	// A path that comes back before it is given up keeps its reservation.
	donor.next(b, "the end of the reservation", wire.ReservationLost, lost, func(e wire.Event) bool { return e.Relay == held })
	return made.Sub(lost)
}

// next waits for an event after then, and gives its time.
func (d *daemon) next(b *testing.B, what string, kind wire.Kind, then time.Time, fits func(wire.Event) bool) time.Time {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		for _, e := range d.of(kind) {
			if e.Time.After(then) && fits(e) {
				return e.Time
			}
		}
	}
	b.Fatalf("%s: %s did not come within a minute", d.ship.name, what)
	return time.Time{}
}
