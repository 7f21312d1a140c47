package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"

	"github.com/worldcompute/wce2e/inventory"
	"github.com/worldcompute/wce2e/node/wire"
	wasmfixtures "github.com/worldcompute/wce2e/wasm-fixtures"
)

// plainRelay is the word by which this test binary becomes a relay of plain
// go-libp2p, with the limits that the library's relays have, as those of the
// public network do; and its name on the lab's hosts.
const plainRelay = "plain-relay"

// runPlainRelay relays until it is killed, having printed its peer ID.
func runPlainRelay() error {
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/0.0.0.0/tcp/443", "/ip4/0.0.0.0/udp/443/quic-v1"), libp2p.ForceReachabilityPublic())
	if err != nil {
		return err
	}
	if _, err := relay.New(h); err != nil {
		return err
	}
	fmt.Println(h.ID())
	select {}
}

// plainRelay starts one and gives an address of it.
func (f *fleet) plainRelay(host string) string {
	f.Helper()
	s := f.ship(host)
	s.bringSelf(plainRelay)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// A shell, since Exec gives its output at the end only.
		_, _ = s.Exec(ctx, []string{"sh", "-c", path.Join(s.Home(), plainRelay) + " " + plainRelay + " >relay.out 2>&1"}, nil)
	}()
	f.Cleanup(func() { cancel(); <-ended })
	var last []byte
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		b, err := s.ReadFrom(ctx, "relay.out", 0, 1<<10)
		last = b
		if id, _, whole := strings.Cut(string(b), "\n"); err == nil && whole {
			return fmt.Sprintf("/ip4/%s/tcp/443/p2p/%s", f.address(host), id)
		}
	}
	f.Fatalf("%s: the plain relay does not start: %s", host, last)
	return ""
}

// address is a host's own IP address.
func (f *fleet) address(host string) string {
	for _, h := range f.lab.Hosts {
		if h.Name == host {
			return h.Addr.String()
		}
	}
	f.Fatalf("no host %s", host)
	return ""
}

// large is a job whose module is so many bytes longer than it needs to be.
func large(t testing.TB, by int) wasmfixtures.Task {
	t.Helper()
	fixture, err := wasmfixtures.Get("sha256")
	if err != nil {
		t.Fatal(err)
	}
	task, err := fixture.Task([]byte("a nonce"))
	if err != nil {
		t.Fatal(err)
	}
	rest := make([]byte, by)
	rand.NewChaCha8([32]byte{}).Read(rest)
	content := append([]byte{1, 'x'}, rest...) // a custom section and its name
	task.Module = append(append(task.Module, 0), binary.AppendUvarint(nil, uint64(len(content)))...)
	task.Module = append(task.Module, content...)
	return task
}

func TestALargeJobGoesThroughOurRelaysAndIsNotBegunOnLimitedOnes(t *testing.T) {
	f := newFleet(t, &inventory.Lab{
		Latency: 10 * time.Millisecond, Bystanders: 4, // so many have to see an address before it is believed
		Networks: []inventory.LabNetwork{{Name: "core", Profile: "open"}, {Name: "house", Profile: "home"},
			{Name: "flat", Profile: "home"}, {Name: "campus", Profile: "institutional"}},
		Hosts: []inventory.LabHost{{Name: "relay1", Network: "core"}, {Name: "public1", Network: "core"},
			{Name: "laptop", Network: "house"}, {Name: "desktop", Network: "flat"}, {Name: "tensor02", Network: "campus"}},
	})
	_, ours := f.ship("relay1").relay("relay")
	limited := f.plainRelay("public1")
	const strangers = "/dnsaddr/bootstrap.mesh.wce2e.net"
	laptop := f.ship("laptop")
	self := laptop.identity("submitter")
	submitter := laptop.start("submitter", bootstraps(append(ours, limited, strangers)...)...)
	task := large(t, 16<<20)
	donor := func(host string, relays ...string) wire.Status {
		d := f.ship(host).start("donor", append(bootstraps(relays...), "--allow", self)...)
		st, err := d.await("reservation", time.Minute, reserved)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}

	t.Run("16 MiB through a relay of ours", func(t *testing.T) {
		st := donor("tensor02", ours...)
		r, err := submitter.dispatch(st.CircuitAddrs[0], task.Module, task.Input, 2*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if r.Status != string(wire.Succeeded) || r.Path != wire.Relayed || !bytes.Equal(r.Output, task.Expected) {
			t.Fatalf("%s by the path %q: %s", r.Status, r.Path, r.Error)
		}
		t.Logf("%.0f ms", r.RoundTripMS)
	})
	t.Run("16 MiB through a limited relay alone are refused at once, and the limit is named", func(t *testing.T) {
		st := donor("desktop", limited, strangers)
		if st.Relays[0].LimitBytes == 0 {
			t.Fatalf("the relay has no limit: %+v", st.Relays[0])
		}
		began := time.Now()
		r, err := submitter.dispatch(st.CircuitAddrs[0], task.Module, task.Input, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if r.Status != "" || !strings.Contains(r.Error, fmt.Sprint(st.Relays[0].LimitBytes)) {
			t.Errorf("%q: %s", r.Status, r.Error)
		}
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("it took %s to refuse", took)
		}
		t.Logf("refused after %s: %s", time.Since(began).Round(time.Millisecond), r.Error)

		// By any path it goes over the direct connection that DCUtR makes.
		r, err = submitter.dispatch(st.CircuitAddrs[0], task.Module, task.Input, 2*time.Minute, "--path", "any")
		if err != nil {
			t.Fatal(err)
		}
		if r.Status != string(wire.Succeeded) || r.Path != wire.Direct || !bytes.Equal(r.Output, task.Expected) {
			t.Errorf("by any path: %s by the path %q: %s", r.Status, r.Path, r.Error)
		}
	})
}
