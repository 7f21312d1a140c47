package e2e

import (
	"testing"
	"time"

	"github.com/worldcompute/wce2e/inventory"
	"github.com/worldcompute/wce2e/node/wire"
)

func TestAFaultThatEndsByItselfComesAsTwo(t *testing.T) {
	all := []inventory.Fault{
		{During: inventory.Join, After: time.Second, Do: inventory.Login, Host: "a"},
		{After: 2 * time.Second, Do: inventory.Unplug, Host: "a", For: 3 * time.Second},
		{After: 4 * time.Second, Do: inventory.Unplug, Host: "b"},
		{After: 9 * time.Second, Do: inventory.Restart, Host: "b"},
	}
	type step struct {
		at   time.Duration
		do   inventory.FaultKind
		host string
	}
	steps := func(during string) (list []step) {
		for _, f := range timed(all, during) {
			list = append(list, step{f.After, f.Do, f.Host})
		}
		return list
	}
	if got := steps(inventory.Join); len(got) != 1 || got[0] != (step{time.Second, inventory.Login, "a"}) {
		t.Errorf("joining: %v", got)
	}
	want := []step{{2 * time.Second, inventory.Unplug, "a"}, {4 * time.Second, inventory.Unplug, "b"}, {5 * time.Second, plug, "a"}, {9 * time.Second, inventory.Restart, "b"}}
	got := steps("")
	for i := range want {
		if len(got) != len(want) || got[i] != want[i] {
			t.Fatalf("in the hold: %v, want %v", got, want)
		}
	}
}

func TestAReservationDoesNotOutliveTheNodeThatMadeIt(t *testing.T) {
	made := func(boot, conn string) []wire.Event {
		return []wire.Event{
			{Kind: wire.NodeStarted, Boot: boot},
			{Kind: wire.ReservationMade, Boot: boot, Relay: "r", Conn: conn},
			{Kind: wire.ListenAddr, Boot: boot, Relay: "r", Addr: "/circuit/" + boot},
		}
	}
	first, _ := reservation(made("one", "c1"))
	killed := append(made("one", "c1"), wire.Event{Kind: wire.NodeStarted, Boot: "two"})
	if now, ok := reservation(killed); ok {
		t.Errorf("a node that has just been started holds %+v", now)
	}
	second, ok := reservation(append(made("one", "c1"), made("two", "c1")...))
	if !ok || second.boot != "two" || len(second.circuits) != 1 || second.circuits[0] != "/circuit/two" {
		t.Errorf("the second start holds %+v", second)
	}
	if second.same(first) {
		t.Error("the second start's reservation is taken for the first one's")
	}
}
