package check

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/netcheck"
	"github.com/worldcompute/wce2e/node/wire"
)

const donorEgress = "91.10.0.2" // of the recorded reports

// arrives has the relay tell of a connection that was reset, so long after the look
// at the donor's network began.
func (s *story) arrives(r netcheck.Report, after time.Duration, from string) {
	const lasted = 5 * time.Millisecond
	began := r.Began.Add(-donorOffset) // on the suite's clock
	s.says(began.Add(after+lasted).Sub(epoch), relayName, wire.Event{
		Kind: wire.ArrivalFailed, Local: "/ip4/91.13.0.2/tcp/4001", Remote: "/ip4/" + from + "/tcp/49000", Transport: "tcp",
		Sent: 20, MS: 5, Failure: string(netcheck.Reset), Err: "read: connection reset by peer",
	})
}

func arrivalsOf(t *testing.T, s *story) []netcheck.Arrival {
	t.Helper()
	list := Networks(s.input(t))
	if len(list) != 1 {
		t.Fatalf("diagnosed: %+v", list)
	}
	return list[0].Report.Arrivals
}

func TestWhatArrivedAtTheRelayIsPutBesideWhatTheDonorSaw(t *testing.T) {
	var r netcheck.Report
	if err := json.Unmarshal(recorded(t, "dpi-multistream-rst"), &r); err != nil {
		t.Fatal(err)
	}
	s := diagnosis(t, "dpi-multistream-rst", "open")
	s.arrives(r, 120*time.Millisecond, donorEgress)
	list := arrivalsOf(t, s)
	if len(list) != 1 {
		t.Fatalf("%d arrivals: %+v", len(list), list)
	}
	a := list[0]
	if a.Host != relayName || a.Peer != relayID || a.Local != "91.13.0.2:4001" || a.Remote != donorEgress+":49000" || a.Failure != netcheck.Reset ||
		math.Abs(a.T0-0.12) > 1e-6 || a.T != 0.005 || math.Abs(a.Within-2.022) > 1e-6 || a.Received != 0 || a.Sent != 20 || a.Error == "" {
		t.Errorf("%+v", a)
	}
	for _, f := range Networks(s.input(t))[0].Diagnosis.Causes {
		if f.Cause == netcheck.MultistreamKilled && (f.Confidence != netcheck.Certain || !strings.Contains(f.Sentence, "Neither end")) {
			t.Errorf("%+v", f)
		}
	}
}

func TestOnlyWhatTheDonorMayHaveSentIsItsArrival(t *testing.T) {
	r := netcheck.Report{Version: netcheck.ReportVersion, Began: epoch.Add(donorOffset + 20*time.Second), Records: []netcheck.Record{
		{Operation: netcheck.Datagram, Proto: "stun", Facts: netcheck.Facts{Observed: donorEgress + ":5000"}},
	}}
	r.Ended = r.Began.Add(10 * time.Second)
	told := func(after time.Duration, from string) int {
		s := diagnosis(t, "open", "")
		report, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		s.each(func(it *item) bool {
			if it.name == evidence.NetProbed {
				it.data.(*evidence.NetworkProbe).Report = report
			}
			return true
		})
		s.arrives(r, after, from)
		return len(arrivalsOf(t, s))
	}
	for _, c := range []struct {
		after time.Duration
		from  string
		want  int
	}{
		{time.Second, donorEgress, 1}, // as STUN sees it
		{time.Second, donorIP, 1},     // as the relay saw its node
		{time.Second, submitterIP, 0},
		{-3 * time.Second, donorEgress, 0},
		{13 * time.Second, donorEgress, 0},
		{11 * time.Second, donorEgress, 1}, // clocks differ
	} {
		if n := told(c.after, c.from); n != c.want {
			t.Errorf("of %s after %v: %d arrivals, want %d", c.from, c.after, n, c.want)
		}
	}
}
