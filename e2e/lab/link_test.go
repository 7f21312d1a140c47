//go:build linux

package lab

import (
	"strings"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/inventory"
)

// sent is a frame of 1500 bytes that a course was given.
type sent struct {
	at, due time.Time
	fate    fate
}

// feed sends n frames, so long apart, into the first direction of a link.
func feed(l link, n int, apart time.Duration) []sent {
	c, now := newCourse(0), time.Unix(0, 0)
	var list []sent
	for range n {
		due, f := c.takes(&l, 1500, now)
		list = append(list, sent{now, due, f})
		now = now.Add(apart)
	}
	return list
}

func count(list []sent, f fate) (n int) {
	for _, s := range list {
		if s.fate == f {
			n++
		}
	}
	return n
}

func TestALinkWithoutQualitiesDelaysAndNothingElse(t *testing.T) {
	for _, s := range feed(link{Link: inventory.Link{Delay: 10 * time.Millisecond}}, 1000, time.Microsecond) {
		if s.fate != arrives || s.due.Sub(s.at) != 10*time.Millisecond {
			t.Fatalf("a frame has fate %d after %s", s.fate, s.due.Sub(s.at))
		}
	}
}

func TestALinkLosesItsShareAndTheSameInEveryRun(t *testing.T) {
	for _, percent := range []float64{0.5, 5, 50} {
		l := link{Link: inventory.Link{Loss: percent}}
		const n = 100_000
		first, again := feed(l, n, time.Millisecond), feed(l, n, time.Millisecond)
		if got := 100 * float64(count(first, lost)) / n; got < percent*0.9 || got > percent*1.1 {
			t.Errorf("%g %% are lost in place of %g", got, percent)
		}
		for i := range first {
			if first[i] != again[i] {
				t.Fatalf("frame %d meets another fate the second time", i)
			}
		}
	}
	if n := count(feed(link{Link: inventory.Link{Loss: 100}}, 1000, 0), lost); n != 1000 {
		t.Errorf("100 %% are %d of 1000", n)
	}
	a, b := newCourse(0), newCourse(1)
	same := 0
	for range 1000 {
		if a.happens(50) == b.happens(50) {
			same++
		}
	}
	if same > 600 {
		t.Errorf("both directions lose the same: %d of 1000", same)
	}
}

func TestJitterVariesAndKeepsTheOrder(t *testing.T) {
	l := link{Link: inventory.Link{Delay: 50 * time.Millisecond, Jitter: 20 * time.Millisecond}}
	least, most := time.Hour, time.Duration(0)
	var last time.Time
	for _, s := range feed(l, 1000, 10*time.Millisecond) {
		took := s.due.Sub(s.at)
		least, most = min(least, took), max(most, took)
		if s.due.Before(last) {
			t.Fatal("a frame overtakes another one")
		}
		last = s.due
	}
	if least < 50*time.Millisecond || least > 51*time.Millisecond || most > 70*time.Millisecond || most < 69*time.Millisecond {
		t.Errorf("frames take %s to %s, want 50ms to 70ms", least, most)
	}
}

func TestARateIsKeptAndItsQueueEnds(t *testing.T) {
	for _, rate := range []int64{512_000, 10_000_000} {
		l := link{Link: inventory.Link{Rate: rate, Delay: time.Millisecond}}
		list := feed(l, 20_000, 100*time.Microsecond) // 120 Mbit/s for 2 s
		var end time.Time
		longest := time.Duration(0)
		for _, s := range list {
			if s.fate == arrives {
				end = s.due
				longest = max(longest, s.due.Sub(s.at))
			}
		}
		bits := float64(count(list, arrives)) * 1500 * 8
		got := bits / end.Sub(list[0].at.Add(l.Delay)).Seconds()
		if off := got / float64(rate); off < 0.999 || off > 1.001 {
			t.Errorf("%.0f bit/s pass in place of %d", got, rate)
		}
		if count(list, arrives)+count(list, crowdedOut) != len(list) {
			t.Error("frames are lost that did not find the queue full")
		}
		if most := l.queue() + l.airtime(1500) + l.Delay; longest > most {
			t.Errorf("at %d bit/s a frame waits for %s, want at most %s", rate, longest, most)
		}
		if n := count(feed(l, 10, 0), arrives); n != 10 {
			t.Errorf("of ten segments at once, the first ones of a TCP flow, %d pass", n)
		}
	}
}

func TestOvertakenFramesComeLate(t *testing.T) {
	l := link{Link: inventory.Link{Delay: 10 * time.Millisecond, Reorder: 10}}
	list := feed(l, 10_000, time.Millisecond)
	if n := count(list, overtaken); n < 900 || n > 1100 {
		t.Errorf("%d of 10000 are overtaken, want a tenth", n)
	}
	for _, s := range list {
		want := l.Delay
		if s.fate == overtaken {
			want += overtaking
		}
		if got := s.due.Sub(s.at); got != want {
			t.Fatalf("a frame of fate %d takes %s, want %s", s.fate, got, want)
		}
	}
}

func TestOfTwoLinksTheWorseHolds(t *testing.T) {
	a := link{Link: inventory.Link{Delay: 50 * time.Millisecond, Loss: 1, Rate: 1_000_000, MTU: 1400}}
	b := link{Link: inventory.Link{Delay: 20 * time.Millisecond, Loss: 5, Jitter: time.Millisecond, Rate: 2_000_000}, maxPacket: 1280}
	want := link{Link: inventory.Link{Delay: 50 * time.Millisecond, Jitter: time.Millisecond, Loss: 5, Rate: 1_000_000, MTU: 1400}, maxPacket: 1280}
	if got := a.with(b); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if a.with(b) != b.with(a) || a.with(a) != a || a.with(link{}) != a {
		t.Error("the order counts, or twice the same is worse than once")
	}
}

func TestLinksAreAsLongAsTheInventoryHasThem(t *testing.T) {
	t.Parallel()
	l := pair(10 * time.Millisecond)
	l.Networks = append(l.Networks,
		inventory.LabNetwork{Name: "far", Profile: "home", Link: inventory.Link{Delay: 100 * time.Millisecond}},
		inventory.LabNetwork{Name: "farther", Profile: "satellite", Link: inventory.Link{Delay: 100 * time.Millisecond}},
		inventory.LabNetwork{Name: "server", Profile: open, Link: inventory.Link{Delay: 30 * time.Millisecond}})
	l.Hosts = append(l.Hosts, inventory.LabHost{Name: "c", Network: "far"}, inventory.LabHost{Name: "d", Network: "farther"}, inventory.LabHost{Name: "e", Network: "server"})
	lab := bring(t, Config{Lab: l})
	lab.hand(t, "b").do(order{Do: "listen", Network: "tcp4", Addr: ":4001"})
	for host, want := range map[string]time.Duration{ // the other link is one of the lab's 10 ms
		"a": 40 * time.Millisecond, "c": 220 * time.Millisecond, "d": 620 * time.Millisecond, "e": 80 * time.Millisecond} {
		if took := roundTrips(lab.hand(t, host), lab.host(t, "b").Addr.String()+":4001", 5); took[0] < want || took[2] > want+want/2 {
			t.Errorf("round trips from %s take %v, want about %s", host, took, want)
		}
	}
}

func TestWhoSendsTooMuchForAnMTUIsTold(t *testing.T) {
	t.Parallel()
	l := pair(10 * time.Millisecond)
	l.Networks = append(l.Networks, inventory.LabNetwork{Name: "tunnel", Profile: "home", Link: inventory.Link{MTU: 1400}})
	l.Hosts = append(l.Hosts, inventory.LabHost{Name: "c", Network: "tunnel"})
	lab := bring(t, Config{Lab: l})
	b, c := lab.hand(t, "b"), lab.hand(t, "c")
	far := handEnd{b, b.do(order{Do: "listen", Network: "udp4", Addr: ":4001"}).ID, ""}
	near := handEnd{c, c.do(order{Do: "listen", Network: "udp4", Addr: ":0"}).ID, lab.host(t, "b").Addr.String() + ":4001"}
	fits, tooLong := strings.Repeat("x", 1400-28), strings.Repeat("x", 1401-28)
	for i, passes := range []bool{true, false, true} {
		what := tooLong
		if i == 0 {
			what = fits
		}
		// The second time, the sender knows, and cuts it up.
		want(t, passes, what, near, far)
	}
}

func TestALinkIsWorseOnlyWhileItsProfileHolds(t *testing.T) {
	t.Parallel()
	i := behind(t, "home")
	h := i.behind(t, "home")
	to := i.addr("relay1", "4001")
	ordinary := roundTrips(h, to, 5)[2]
	for _, c := range []struct {
		profile string
		least   time.Duration
		most    time.Duration
	}{{"satellite", 620 * time.Millisecond, time.Second}, {"home", ordinary / 2, 4 * ordinary}} {
		if err := i.lab.SetProfile(t.Context(), "home", c.profile); err != nil {
			t.Fatal(err)
		}
		if took := roundTrips(h, to, 5)[2]; took < c.least || took > c.most {
			t.Errorf("%s: a round trip takes %s, want %s to %s", c.profile, took, c.least, c.most)
		}
	}
}
