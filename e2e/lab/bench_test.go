//go:build linux

package lab

import (
	"fmt"
	"slices"
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
