package traversal

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/wire"
)

func TestReservationDespiteDeadRelays(t *testing.T) {
	t.Parallel()
	good := newHost(t, loopback)
	newRelay(t, good)
	donor := newHost(t)
	gone := newHost(t, loopback)
	refusing := full(gone)
	_ = gone.Close()
	list := []string{refusing}
	for range 25 { // more than are begun at once
		list = append(list, silent(t).String()+"/p2p/"+newHost(t).ID().String())
	}
	k := &Keeper{Host: donor, Bootstrap: append(list, full(good))}
	past := keep(t, k)
	eventually(t, "reservation on the living relay", 2*time.Second, reservedOn(k, good))

	made := past.of(wire.ReservationMade)
	if len(made) != 1 {
		t.Fatalf("%d reservations were made, not one", len(made))
	}
	checkMade(t, made[0], good.ID(), donor.ID())
	want := full(good) + "/p2p-circuit"
	if got := k.CircuitAddrs(); len(got) != 1 || got[0].String() != want {
		t.Errorf("circuit addresses are %v, not %s", got, want)
	}
	eventually(t, "ping over the relay connection", 2*time.Second, func() bool {
		return len(past.of(wire.RelayPing)) > 0 && k.Relays()[0].RTTMS > 0
	})
	s := k.Relays()[0]
	if s.Addr != good.Addrs()[0].String() || s.Transport != "tcp" || s.Conn == "" || s.Since.IsZero() || time.Until(s.Expires) < time.Minute {
		t.Errorf("the relay's status is %+v", s)
	}
}

// checkMade checks a reservation.made event as a stranger would: by the relay's
// own signature.
func checkMade(t *testing.T, e wire.Event, relay, donor peer.ID) {
	t.Helper()
	if e.Relay != relay.String() || e.Conn == "" || e.Renewal || len(e.Addrs) == 0 {
		t.Errorf("the event is %+v", e)
	}
	_, rec, err := record.ConsumeEnvelope(e.Voucher, proto.RecordDomain)
	if err != nil {
		t.Fatalf("the voucher does not verify: %v", err)
	}
	v := rec.(*proto.ReservationVoucher)
	if v.Relay != relay || v.Peer != donor || !v.Expiration.Equal(e.Expires) {
		t.Errorf("the voucher says %+v, the event %s", v, e.Expires)
	}
}

func TestOthersReachUsThroughTheCircuitAddress(t *testing.T) {
	t.Parallel()
	r := newHost(t, loopback)
	newRelay(t, r)
	donor, submitter := newHost(t), newHost(t)
	k := &Keeper{Host: donor, Bootstrap: []string{full(r)}}
	keep(t, k)
	eventually(t, "reservation", 2*time.Second, reservedOn(k, r))

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := submitter.Connect(ctx, peer.AddrInfo{ID: donor.ID(), Addrs: k.CircuitAddrs()}); err != nil {
		t.Fatal(err)
	}
	res := <-ping.Ping(ctx, submitter, donor.ID())
	if res.Error != nil {
		t.Fatal(res.Error)
	}
}

func TestLostRelayIsReplacedAtOnce(t *testing.T) {
	t.Parallel()
	first, second := newHost(t, loopback), newHost(t, loopback)
	newRelay(t, first)
	newRelay(t, second)
	changes := make(chan struct{}, 16) // more than there can be
	k := &Keeper{Host: newHost(t), Bootstrap: []string{full(first), full(second)},
		Changed: func() { changes <- struct{}{} }}
	past := keep(t, k)
	eventually(t, "reservation", 2*time.Second, func() bool { return len(k.Relays()) == 1 })
	if k.Relays()[0].PeerID == second.ID().String() {
		first, second = second, first
	}
	eventually(t, "connection to the other relay", 2*time.Second, func() bool {
		return len(second.Network().ConnsToPeer(k.Host.ID())) > 0
	})
	_ = first.Close()
	eventually(t, "reservation on the other relay", 2*time.Second, reservedOn(k, second))

	lost := past.of(wire.ReservationLost)
	if len(lost) != 1 || lost[0].Relay != first.ID().String() || lost[0].Err != errConnClosed.Error() {
		t.Errorf("lost: %+v", lost)
	}
	eventually(t, "third call of Changed: made, lost, made", time.Second, func() bool { return len(changes) == 3 })
}

func TestSilentPathIsLeftWithinTenSeconds(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: it waits 10 s for a path to be given up")
	}
	t.Parallel()
	first, second := newHost(t, loopback), newHost(t, loopback)
	newRelay(t, first)
	newRelay(t, second)
	c := newCable(t, hostPort(first))
	k := &Keeper{Host: newHost(t), Bootstrap: []string{c.addr.String() + "/p2p/" + first.ID().String()}}
	past := keep(t, k)
	eventually(t, "reservation", 2*time.Second, reservedOn(k, first))
	k.add(t.Context(), second.ID(), second.Addrs()...)

	c.cut()
	began := time.Now()
	eventually(t, "spare reservation on the other relay", pingEvery+pingTimeout+time.Second, func() bool {
		return slices.ContainsFunc(k.Relays(), func(s wire.RelayStatus) bool { return s.PeerID == second.ID().String() })
	})
	eventually(t, "end of the reservation on the silent path", deadAfter+time.Second-time.Since(began), reservedOn(k, second))
	lost := past.of(wire.ReservationLost)
	if len(lost) != 1 || !strings.Contains(lost[0].Err, errDead.Error()) {
		t.Errorf("lost: %+v", lost)
	}
	failed := 0
	for _, e := range past.of(wire.RelayPing) {
		if e.Relay == first.ID().String() && e.Outcome == wire.Failed && e.Err != "" {
			failed++
		}
	}
	if failed < 2 {
		t.Errorf("%d failed pings were recorded", failed)
	}
}

func TestStalledPathThatRecoversKeepsItsReservation(t *testing.T) {
	t.Parallel()
	relayHost := newHost(t, loopback)
	newRelay(t, relayHost)
	k := &Keeper{Host: newHost(t), Bootstrap: []string{full(relayHost)}}
	past := keep(t, k)
	eventually(t, "reservation", 2*time.Second, reservedOn(k, relayHost))
	k.mu.Lock()
	h := k.held[relayHost.ID()]
	k.mu.Unlock()
	h.pinged(0, context.DeadlineExceeded)
	if lacking, _ := k.need(); !lacking {
		t.Error("nobody looks for another relay while this one is silent")
	}
	h.pinged(time.Millisecond, nil)
	if lacking, _ := k.need(); lacking {
		t.Error("a relay that answers again is still doubted")
	}
	if lost := past.of(wire.ReservationLost); len(lost) != 0 {
		t.Errorf("lost: %+v", lost)
	}
}

func TestRelayThatStopsRelayingIsLeft(t *testing.T) {
	t.Parallel()
	first, second := newHost(t, loopback), newHost(t, loopback)
	service := newRelay(t, first)
	k := &Keeper{Host: newHost(t), Bootstrap: []string{full(first), full(second)}}
	past := keep(t, k)
	eventually(t, "reservation", 2*time.Second, reservedOn(k, first))
	newRelay(t, second) // begins to relay while we are connected
	if err := service.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "reservation on the peer that has become a relay", 3*time.Second, reservedOn(k, second))
	if lost := past.of(wire.ReservationLost); len(lost) != 1 || lost[0].Err != errNoRelay.Error() {
		t.Errorf("lost: %+v", lost)
	}
	if n := len(first.Network().ConnsToPeer(k.Host.ID())); n != 1 {
		t.Errorf("the connection to the former relay was not kept: %d", n)
	}
}

func TestOrdinaryPeerIsKeptAndNotAsked(t *testing.T) {
	t.Parallel()
	plain := newHost(t, loopback)
	k := &Keeper{Host: newHost(t), Bootstrap: []string{full(plain)}}
	past := keep(t, k)
	eventually(t, "connection", 2*time.Second, func() bool {
		return k.Host.Network().Connectedness(plain.ID()) == network.Connected
	})
	eventually(t, "knowledge that it is no relay", 2*time.Second, func() bool { return k.hopOf(plain.ID()) == hopNo })
	time.Sleep(50 * time.Millisecond)
	if failed := past.of(wire.ReservationFailed); len(failed) != 0 {
		t.Errorf("a peer that is no relay failed as one: %+v", failed)
	}
	k.mu.Lock()
	asked := !k.candidates[plain.ID()].notBefore.IsZero()
	k.mu.Unlock()
	if asked {
		t.Error("a peer that had said it is no relay was asked")
	}
	if !k.Host.ConnManager().IsProtected(plain.ID(), protectTag) {
		t.Error("its connection is not protected")
	}
}

func TestRefusalIsRecordedAndNotRepeatedAtOnce(t *testing.T) {
	t.Parallel()
	full1 := newHost(t, loopback)
	rc := relay.DefaultResources()
	rc.MaxReservations = 0
	newRelay(t, full1, relay.WithResources(rc))
	k := &Keeper{Host: newHost(t), Bootstrap: []string{full(full1)}}
	past := keep(t, k)
	eventually(t, "refusal", 2*time.Second, func() bool { return len(past.of(wire.ReservationFailed)) > 0 })
	e := past.of(wire.ReservationFailed)[0]
	if e.Failure != "reservation_refused" || e.Relay != full1.ID().String() || e.Conn == "" || e.Err == "" {
		t.Errorf("failed: %+v", e)
	}
	time.Sleep(500 * time.Millisecond)
	if n := len(past.of(wire.ReservationFailed)); n != 1 {
		t.Errorf("a relay that refuses was asked %d times within half a second", n)
	}
	other := newHost(t, loopback)
	newRelay(t, other)
	k.add(t.Context(), other.ID(), other.Addrs()...)
	eventually(t, "reservation on another relay", 2*time.Second, reservedOn(k, other))
}

func TestReservationIsRenewed(t *testing.T) {
	t.Parallel()
	r := newHost(t, loopback)
	newRelay(t, r)
	k := &Keeper{Host: newHost(t), Bootstrap: []string{full(r)}, renewEvery: 100 * time.Millisecond}
	past := keep(t, k)
	eventually(t, "third renewal", 3*time.Second, func() bool { return len(past.of(wire.ReservationMade)) >= 4 })
	for i, e := range past.of(wire.ReservationMade) {
		if e.Renewal != (i > 0) || e.Conn != past.of(wire.ReservationMade)[0].Conn {
			t.Errorf("event %d: %+v", i, e)
		}
	}
	if lost := past.of(wire.ReservationLost); len(lost) != 0 {
		t.Errorf("lost: %+v", lost)
	}
}

func TestWebSocketAloneLeadsToAReservation(t *testing.T) {
	t.Parallel()
	r := newHost(t, "/ip4/127.0.0.1/tcp/0/tls/ws")
	newRelay(t, r)
	k := &Keeper{Host: newHost(t), Bootstrap: []string{full(r)}}
	keep(t, k)
	eventually(t, "reservation", 2*time.Second, reservedOn(k, r))
	want := "/ip4/127.0.0.1/tcp/" + port(r.Addrs()[0]) + "/tls/ws/p2p/" + r.ID().String() + "/p2p-circuit"
	if got := k.CircuitAddrs()[0].String(); got != want {
		t.Errorf("the circuit address is %s, not %s", got, want)
	}
	if s := k.Relays()[0]; s.Transport != "wss" {
		t.Errorf("the relay's transport is %s", s.Transport)
	}
}

func TestWebSocketIsDialledBesideRawTCPOnItsPort(t *testing.T) {
	t.Parallel()
	r := newHost(t, "/ip4/127.0.0.1/tcp/0/tls/ws")
	newRelay(t, r)
	raw := "/ip4/127.0.0.1/tcp/" + port(r.Addrs()[0]) + "/p2p/" + r.ID().String()
	k := &Keeper{Host: newHost(t), Bootstrap: []string{raw, full(r)}}
	keep(t, k)
	eventually(t, "reservation over the WebSocket address", 2*time.Second, reservedOn(k, r))
	if s := k.Relays()[0]; s.Transport != "wss" {
		t.Errorf("the relay's transport is %s", s.Transport)
	}
}

func TestTwoReservationsWhenTwoAreWanted(t *testing.T) {
	t.Parallel()
	var list []string
	for range 3 {
		h := newHost(t, loopback)
		newRelay(t, h)
		list = append(list, full(h))
	}
	k := &Keeper{Host: newHost(t), Bootstrap: list, Want: 2}
	past := keep(t, k)
	eventually(t, "second reservation", 2*time.Second, func() bool { return len(k.Relays()) == 2 })
	time.Sleep(300 * time.Millisecond)
	if n := len(past.of(wire.ReservationMade)); n != 2 {
		t.Errorf("%d reservations were made", n)
	}
	if n := len(k.CircuitAddrs()); n != 2 {
		t.Errorf("%d circuit addresses", n)
	}
}

func TestNoReservationWhenNoneIsWanted(t *testing.T) {
	t.Parallel()
	r := newHost(t, loopback)
	newRelay(t, r)
	k := &Keeper{Host: newHost(t), Bootstrap: []string{full(r)}, Want: -1}
	past := keep(t, k)
	eventually(t, "relay that is known as one", 2*time.Second, func() bool { return k.hopOf(r.ID()) == hopYes })
	time.Sleep(200 * time.Millisecond)
	if n := len(past.of(wire.ReservationMade)); n != 0 {
		t.Errorf("%d reservations were made", n)
	}
}

func TestWeAreNotOurOwnRelay(t *testing.T) {
	t.Parallel()
	self := newHost(t, loopback)
	newRelay(t, self)
	k := &Keeper{Host: self, Bootstrap: []string{full(self)}}
	keep(t, k)
	time.Sleep(100 * time.Millisecond)
	k.mu.Lock()
	defer k.mu.Unlock()
	if n := len(k.candidates); n != 0 {
		t.Errorf("%d candidates", n)
	}
}

func TestLongListIsBegunSteadily(t *testing.T) {
	t.Parallel()
	g := newGate()
	g.open()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	began := time.Now()
	for i := range 3 * maxStarts {
		if err := g.enter(ctx, false); err != nil {
			t.Fatalf("start %d: %v", i, err)
		}
	}
	if took := time.Since(began); took < 2*startEvery || took > 10*startEvery {
		t.Errorf("%d starts took %s", 3*maxStarts, took)
	}
}

func TestMalformedBootstrapIsToldWhole(t *testing.T) {
	t.Parallel()
	k := &Keeper{Host: newHost(t), Bootstrap: []string{"nonsense", "/ip4/192.0.2.1/tcp/1",
		"/ip4/192.0.2.1/tcp/1/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN/p2p-circuit",
		"/ip4/192.0.2.1/udp/1/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN"}}
	err := k.Run(t.Context())
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`"nonsense"`, "no /p2p/PEER-ID", "through a relay", "names no transport"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %s: %v", want, err)
		}
	}
	if err := CheckBootstrap(BuiltinBootstrap); err != nil {
		t.Error(err)
	}
}

func TestCircuitAddressesNameTheUsedWayFirst(t *testing.T) {
	id, err := peer.Decode("QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN")
	if err != nil {
		t.Fatal(err)
	}
	cast := func(texts ...string) (out []ma.Multiaddr) {
		for _, s := range texts {
			out = append(out, ma.StringCast(s))
		}
		return out
	}
	got := circuitAddrs(id, ma.StringCast("/ip4/11.0.0.1/tcp/443/wss"), cast(
		"/ip4/11.0.0.1/tcp/443/tls/ws/p2p/"+id.String(), // the same way
		"/ip4/10.0.0.1/udp/4001/quic-v1",                // private
		"/ip4/11.0.0.1/udp/4001/quic-v1", "/ip4/11.0.0.2/udp/4001/quic-v1",
		"/ip6/2a00::1/tcp/4001", "/ip6/2a00::1/tcp/443/tls/ws", "/ip6/2a00::1/udp/4001/quic-v1"))
	var texts []string
	for _, a := range got {
		texts = append(texts, strings.TrimSuffix(a.String(), "/p2p/"+id.String()+"/p2p-circuit"))
	}
	want := []string{"/ip4/11.0.0.1/tcp/443/tls/ws", "/ip4/11.0.0.1/udp/4001/quic-v1", "/ip6/2a00::1/tcp/4001", "/ip6/2a00::1/tcp/443/tls/ws"}
	if !slices.Equal(texts, want) {
		t.Errorf("got %q", texts)
	}
}

func TestWhatIsLearntWhileTheKeeperEndsIsDropped(t *testing.T) {
	t.Parallel()
	late := newHost(t, loopback)
	k := &Keeper{Host: newHost(t), Bootstrap: []string{"/dnsaddr/mesh.example"}}
	slow := &afterTheEnd{keeper: k, asked: make(chan string, 2), zone: dnsaddr(full(late)),
		notebook: &notebook{way: &Way{Relay: late.ID(), Addr: late.Addrs()[0]}}}
	k.Resolver = slow
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- k.Run(ctx) }()
	<-slow.asked
	k.Memory = slow // only now, since Run waits for it before it asks names
	k.NetworkChanged(ctx)
	<-slow.asked
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := len(late.Network().Conns()); n != 0 {
		t.Errorf("%d connections were made after the end", n)
	}
}

// afterTheEnd knows a name and a way, and tells of them when the keeper has ended.
type afterTheEnd struct {
	keeper *Keeper
	asked  chan string
	zone
	*notebook
}

func (s *afterTheEnd) LookupTXT(_ context.Context, name string) ([]string, error) {
	s.awaitEnd("a name")
	return s.zone.LookupTXT(context.Background(), name)
}

func (s *afterTheEnd) Recall() (Way, bool) {
	s.awaitEnd("a way")
	return s.notebook.Recall()
}

func (s *afterTheEnd) awaitEnd(what string) {
	s.asked <- what
	for ended := false; !ended; time.Sleep(time.Millisecond) {
		s.keeper.mu.Lock()
		ended = s.keeper.candidates == nil
		s.keeper.mu.Unlock()
	}
}

// A phone's carrier may have no IPv4; where it puts its own addresses in front of
// those of relays, nobody else can go.
func TestAnAddressThatANAT64TranslatesIsToldAsTheIPv4OneInIt(t *testing.T) {
	id, err := peer.Decode("QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN")
	if err != nil {
		t.Fatal(err)
	}
	vouched := []ma.Multiaddr{ma.StringCast("/ip4/45.10.0.2/udp/4001/quic-v1"), ma.StringCast("/ip6/2a00::1/udp/4001/quic-v1"),
		ma.StringCast("/ip4/45.10.0.9/tcp/4001"), ma.StringCast("/ip6/2a00::45.10.0.9/tcp/4001")}
	for used, want := range map[string]string{
		"/ip6/64:ff9b::45.10.0.2/udp/4001/quic-v1":                 "/ip4/45.10.0.2/udp/4001/quic-v1",
		"/ip6/64:ff9b::45.10.0.7/tcp/443/tls/sni/relay.example/ws": "/ip4/45.10.0.7/tcp/443/tls/sni/relay.example/ws",
		"/ip6/2a01:db8:1::45.10.0.2/udp/4001/quic-v1":              "/ip4/45.10.0.2/udp/4001/quic-v1", // the carrier's own prefix
		"/ip6/2a01:db8:1::45.10.0.7/udp/4001/quic-v1":              "/ip6/2a01:db8:1::45.10.0.7/udp/4001/quic-v1",
		"/ip6/2a00::45.10.0.9/tcp/4001":                            "/ip6/2a00::45.10.0.9/tcp/4001", // written so by its owner
		"/ip6/2a00::1/udp/4001/quic-v1":                            "/ip6/2a00::1/udp/4001/quic-v1",
		"/ip4/45.10.0.2/udp/4001/quic-v1":                          "/ip4/45.10.0.2/udp/4001/quic-v1",
		"/dns6/relay.example/tcp/443/tls/sni/relay.example/ws":     "/dns6/relay.example/tcp/443/tls/sni/relay.example/ws",
	} {
		got := circuitAddrs(id, ma.StringCast(used), vouched)
		if want := throughRelay(ma.StringCast(want), id); !got[0].Equal(want) {
			t.Errorf("through %s: %s, want %s", used, got[0], want)
		}
		if ipv6 := throughRelay(vouched[1], id); family(got[0]) == "ip4" && !slices.ContainsFunc(got, ipv6.Equal) {
			t.Errorf("through %s: %s is missing of %s", used, ipv6, got)
		}
	}
}
