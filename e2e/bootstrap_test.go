package e2e

import (
	"slices"
	"testing"

	"github.com/worldcompute/wce2e/node/wire"
)

func TestWithoutRelaysInTheInventoryNodesStartFromTheBuiltInList(t *testing.T) {
	if got := bootstrapOf(nil); !slices.Equal(got, []string{"builtin"}) {
		t.Errorf("nodes start from %q", got)
	}
	listed := []string{"/dnsaddr/bootstrap.example.net"}
	if got := bootstrapOf(listed); !slices.Equal(got, listed) {
		t.Errorf("nodes start from %q, listed is %q", got, listed)
	}
}

func TestOfReservationsTheOneThatHasStoodTheLongestCounts(t *testing.T) {
	made := func(relay, conn string) []wire.Event {
		return []wire.Event{
			{Kind: wire.ReservationMade, Relay: relay, Conn: conn},
			{Kind: wire.ListenAddr, Relay: relay, Addr: "/p2p/" + relay + "/p2p-circuit/p2p/D"},
		}
	}
	a, b := made("A", "c1"), made("B", "c2")
	limited := made("L", "c3")
	limited[0].LimitBytes = 128 << 10
	for name, c := range map[string]struct {
		events []wire.Event
		want   string // the relay; empty: none
	}{
		"none":                                {nil, ""},
		"one":                                 {a, "A"},
		"one without an address":              {a[:1], ""},
		"the former of two":                   {slices.Concat(a, b), "A"},
		"the former, though it was renewed":   {slices.Concat(a, b, a[:1]), "A"},
		"the other, when it was made anew":    {slices.Concat(a, b, made("A", "c4")), "B"},
		"the other, when the former is lost":  {slices.Concat(a, b, []wire.Event{{Kind: wire.ReservationLost, Relay: "A"}}), "B"},
		"the other, when its connection goes": {slices.Concat(a, b, []wire.Event{{Kind: wire.ConnClosed, Conn: "c1"}}), "B"},
		"a limited one":                       {limited, "L"},
		"one without limits":                  {slices.Concat(limited, a), "A"},
		"none, when the address is gone":      {slices.Concat(a, []wire.Event{{Kind: wire.ListenClosed, Relay: "A", Addr: a[1].Addr}}), ""},
	} {
		t.Run(name, func(t *testing.T) {
			now, ok := reservation(c.events)
			if now.relay != c.want || ok != (c.want != "") {
				t.Errorf("%+v, %v; want %q", now, ok, c.want)
			}
			if ok && len(now.circuits) == 0 {
				t.Error("a reservation without a circuit address")
			}
		})
	}
}
