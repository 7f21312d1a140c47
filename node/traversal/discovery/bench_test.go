package discovery

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/metrics"
	"golang.org/x/sys/unix"

	ma "github.com/multiformats/go-multiaddr"
)

// BenchmarkIdle measures what discovery costs a donor at rest that is connected
// to five relays: memory, bytes of its protocols on the wire (both ways, without
// what TCP adds), and processor time of one of the six nodes. An hour passes in a
// minute, but for the heartbeat, which sends nothing when there is nothing new.
// Run it with -benchtime 1x.
func BenchmarkIdle(b *testing.B) {
	const lapse = 60
	p := usualPace
	p.find /= lapse
	p.enter /= lapse
	p.announce /= lapse
	p.joined /= lapse
	var relays []*Discovery
	var hosts []host.Host
	for range 5 {
		h := newHost(b)
		for _, o := range hosts {
			connect(b, h, o)
		}
		hosts = append(hosts, h)
		relays = append(relays, startIdle(b, p, Config{Host: h, Serving: func() ([]ma.Multiaddr, bool) { return h.Addrs(), true }}))
	}
	spent := metrics.NewBandwidthCounter()
	h := newHost(b, libp2p.BandwidthReporter(spent))
	for _, o := range hosts {
		connect(b, h, o)
	}
	settle := func() (mem runtime.MemStats) {
		time.Sleep(5 * time.Second)
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&mem)
		return mem
	}
	before, goroutines := settle(), runtime.NumGoroutine()
	donor := startIdle(b, p, Config{Host: h})
	after := settle()
	more, first := runtime.NumGoroutine()-goroutines, ours(spent)
	if donor.table.size() != len(relays) {
		b.Fatalf("the donor knows %d relays of %d", donor.table.size(), len(relays))
	}

	b.ResetTimer()
	start, cpu := ours(spent), processor()
	for range b.N {
		time.Sleep(time.Minute)
	}
	idle := float64(b.N) * 60
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc+after.StackInuse-before.StackInuse)/1024, "KiB/donor")
	b.ReportMetric(float64(more), "goroutines")
	b.ReportMetric(float64(first), "B-at-start")
	b.ReportMetric(float64(ours(spent)-start)/(idle*lapse), "B/s")
	b.ReportMetric((processor()-cpu).Seconds()/idle/6*100, "%CPU")
	for id, s := range spent.GetBandwidthByProtocol() {
		b.Logf("%s: %d in, %d out", id, s.TotalIn, s.TotalOut)
	}
}

func startIdle(b *testing.B, p pace, cfg Config) *Discovery {
	b.Helper()
	cfg.PrivateAddrs = true
	d, err := start(context.Background(), cfg, p)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = d.Close() })
	return d
}

// ours are the bytes of our protocols.
func ours(c *metrics.BandwidthCounter) (n int64) {
	for id, s := range c.GetBandwidthByProtocol() {
		if strings.HasPrefix(string(id), "/worldcompute/") {
			n += s.TotalIn + s.TotalOut
		}
	}
	return n
}

// processor is the processor time that this process has used.
func processor() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
