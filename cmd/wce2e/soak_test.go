package main

import (
	"context"
	"flag"
	"fmt"
	"path"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/inventory"
	"github.com/worldcompute/wce2e/node/wire"
	wasmfixtures "github.com/worldcompute/wce2e/wasm-fixtures"
)

var soak = flag.Duration("soak", 0, "how long TestIdleDonorsCostLittleAndACircuitStays watches; 0 skips it")

// What an idle donor may cost.
const (
	idleMemory  = 48 << 20 // bytes, resident
	idleCPU     = 0.002    // of one core
	idleTraffic = 150      // bytes a second, both ways, for each connection to a relay
	idleAside   = 8        // bytes a second of the DHT and gossip, as node/traversal/discovery's BenchmarkIdle measures them: the link's counters have them too
)

// use is what the kernel has counted of a process and of its host's link.
type use struct {
	at      time.Time
	cpu     time.Duration
	rss     int64
	traffic uint64
}

// TestIdleDonorsCostLittleAndACircuitStays leaves two donors alone, one that got
// out over QUIC and one over WebSocket, and counts what they cost; and keeps a
// circuit of a third one open without a word on it.
func TestIdleDonorsCostLittleAndACircuitStays(t *testing.T) {
	if *soak == 0 {
		t.Skip("SKIPPED: make soak runs this test, for ten minutes")
	}
	f := newFleet(t, &inventory.Lab{
		Latency: 10 * time.Millisecond,
		Networks: []inventory.LabNetwork{{Name: "core", Profile: "open"}, {Name: "house", Profile: "home"},
			{Name: "campus", Profile: "institutional"}},
		Hosts: []inventory.LabHost{{Name: "relay1", Network: "core"}, {Name: "relay2", Network: "core"}, {Name: "idle-quic", Network: "house"},
			{Name: "idle-wss", Network: "campus"}, {Name: "donor", Network: "campus"}, {Name: "laptop", Network: "house"}},
	})
	var list []string
	for _, name := range []string{"relay1", "relay2"} {
		_, addrs := f.ship(name).relay("relay")
		list = append(list, addrs...)
	}
	laptop := f.ship("laptop")
	self := laptop.identity("submitter")
	submitter := laptop.start("submitter", bootstraps(list...)...)
	busy := f.ship("donor").start("donor", append(bootstraps(list...), "--allow", self)...)
	out := func(d *daemon) wire.Status {
		st, err := d.await("two reservations", time.Minute, func(st wire.Status) bool { return len(st.Relays) == 2 })
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	to := out(busy).CircuitAddrs[0]
	first := oneJob(t, submitter, to)

	idle := map[string]*daemon{}
	for _, name := range []string{"idle-quic", "idle-wss"} {
		idle[name] = f.ship(name).start("donor", bootstraps(list...)...)
	}
	before := map[string]use{}
	for name, d := range idle {
		st := out(d)
		t.Logf("%s got out over %s", name, st.Way.Transport)
	}
	time.Sleep(20 * time.Second) // what a start costs is not what idling does
	for name, d := range idle {
		before[name] = d.use(t)
	}
	time.Sleep(*soak)
	for name, d := range idle {
		after, from := d.use(t), before[name]
		span := after.at.Sub(from.at).Seconds()
		cpu, rate := (after.cpu-from.cpu).Seconds()/span, float64(after.traffic-from.traffic)/span
		t.Logf("%s: %.1f MiB resident, %.3f %% of a core, %.0f bytes/s on the wire for 2 connections to relays, over %s",
			name, float64(after.rss)/(1<<20), 100*cpu, rate, after.at.Sub(from.at).Round(time.Second))
		if after.rss > idleMemory {
			t.Errorf("%s: %d bytes are resident, at most %d are wanted", name, after.rss, idleMemory)
		}
		if cpu > idleCPU {
			t.Errorf("%s: it takes %.4f of a core, at most %.4f are wanted", name, cpu, idleCPU)
		}
		if rate > 2*idleTraffic+idleAside {
			t.Errorf("%s: %.0f bytes/s, at most %d are wanted", name, rate, 2*idleTraffic+idleAside)
		}
		if lost := d.of(wire.ReservationLost); len(lost) > 0 {
			t.Errorf("%s: a reservation was lost: %s", name, lost[0].Err)
		}
	}
	last := oneJob(t, submitter, to)
	if last.ConnectMS != 0 || last.Conn != first.Conn {
		t.Errorf("the circuit %s did not stay: the last job went by %s", first.Conn, last.Conn)
	}
	t.Logf("a job by the circuit of %s ago: %.1f ms", soak.Round(time.Second), last.RoundTripMS)
}

// oneJob sends a job that has to succeed.
func oneJob(t *testing.T, from *daemon, to string) wire.DispatchResult {
	t.Helper()
	fixture, err := wasmfixtures.Get("sha256")
	if err != nil {
		t.Fatal(err)
	}
	task, err := fixture.Task([]byte(time.Now().String()))
	if err != nil {
		t.Fatal(err)
	}
	r, err := from.dispatch(to, task.Module, task.Input, time.Minute)
	if err != nil || r.Status != string(wire.Succeeded) || r.Path != wire.Relayed {
		t.Fatalf("%v: %s by the path %q: %s", err, r.Status, r.Path, r.Error)
	}
	return r
}

// use asks the kernel.
func (d *daemon) use(t *testing.T) use {
	t.Helper()
	st, err := d.status()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), fleetQuick)
	defer cancel()
	read := func(file string) string {
		b, err := d.ship.Exec(ctx, []string{"cat", path.Join("/proc", strconv.Itoa(st.PID), file)}, nil)
		if err != nil || b.Code != 0 {
			t.Fatalf("%s: %v: %s", file, err, b.Stderr)
		}
		return string(b.Stdout)
	}
	traffic, err := d.ship.fleet.lab.Traffic(ctx, d.ship.name)
	if err != nil {
		t.Fatal(err)
	}
	u := use{at: time.Now(), traffic: traffic.ReceivedBytes + traffic.SentBytes}
	_, rest, _ := strings.Cut(read("stat"), ") ") // proc(5): fields 14 and 15 are ticks of 10 ms
	fields := strings.Fields(rest)
	for _, ticks := range fields[11:13] {
		n, err := strconv.ParseInt(ticks, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		u.cpu += time.Duration(n) * 10 * time.Millisecond
	}
	for line := range strings.Lines(read("status")) {
		if kb, is := strings.CutPrefix(line, "VmRSS:"); is {
			if _, err := fmt.Sscan(kb, &u.rss); err != nil {
				t.Fatal(err)
			}
			u.rss <<= 10
		}
	}
	return u
}
