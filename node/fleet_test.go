package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"

	"github.com/worldcompute/wce2e/node/wire"
)

// fleet is how many donors come from one address.
const fleet = 1000

// relayProcessDir, in the environment, makes the test binary a relay that lives
// there, until its stdin ends: what a relay takes can only be measured in a
// process of its own.
const relayProcessDir = "NODE_TEST_RELAY_PROCESS_DIR"

func TestMain(m *testing.M) {
	dir := os.Getenv(relayProcessDir)
	if dir == "" {
		os.Exit(m.Run())
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	err := Run(ctx, Config{
		Dir: dir, Relay: true, Metrics: "127.0.0.1:" + os.Getenv(relayProcessDir+"_METRICS"),
		Listen: []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0/tls/ws"},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// relayProcess is a relay in a process of its own.
type relayProcess struct {
	t       testing.TB
	status  wire.Status
	metrics string // URL
}

func startRelayProcess(t testing.TB) *relayProcess {
	t.Helper()
	dir, err := os.MkdirTemp("", "node")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	port := freePort(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), relayProcessDir+"="+dir, fmt.Sprintf("%s_METRICS=%d", relayProcessDir, port),
		"GOMEMLIMIT=1GiB") // what the smallest machine has that is for rent
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the relay: %v", err)
		}
	})
	p := &relayProcess{t: t, metrics: fmt.Sprintf("http://127.0.0.1:%d/metrics", port)}
	await(t, "the relay's status", func() bool {
		p.status, err = FetchStatus(t.Context(), dir)
		return err == nil
	})
	return p
}

// at is where the relay is reached over one transport.
func (p *relayProcess) at(transport string) peer.AddrInfo {
	p.t.Helper()
	for _, a := range p.status.Addrs {
		if wire.TransportOf(a) == transport {
			info, err := peer.AddrInfoFromString(a)
			if err != nil {
				p.t.Fatal(err)
			}
			return *info
		}
	}
	p.t.Fatalf("the relay is not reached over %s: %v", transport, p.status.Addrs)
	return peer.AddrInfo{}
}

// cost is what the relay takes now.
type cost struct{ rss, heap, goroutines, reservations, cpu float64 }

func (p *relayProcess) cost() cost {
	m := scrape(p.t, p.metrics)
	return cost{
		m["process_resident_memory_bytes"], m["go_memstats_heap_inuse_bytes"] + m["go_memstats_stack_inuse_bytes"],
		m["go_goroutines"], m["wce2e_relay_reservations"], m["process_cpu_seconds_total"],
	}
}

// fleetGossip is spoken on a stream each way that stays open.
const fleetGossip = "/worldcompute/meshsub/1.1.0"

// newMember is a donor as far as a relay can tell: a host that reserves, and takes
// the gossip of its relay.
func newMember(t testing.TB) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.EnableRelay(), libp2p.DisableMetrics(),
		libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.Transport(tcp.NewTCPTransport), libp2p.Transport(quic.NewTransport),
		libp2p.Transport(websocket.New, websocket.WithTLSClientConfig(&tls.Config{InsecureSkipVerify: true})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	h.SetStreamHandler(fleetGossip, func(s network.Stream) { io.Copy(io.Discard, s) })
	return h
}

// fleetReserves has the whole fleet connect and reserve, 32 at a time, and
// returns how long it took them all, and each. Each then keeps three streams.
func fleetReserves(t testing.TB, at peer.AddrInfo) (all time.Duration, each []time.Duration) {
	t.Helper()
	members, each := make(chan host.Host, fleet), make([]time.Duration, fleet)
	var hosts []host.Host
	for range fleet {
		hosts = append(hosts, newMember(t))
		members <- hosts[len(hosts)-1]
	}
	close(members)
	var wg sync.WaitGroup
	var next atomic.Int64
	began := time.Now()
	for range 32 {
		wg.Go(func() {
			for h := range members {
				began := time.Now()
				if err := reserveAt(t, h, at); err != nil {
					t.Error(err)
				}
				each[next.Add(1)-1] = time.Since(began)
			}
		})
	}
	wg.Wait()
	all = time.Since(began)
	await(t, "three streams of each member", func() bool {
		open, lost := streams(hosts, at.ID)
		return open >= 3*fleet || lost > 0
	})
	if _, lost := streams(hosts, at.ID); lost > 0 {
		t.Errorf("%d of the fleet have lost the relay", lost)
	}
	slices.Sort(each)
	return all, each
}

func reserveAt(t testing.TB, h host.Host, at peer.AddrInfo) error {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := h.Connect(ctx, at); err != nil {
		return err
	}
	if _, err := client.Reserve(ctx, h, at); err != nil {
		return err
	}
	if _, err := h.NewStream(ctx, at.ID, fleetGossip); err != nil {
		return err
	}
	go pings(t.Context(), h, at.ID)
	return nil
}

// pings keeps a stream open to a relay, as a donor does.
func pings(ctx context.Context, h host.Host, at peer.ID) {
	for ctx.Err() == nil { // the library ends the stream every 30 s
		for range ping.Ping(ctx, h, at) {
			select {
			case <-time.After(5 * time.Second):
			case <-ctx.Done():
			}
		}
		if len(h.Network().ConnsToPeer(at)) == 0 {
			return
		}
	}
}

// streams counts those that the fleet has open, and its members that have lost the relay.
func streams(fleet []host.Host, at peer.ID) (open, lost int) {
	for _, h := range fleet {
		conns := h.Network().ConnsToPeer(at)
		if len(conns) == 0 {
			lost++
		}
		for _, c := range conns {
			open += len(c.GetStreams())
		}
	}
	return open, lost
}

// jobThrough sends a job through the relay to a donor of ours that came last,
// and returns how long it took on a fresh circuit and on a standing one.
func jobThrough(t testing.TB, p *relayProcess, transport string) (cold, warm time.Duration) {
	t.Helper()
	at := p.at(transport)
	donor := startNode(t, Config{Bootstrap: []string{at.Addrs[0].String() + "/p2p/" + at.ID.String()}, Allow: []string{"any"}})
	made := donor.awaitEvent("an address through the relay", func(ev wire.Event) bool {
		return ev.Kind == wire.ListenAddr && ev.Relay == at.ID.String()
	})
	from, task := startNode(t, Config{}), fixture(t, "sha256")
	once := func() time.Duration {
		began := time.Now()
		r := submit(t, from, made.Addr, wire.Relayed, task)
		if r.Status != string(wire.Succeeded) || r.Path != wire.Relayed {
			t.Errorf("the job: %+v", r)
		}
		return time.Since(began)
	}
	return once(), once()
}

// fleetResult is what a relay takes for one reservation of the fleet.
type fleetResult struct {
	all, median, p95 time.Duration
	cold, warm       time.Duration // of a job through it
	idle             float64       // CPU seconds a second while nobody does anything
	empty            cost          // of the relay without them
	each             cost
}

func measureFleet(t testing.TB, transport string, idle time.Duration) fleetResult {
	t.Helper()
	p := startRelayProcess(t)
	r := fleetResult{empty: p.cost()}
	all, each := fleetReserves(t, p.at(transport))
	r.all, r.median, r.p95 = all, each[fleet/2], each[fleet*95/100]
	full := p.cost()
	if full.reservations != fleet {
		t.Errorf("the relay holds %v reservations", full.reservations)
	}
	r.each = cost{
		(full.rss - r.empty.rss) / fleet, (full.heap - r.empty.heap) / fleet,
		(full.goroutines - r.empty.goroutines) / fleet, full.reservations / fleet, (full.cpu - r.empty.cpu) / fleet,
	}
	if idle > 0 {
		before := p.cost().cpu
		time.Sleep(idle)
		r.idle = (p.cost().cpu - before) / idle.Seconds()
	}
	r.cold, r.warm = jobThrough(t, p, transport)
	return r
}

// A reservation may cost this much of a relay's heap and stacks, in bytes:
// 1,000 of them fit into the smallest machine that is for rent.
const maxReservationMemory = 200 << 10

func TestAThousandDonorsBehindOneAddressFit(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: a thousand hosts take a while")
	}
	r := measureFleet(t, "wss", 0)
	t.Logf("%+v", r)
	if r.each.heap > maxReservationMemory {
		t.Errorf("a reservation costs %.0f bytes", r.each.heap)
	}
	if r.warm > time.Second {
		t.Errorf("a job through the relay took %s", r.warm)
	}
}

// idle is how long the fleet is left alone for its idle cost.
const idle = 20 * time.Second

// BenchmarkRelay prints what a thousand reservations from one address cost a
// relay in a process of its own, on loopback. One run of each says enough.
func BenchmarkRelay(b *testing.B) {
	for _, transport := range []string{"wss", "tcp", "quic-v1"} {
		b.Run(transport, func(b *testing.B) {
			for b.Loop() {
				r := measureFleet(b, transport, idle)
				b.ReportMetric(r.each.rss/1024, "KiB-resident/reservation")
				b.ReportMetric(r.each.heap/1024, "KiB-heap/reservation")
				b.ReportMetric(r.each.goroutines, "goroutines/reservation")
				b.ReportMetric(r.empty.rss/(1<<20), "MiB-resident-without")
				b.ReportMetric(fleet/r.all.Seconds(), "reservations/s")
				b.ReportMetric(millis(r.median), "ms-reservation-p50")
				b.ReportMetric(millis(r.p95), "ms-reservation-p95")
				b.ReportMetric(millis(r.cold), "ms-job-cold")
				b.ReportMetric(millis(r.warm), "ms-job-warm")
				b.ReportMetric(1000*r.each.cpu, "ms-CPU/reservation")
				b.ReportMetric(100*r.idle, "%-CPU-idle")
				b.ReportMetric(0, "ns/op") // says nothing here
			}
		})
	}
}
