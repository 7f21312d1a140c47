package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
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

// reachable is a host that has a reservation and takes every circuit.
func reachable(t *testing.T, at peer.AddrInfo) host.Host {
	t.Helper()
	h := plainHost(t, libp2p.NoListenAddrs)
	h.SetStreamHandler(proto.ProtoIDv2Stop, func(s network.Stream) {
		var msg pb.StopMessage
		if util.NewDelimitedReader(s, maxHopMessage).ReadMsg(&msg) == nil {
			util.NewDelimitedWriter(s).WriteMsg(&pb.StopMessage{Type: pb.StopMessage_STATUS.Enum(), Status: pb.Status_OK.Enum()})
			io.Copy(io.Discard, s)
		}
		s.Close()
	})
	if _, err := client.Reserve(short(t), h, at); err != nil {
		t.Fatal(err)
	}
	return h
}

// asked is a circuit to target that a peer of its own asks for, and the answer.
func asked(t *testing.T, at peer.AddrInfo, target peer.ID) (network.Stream, pb.Status) {
	t.Helper()
	h := plainHost(t, libp2p.NoListenAddrs)
	if err := h.Connect(short(t), at); err != nil {
		t.Fatal(err)
	}
	s, err := h.NewStream(short(t), at.ID, proto.ProtoIDv2Hop)
	if err != nil {
		t.Fatal(err)
	}
	s.SetDeadline(time.Now().Add(patience))
	request := pb.HopMessage{Type: pb.HopMessage_CONNECT.Enum(), Peer: util.PeerInfoToPeerV2(peer.AddrInfo{ID: target})}
	if err := util.NewDelimitedWriter(s).WriteMsg(&request); err != nil {
		t.Fatal(err)
	}
	var answer pb.HopMessage
	if err := util.NewDelimitedReader(s, maxHopMessage).ReadMsg(&answer); err != nil {
		t.Fatal(err)
	}
	return s, answer.GetStatus()
}

func TestOneAddressCannotTakeAllCircuits(t *testing.T) {
	relay := startNode(t, Config{Relay: true})
	relay.relay.watch.most = 2
	at, err := peer.AddrInfoFromString(relay.addr("tcp"))
	if err != nil {
		t.Fatal(err)
	}
	donor := reachable(t, *at)
	if _, status := asked(t, *at, randomPeer(t)); status != pb.Status_NO_RESERVATION {
		t.Fatalf("a circuit to nobody: %s", status)
	}
	var circuits []network.Stream
	for i := range 2 {
		s, status := asked(t, *at, donor.ID())
		if status != pb.Status_OK {
			t.Fatalf("circuit %d: %s", i+1, status)
		}
		circuits = append(circuits, s)
	}
	if _, status := asked(t, *at, donor.ID()); status != pb.Status_RESOURCE_LIMIT_EXCEEDED {
		t.Errorf("a circuit more than one address may have: %s", status)
	}
	refused := relay.awaitEvent("the refusal", func(ev wire.Event) bool {
		return ev.Kind == wire.RelayCircuitFailed && ev.Err == pb.Status_RESOURCE_LIMIT_EXCEEDED.String()
	})
	if refused.Target != donor.ID().String() {
		t.Errorf("refused: %+v", refused)
	}
	if got := relay.relay.serving().Refused["connect resource_limit_exceeded"]; got != 1 {
		t.Errorf("counted: %d", got)
	}
	reachable(t, *at) // reservations are not refused for it
	for _, s := range circuits {
		s.Close()
	}
	await(t, "the places given back", func() bool {
		relay.relay.watch.mu.Lock()
		defer relay.relay.watch.mu.Unlock()
		return len(relay.relay.watch.from) == 0
	})
	if _, status := asked(t, *at, donor.ID()); status != pb.Status_OK {
		t.Errorf("after that: %s", status)
	}
}

func TestWhatCountsAsOneAddressOfCircuits(t *testing.T) {
	from := func(a string) netip.Prefix { return sourceOf(remoteConn{addr: ma.StringCast(a)}) }
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"/ip4/45.1.2.3/tcp/5555", "/ip4/45.1.2.3/udp/6666/quic-v1", true},
		{"/ip4/45.1.2.3/tcp/5555", "/ip4/45.1.2.4/tcp/5555", false},
		{"/ip6/2a00:1:2:3400::1/tcp/5555", "/ip6/2a00:1:2:34ff::2/tcp/5555/tls/ws", true},
		{"/ip6/2a00:1:2:3400::1/tcp/5555", "/ip6/2a00:1:2:3500::1/tcp/5555", false},
	} {
		if same := from(c.a) == from(c.b); same != c.same {
			t.Errorf("%s and %s: %t", c.a, c.b, same)
		}
	}
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
	debug.SetMemoryLimit(1 << 30)
	if got := volunteerLimits(); got.CircuitsPerAddress != 204 || got.Reservations != 4096 { // as the docs say
		t.Errorf("in 1 GiB: %+v", got)
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
