package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/worldcompute/wce2e/evidence"
)

// shipped is the text of an inventory in the folder of them.
func shipped(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repoRoot, "inventory", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// faultsDone lists what a bundle says was done on purpose.
func faultsDone(t testing.TB, b *evidence.Bundle) (list []evidence.Fault) {
	t.Helper()
	for _, e := range b.Events {
		if e.Name != evidence.FaultDone {
			continue
		}
		var f evidence.Fault
		if err := json.Unmarshal(e.Data, &f); err != nil {
			t.Fatal(err)
		}
		list = append(list, f)
	}
	return list
}

// wantsFaults fails the test unless these things, in this order, were done.
func (o outcome) wantsFaults(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for _, f := range faultsDone(t, o.bundle) {
		got = append(got, f.Fault)
	}
	if !slices.Equal(got, want) {
		t.Errorf("done on purpose: %q, want %q\n%s", got, want, o.stderr)
	}
}

// exceptHold has every claim pass but the one that a fault is there to fail.
func exceptHold() map[evidence.Claim]evidence.Verdict {
	want := allPass()
	want[evidence.HoldClaim] = evidence.Fail
	return want
}

func TestADonorComesBackFromWhatGoesWrongEveryDay(t *testing.T) {
	t.Parallel()
	got := acceptance(t, shipped(t, "faults.yaml"))
	got.wants(t, exitFail, exceptHold())
	got.wantsFaults(t, "restart", "unplug", "plug", "reboot-router", "readdress")
	for _, says := range []string{"after restart of the node on relay", "tensor02 made a reservation at relay"} {
		if seen := got.observed(evidence.HoldClaim); !strings.Contains(seen, says) {
			t.Errorf("the hold does not say %q: %s", says, seen)
		}
	}
}

func TestADonorIsCarriedFromNetworkToNetwork(t *testing.T) {
	t.Parallel()
	got := acceptance(t, shipped(t, "roaming.yaml"))
	got.wants(t, exitFail, exceptHold())
	got.wantsFaults(t, "login", "roam", "set-profile", "roam")
	if seen := got.observed(evidence.Reservation); !strings.Contains(seen, "after login of laptop at its captive portal, laptop made a reservation") {
		t.Errorf("reservation: %s", seen)
	}
	if seen := got.observed(evidence.Circuit); !strings.Contains(seen, "After the hold, laptop is on the network cafe, desktop on house.") {
		t.Errorf("circuit: %s", seen)
	}
	for _, f := range faultsDone(t, got.bundle) {
		if seen := got.observed(evidence.Circuit); f.Fault == evidence.FaultRoam && !strings.Contains(seen, f.Addr) {
			t.Errorf("nobody saw the donor at %s, in %s: %s", f.Addr, f.To, seen)
		}
	}
}
