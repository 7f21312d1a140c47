package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/wire"
)

// joined is a node that is connected to relay, and its address there.
func joined(t *testing.T, relay *testNode) (*testNode, peer.AddrInfo) {
	t.Helper()
	n := startNode(t, Config{})
	info, err := peer.AddrInfoFromString(relay.addr("tcp"))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.host.Connect(short(t), *info); err != nil {
		t.Fatal(err)
	}
	return n, *info
}

func TestAFloodOfRequestsIsTurnedAwayAndTheOthersAreNot(t *testing.T) {
	relay := startNode(t, Config{Relay: true})
	flooder, at := joined(t, relay)
	relay.relay.watch.gate.burst = 3
	var refused client.ReservationError
	for i := range 4 {
		_, err := client.Reserve(short(t), flooder.host, at)
		if i < 3 && err != nil {
			t.Fatalf("request %d: %v", i+1, err)
		}
		if i == 3 && (!errors.As(err, &refused) || refused.Status != pb.Status_RESOURCE_LIMIT_EXCEEDED) {
			t.Fatalf("request %d: %v", i+1, err)
		}
	}
	if got := relay.relay.serving().Refused[refusedRate]; got != 1 {
		t.Errorf("counted: %d", got)
	}
	await(t, "an event of each request that was answered", func() bool {
		return len(relay.kind(wire.RelayReservation)) == 3
	})
	other, at := joined(t, relay)
	if _, err := client.Reserve(short(t), other.host, at); err != nil {
		t.Errorf("another peer: %v", err)
	}
	await(t, "an event of that, and none of what was turned away", func() bool {
		return len(relay.kind(wire.RelayReservation)) == 4
	})
	flooder.end()
	await(t, "the flooder forgotten", func() bool {
		relay.relay.watch.gate.mu.Lock()
		defer relay.relay.watch.gate.mu.Unlock()
		return len(relay.relay.watch.gate.peers) == 1
	})
}

func TestAnAddressMayAskAsOftenAsItsCampusNeeds(t *testing.T) {
	g, now := newFloodGate(volunteerLimits().CircuitsPerPeer), time.Now()
	from := func(p peer.ID) network.Conn {
		return remoteConn{peer: p, addr: ma.StringCast("/ip4/45.1.2.3/tcp/5555")}
	}
	for i := range 2000 {
		if !g.admits(from(peer.ID(string(rune(i)))), now) {
			t.Fatalf("donor %d of one address is turned away", i+1)
		}
	}
	admitted := 0
	for i := range 20000 {
		if g.admits(from(peer.ID("x"+string(rune(i)))), now) {
			admitted++
		}
	}
	if admitted > hopBurstPerIP {
		t.Errorf("one address was let ask %d times more", admitted)
	}
}

// remoteConn is a connection of which only the far end is known.
type remoteConn struct {
	network.Conn
	peer peer.ID
	addr ma.Multiaddr
}

func (c remoteConn) RemotePeer() peer.ID           { return c.peer }
func (c remoteConn) RemoteMultiaddr() ma.Multiaddr { return c.addr }
func (c remoteConn) IsClosed() bool                { return false }

func TestARelayKeepsTheLimitsItStates(t *testing.T) {
	relay := startNode(t, Config{NoRelay: true})
	relay.relay.mu.Lock()
	relay.relay.limits.Reservations, relay.relay.limits.ReservationsPerAddress = 2, 2
	relay.relay.mu.Unlock()
	if err := relay.relay.start("a test"); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		n, at := joined(t, relay)
		_, err := client.Reserve(short(t), n.host, at)
		if full := i == 2; full != (err != nil) {
			t.Errorf("reservation %d: %v", i+1, err)
		}
	}
	await(t, "the count of all three", func() bool {
		s := relay.relay.serving()
		return s.Reservations == 2 && s.Refused["reserve reservation_refused"] == 1
	})
}

func TestACircuitIsNoFasterThanItMayBe(t *testing.T) {
	const rate = 256 << 10
	relay := startNode(t, Config{Relay: true, MaxCircuitRate: rate})
	donor := startNode(t, Config{Bootstrap: []string{relay.addr("tcp")}})
	n := startNode(t, Config{})
	donor.host.SetStreamHandler("/sink", func(s network.Stream) {
		got, _ := io.Copy(io.Discard, s)
		s.Write([]byte{byte(got >> 16)})
		s.Close()
	})
	s, err := routeOver(connected(t, n, donor, relay)).stream(short(t), "/sink")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := io.Copy(s, bytes.NewReader(make([]byte, 384<<10))); err != nil {
		t.Fatal(err)
	}
	s.CloseWrite()
	answer, err := io.ReadAll(s)
	if err != nil || len(answer) != 1 || answer[0] != 384>>6 {
		t.Fatalf("answer %v, %v", answer, err)
	}
	if took, least := time.Since(began), time.Second; took < least {
		t.Errorf("384 KiB at 256 KiB/s, 64 KiB of it at once, took %s", took)
	}
	if got := relay.status().Serving.Limits.CircuitBytesPerSecond; got != rate {
		t.Errorf("stated: %d", got)
	}
}

func TestSettingsOfARelayThatContradictEachOtherAreRefused(t *testing.T) {
	for want, cfg := range map[string]Config{
		"contradict":                   {Relay: true, NoRelay: true},
		"at least 16384":               {Relay: true, MaxCircuitRate: 100},
		"relays only":                  {HTTP: true},
		"are for relays":               {ACME: ACME{Domain: testDomain}},
		"beside the default addresses": {Relay: true, HTTP: true, Listen: []string{"/ip4/0.0.0.0/tcp/4001"}},
		"metrics address":              {Metrics: "9091"},
		"domain":                       {Relay: true, ACME: ACME{Domain: "x"}},
	} {
		cfg.Dir = "x"
		if err := cfg.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

func TestWhichAddressesTheClientsOfARelayAreTold(t *testing.T) {
	own := maddrs(t, "/ip4/8.8.8.8/tcp/4001", "/ip4/10.0.0.1/tcp/4001", "/ip4/2.2.2.2/tcp/443/tls/ws/p2p/"+somebody+"/p2p-circuit")
	for volunteer, want := range map[bool][]string{
		true:  {"/ip4/8.8.8.8/tcp/4001", "/ip4/10.0.0.1/tcp/4001"},
		false: {"/ip4/8.8.8.8/tcp/4001"},
	} {
		if got := strs(ma.FilterAddrs(slices.Clone(own), toldToClients(volunteer))); !slices.Equal(got, want) {
			t.Errorf("volunteer %t: %v", volunteer, got)
		}
	}
}

func TestARelaysMemoryFollowsGOMEMLIMIT(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	whole := relayMemory()
	if whole <= 0 || whole > math.MaxInt64/2 {
		t.Errorf("without a limit: %d", whole)
	}
	debug.SetMemoryLimit(256 << 20)
	if got := relayMemory(); got != 128<<20 {
		t.Errorf("in 256 MiB: %d", got)
	}
}

func TestNobodyReservesAtARelayThatHasStopped(t *testing.T) {
	relay := startNode(t, Config{Relay: true})
	n, at := joined(t, relay)
	if _, err := client.Reserve(short(t), n.host, at); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second does nothing
		if err := relay.relay.stop("a test"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(short(t), 5*time.Second)
	defer cancel()
	if _, err := client.Reserve(ctx, n.host, at); err == nil {
		t.Error("it grants")
	}
	if got := relay.kind(wire.RelayServing); len(got) != 2 || got[1].Outcome != wire.Aborted || !strings.Contains(got[1].Detail, "a test") {
		t.Errorf("events: %+v", got)
	}
	if held := relay.relay.held(); len(held) > 0 {
		t.Errorf("held: %+v", held)
	}
}
