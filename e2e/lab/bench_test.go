//go:build linux

package lab

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/inventory"
)

func pair(latency time.Duration) *inventory.Lab {
	return &inventory.Lab{
		Latency:  latency,
		Networks: []inventory.LabNetwork{{Name: "core", Profile: open}},
		Hosts:    []inventory.LabHost{{Name: "a", Network: "core"}, {Name: "b", Network: "core"}},
	}
}

// crowd is a lab of many hosts: every other one behind one of some home routers,
// the rest on the core.
func crowd(hosts int) *inventory.Lab {
	const inEach = 10
	l := &inventory.Lab{Latency: 10 * time.Millisecond, Networks: []inventory.LabNetwork{{Name: "core", Profile: open}}}
	for i := range (hosts/2 + inEach - 1) / inEach {
		l.Networks = append(l.Networks, inventory.LabNetwork{Name: fmt.Sprintf("house%d", i), Profile: "home"})
	}
	for i := range hosts {
		network := "core"
		if i%2 == 1 {
			network = l.Networks[1+i/2/inEach].Name
		}
		l.Hosts = append(l.Hosts, inventory.LabHost{Name: fmt.Sprintf("h%d", i), Network: network})
	}
	return l
}

func TestTwoHundredHostsAreOneLab(t *testing.T) {
	l := bring(t, Config{Lab: crowd(200)})
	inside, outside := l.hand(t, "h199"), l.hand(t, "h198")
	if name := must(t, l.login(t, "h100"), "hostname"); name != "h100\n" {
		t.Errorf("h100 calls itself %s", name)
	}
	outside.do(order{Do: "listen", Network: "tcp4", Addr: ":4001"})
	inside.do(order{Do: "dial", Network: "tcp4", Addr: l.host(t, "h198").Addr.String() + ":4001", Timeout: patience})
	seen := map[string]bool{}
	for _, h := range l.Hosts {
		if seen[h.Addr.String()] {
			t.Fatalf("two hosts are at %s", h.Addr)
		}
		seen[h.Addr.String()] = true
	}
}

// BenchmarkHosts reports how long labs take to come up and to go, and what memory
// their processes take while nothing happens. Hosts run this test program, which
// is about as large as wce2e.
func BenchmarkHosts(b *testing.B) {
	usual := small() // and bystanders, as inventory/lab.yaml has it
	usual.Bystanders = 3
	for _, lab := range []*inventory.Lab{usual, crowd(50), crowd(200)} {
		hosts := len(lab.Hosts) + lab.Bystanders
		b.Run(strconv.Itoa(hosts), func(b *testing.B) {
			var up, down []float64
			var init, host memory
			for b.Loop() {
				start := time.Now()
				l, err := Up(b.Context(), Config{Lab: lab, Binary: ownBinary(b)})
				if err != nil {
					b.Fatal(err)
				}
				up = append(up, time.Since(start).Seconds())
				init, host = memoryOf(b, l)
				start = time.Now()
				if err := l.Close(); err != nil {
					b.Fatal(err)
				}
				down = append(down, time.Since(start).Seconds())
			}
			b.ReportMetric(middle(up), "s/up")
			b.ReportMetric(float64(hosts)/middle(up), "hosts/s")
			b.ReportMetric(middle(down), "s/down")
			b.ReportMetric(host.proportional/float64(hosts), "MB/host")
			b.ReportMetric(host.resident/float64(hosts), "MB-resident/host")
			b.ReportMetric(init.proportional, "MB/init")
			b.ReportMetric(0, "ns/op") // says nothing here
		})
	}
}

func middle(xs []float64) float64 {
	slices.Sort(xs)
	return xs[len(xs)/2]
}

// memory of processes, in MB: what they alone take with their share of what
// several have, and all that they have.
type memory struct{ proportional, resident float64 }

// memoryOf measures lab init and, together, its hosts.
func memoryOf(b *testing.B, l *Lab) (init, hosts memory) {
	for _, p := range processes() {
		switch {
		case p.pid == l.process.Pid:
			init = p.memory(b)
		case p.parent == l.process.Pid:
			m := p.memory(b)
			hosts.proportional += m.proportional
			hosts.resident += m.resident
		}
	}
	return init, hosts
}

func (p process) memory(b *testing.B) memory {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.pid))
	if err != nil {
		b.Fatal(err)
	}
	pss, _ := field(string(text), "Pss:")
	rss, _ := field(string(text), "Rss:")
	return memory{float64(pss) / 1024, float64(rss) / 1024}
}

// roundTrips measures n TCP connects to an address, in order of length.
func roundTrips(from *hand, to string, n int) []time.Duration {
	var took []time.Duration
	for range n {
		c := from.do(order{Do: "dial", Network: "tcp4", Addr: to, Timeout: 5 * time.Second})
		from.do(order{Do: "close", ID: c.ID})
		took = append(took, c.Took)
	}
	slices.Sort(took)
	return took
}

// BenchmarkRoundTrip reports TCP connects between two hosts, over two wires.
func BenchmarkRoundTrip(b *testing.B) {
	for _, latency := range []time.Duration{0, 10 * time.Millisecond} {
		b.Run(latency.String(), func(b *testing.B) {
			l := bring(b, Config{Lab: pair(latency)})
			from, to := l.hand(b, "a"), l.hand(b, "b")
			to.do(order{Do: "listen", Network: "tcp4", Addr: ":4001"})
			for b.Loop() {
				took := roundTrips(from, l.host(b, "b").Addr.String()+":4001", 100)
				b.ReportMetric(float64(took[len(took)/2].Microseconds()), "us/p50")
				b.ReportMetric(float64(took[len(took)-1].Microseconds()), "us/max")
			}
		})
	}
}

// BenchmarkThroughput reports one TCP stream between two hosts, over two wires.
func BenchmarkThroughput(b *testing.B) {
	for _, latency := range []time.Duration{0, 10 * time.Millisecond} {
		b.Run(latency.String(), func(b *testing.B) {
			l := bring(b, Config{Lab: pair(latency)})
			from, to := l.hand(b, "a"), l.hand(b, "b")
			ls := to.do(order{Do: "listen", Network: "tcp4", Addr: ":4001"})
			for b.Loop() {
				c := from.do(order{Do: "dial", Network: "tcp4", Addr: l.host(b, "b").Addr.String() + ":4001", Timeout: 5 * time.Second})
				in := to.do(order{Do: "accept", ID: ls.ID, Timeout: 5 * time.Second})
				go from.do(order{Do: "pour", ID: c.ID, Timeout: 3 * time.Second})
				got := to.do(order{Do: "sink", ID: in.ID})
				var n int
				fmt.Sscan(string(got.Data), &n)
				b.ReportMetric(float64(n)*8/got.Took.Seconds()/1e6, "Mbit/s")
			}
		})
	}
}
