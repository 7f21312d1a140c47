package node

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/wire"
)

func TestAnOfferStandsAndFallsOnlyWithWhatLasts(t *testing.T) {
	const here, there = "/ip4/8.8.8.8/tcp/4001", "/ip4/8.8.8.8/udp/4001/quic-v1"
	type step struct {
		after time.Duration
		addr  string
	}
	for name, c := range map[string]struct {
		steps []step
		want  []string // "time: what was called"
	}{
		"never reachable":             {[]step{{0, ""}, {time.Hour, ""}}, nil},
		"reachable":                   {[]step{{0, here}}, []string{"1m0s: " + here}},
		"for half a minute":           {[]step{{0, here}, {30 * time.Second, ""}}, nil},
		"again and again, but apart":  {[]step{{0, here}, {50 * time.Second, ""}, {50 * time.Second, here}, {50 * time.Second, ""}}, nil},
		"confirmed again meanwhile":   {[]step{{0, here}, {50 * time.Second, there}}, []string{"1m0s: " + there}},
		"no longer reachable":         {[]step{{0, here}, {5 * time.Minute, ""}}, []string{"1m0s: " + here, "7m0s: "}},
		"unreachable for one test":    {[]step{{0, here}, {5 * time.Minute, ""}, {time.Minute, here}}, []string{"1m0s: " + here}},
		"unreachable, then reachable": {[]step{{0, here}, {5 * time.Minute, ""}, {10 * time.Minute, there}}, []string{"1m0s: " + here, "7m0s: ", "16m0s: " + there}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				public, began := make(chan string), time.Now()
				var got []string
				done := make(chan struct{})
				go func() {
					defer close(done)
					hysteresis{}.follow(public, func(addr string) { got = append(got, time.Since(began).String()+": "+addr) })
				}()
				for _, s := range c.steps {
					time.Sleep(s.after)
					public <- s.addr
				}
				time.Sleep(time.Hour)
				close(public)
				<-done
				if !slices.Equal(got, c.want) {
					t.Errorf("served %q, want %q", got, c.want)
				}
			})
		})
	}
}

// reach has AutoNAT say what it has found.
func (n *testNode) reach(addrs ...ma.Multiaddr) {
	n.t.Helper()
	said, err := n.host.EventBus().Emitter(new(event.EvtHostReachableAddrsChanged))
	if err != nil {
		n.t.Fatal(err)
	}
	defer said.Close()
	if err := said.Emit(event.EvtHostReachableAddrsChanged{Reachable: addrs}); err != nil {
		n.t.Fatal(err)
	}
}

func (n *testNode) speaksHop() bool {
	return slices.Contains(n.host.Mux().Protocols(), protocol.ID(proto.ProtoIDv2Hop))
}

func TestADonorThatCanBeReachedRelaysForOthersBesideItsWork(t *testing.T) {
	relay := startNode(t, Config{Relay: true})
	public := startNode(t, Config{Bootstrap: []string{relay.addr("tcp")}, offer: hysteresis{time.Millisecond, time.Millisecond}})
	circuit := public.through(relay)
	if public.speaksHop() {
		t.Fatal("it relays before anybody has reached it")
	}
	public.reach(ma.StringCast("/ip4/8.8.8.8/tcp/4001"))
	began := public.awaitEvent("the offer", func(ev wire.Event) bool { return ev.Kind == wire.RelayServing })
	if began.Outcome != wire.OK || !strings.Contains(began.Detail, "/ip4/8.8.8.8/tcp/4001") {
		t.Errorf("event: %+v", began)
	}
	donor := startNode(t, Config{Bootstrap: []string{public.addr("tcp")}})
	addr := donor.through(public)
	if strings.Count(addr, "p2p-circuit") != 1 || strings.Contains(addr, relay.host.ID().String()) {
		t.Errorf("the address through it is %s", addr)
	}
	s := public.status()
	if s.Role != "donor" || s.Serving == nil || s.Serving.Reservations != 1 || s.Serving.Limits != donorLimits() {
		t.Errorf("status: role %s, serving %+v", s.Role, s.Serving)
	}
	if !slices.Contains(s.CircuitAddrs, circuit) || !slices.Contains(s.Addrs, circuit) {
		t.Errorf("its own way through the relay is gone: %v, %v", s.CircuitAddrs, s.Addrs)
	}

	public.reach()
	public.awaitEvent("its end", func(ev wire.Event) bool { return ev.Kind == wire.RelayServing && ev.Outcome == wire.Aborted })
	donor.awaitEvent("the reservation lost", func(ev wire.Event) bool { return ev.Kind == wire.ReservationLost })
	if s := public.status(); public.speaksHop() || s.Serving != nil || len(s.Reservations) > 0 {
		t.Errorf("it still relays: %+v, %+v", s.Serving, s.Reservations)
	}

	public.reach(ma.StringCast("/ip4/8.8.8.8/tcp/4001"))
	await(t, "a second offer, and the donor back", func() bool {
		return len(donor.kind(wire.ReservationMade)) == 2 && len(public.relay.held()) == 1
	})
}

func TestADonorThatDoesNotWantToRelayDoesNot(t *testing.T) {
	n := startNode(t, Config{NoRelay: true, offer: hysteresis{time.Nanosecond, time.Nanosecond}})
	n.reach(ma.StringCast("/ip4/8.8.8.8/tcp/4001"))
	await(t, "the news to arrive", func() bool { return n.self.reachability() == reachPublic })
	time.Sleep(50 * time.Millisecond)
	if n.speaksHop() {
		t.Error("it relays")
	}
}
