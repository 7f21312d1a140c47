package traversal

import (
	"bytes"
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/wire"
)

// notebook is a Memory of one network.
type notebook struct {
	mu   sync.Mutex
	way  *Way
	kept []Way
}

func (n *notebook) Recall() (Way, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.way == nil {
		return Way{}, false
	}
	return *n.way, true
}

func (n *notebook) Keep(w Way) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.kept = append(n.kept, w)
}

func TestTheWayThatWonIsRememberedAndTriedFirst(t *testing.T) {
	t.Parallel()
	good, other := newHost(t, loopback), newHost(t, loopback)
	newRelay(t, good)
	newRelay(t, other)
	first := &notebook{}
	keep(t, &Keeper{Host: newHost(t), Bootstrap: []string{full(good)}, Memory: first})
	eventually(t, "note of the way", 2*time.Second, func() bool {
		first.mu.Lock()
		defer first.mu.Unlock()
		return len(first.kept) == 1
	})
	way := first.kept[0]
	if way.Relay != good.ID() || !way.Addr.Equal(good.Addrs()[0]) || way.Took <= 0 {
		t.Fatalf("kept: %+v", way)
	}

	// The list names another relay only; the remembered one is taken all the same,
	// and nobody else is dialled before.
	way.Took = time.Minute // so that the head start is as long as it gets
	k := &Keeper{Host: newHost(t), Bootstrap: []string{full(other)}, Memory: &notebook{way: &way}}
	past := keep(t, k)
	eventually(t, "reservation on the remembered relay", shortestHeadStart, reservedOn(k, good))
	if n := len(past.of(wire.WayRemembered)); n != 1 {
		t.Errorf("%d events tell of the remembered way", n)
	}
	if w := k.Way(); w == nil || w.Relay != good.ID().String() || w.Why != "it won in this network last time, and works" {
		t.Errorf("the way is told as %+v", w)
	}
}

func TestARememberedWayThatFailsHoldsNobodyUpAndIsReplaced(t *testing.T) {
	t.Parallel()
	good, gone := newHost(t, loopback), newHost(t, loopback)
	newRelay(t, good)
	way := Way{Relay: gone.ID(), Addr: gone.Addrs()[0], Took: time.Minute}
	_ = gone.Close()
	memory := &notebook{way: &way}
	k := &Keeper{Host: newHost(t), Bootstrap: []string{full(good)}, Memory: memory}
	keep(t, k)
	eventually(t, "reservation on the listed relay", longestHeadStart-time.Second, reservedOn(k, good))
	memory.mu.Lock()
	defer memory.mu.Unlock()
	if len(memory.kept) != 1 || memory.kept[0].Relay != good.ID() {
		t.Errorf("kept %+v", memory.kept)
	}
}

func TestOnlyAWayThatLivesInThisNetworkIsRememberedWhenAReservationIsLost(t *testing.T) {
	t.Parallel()
	past, moved, now := time.Now().Add(-time.Hour), time.Now().Add(-time.Minute), time.Now()
	for name, c := range map[string]struct {
		stirred time.Time
		other   holding
		kept    bool
	}{
		"the other is silent":                  {moved, holding{made: past, heard: now, silent: true}, false},
		"it has not answered since the move":   {moved, holding{made: past, heard: past}, false},
		"it has":                               {moved, holding{made: past, heard: now}, true},
		"it was made since the move":           {moved, holding{made: now}, true},
		"there was no move":                    {time.Time{}, holding{made: past, heard: past}, true},
		"there was none, and it is given up":   {time.Time{}, holding{made: past, heard: past, leaving: true}, false},
		"its last renewal failed in all peace": {time.Time{}, holding{made: past, heard: past, failing: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			memory := &notebook{}
			k := &Keeper{Host: newHost(t), Memory: memory, Want: 2}
			k.reset()
			k.stirred, k.kept = c.stirred, true
			lost := &candidate{keeper: k}
			for i, h := range []*holding{{made: past, silent: true}, &c.other} {
				far := newHost(t, loopback)
				h.keeper, h.used, h.conn = k, far.Addrs()[0], connected(t, t.Context(), k.Host, far)
				k.held[far.ID()] = h
				if i == 0 {
					lost.id = far.ID()
				}
			}
			k.drop(t.Context(), lost, k.held[lost.id], errDead)
			k.ended()
			if kept := len(memory.kept) > 0; kept != c.kept {
				t.Errorf("kept: %+v", memory.kept)
			}
		})
	}
}

func TestARememberedWayThatIsSilentHasAHeadStartOnly(t *testing.T) {
	t.Parallel()
	good := newHost(t, loopback)
	newRelay(t, good)
	way := Way{Relay: newHost(t).ID(), Addr: silent(t), Took: time.Millisecond}
	k := &Keeper{Host: newHost(t), Bootstrap: []string{full(good)}, Memory: &notebook{way: &way}}
	keep(t, k)
	eventually(t, "reservation on the listed relay", shortestHeadStart+2*time.Second, reservedOn(k, good))
}

func TestRelaysWithoutLimitsArePreferred(t *testing.T) {
	t.Parallel()
	limited, free := newHost(t, loopback), newHost(t, loopback)
	newLimitedRelay(t, limited)
	k := &Keeper{Host: newHost(t), Bootstrap: []string{full(limited)}}
	past := keep(t, k)
	eventually(t, "reservation on the relay with limits, there being no other", 2*time.Second, reservedOn(k, limited))
	if made := past.of(wire.ReservationMade); made[0].LimitBytes == 0 || made[0].LimitSeconds == 0 {
		t.Errorf("the event does not tell of the limits: %+v", made[0])
	}
	newRelay(t, free)
	k.Found(t.Context(), peer.AddrInfo{ID: free.ID(), Addrs: free.Addrs()})
	eventually(t, "reservation on the relay without limits, in its place", foundAfter+2*time.Second, reservedOn(k, free))
}

func newLimitedRelay(t *testing.T, h host.Host) {
	t.Helper()
	r, err := relay.New(h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
}

func TestNoMoreLimitedReservationsAreHeldThanWanted(t *testing.T) {
	t.Parallel()
	var list []string
	for range 6 {
		h := newHost(t, loopback)
		newLimitedRelay(t, h)
		list = append(list, full(h))
	}
	free := newHost(t, loopback)
	k := &Keeper{Host: newHost(t), Bootstrap: list}
	past := keep(t, k)
	eventually(t, "reservation", 3*time.Second, func() bool { return len(k.Relays()) == 1 })
	time.Sleep(500 * time.Millisecond)
	if n := len(k.Relays()); n != 1 {
		t.Errorf("%d reservations are held", n)
	}
	newRelay(t, free)
	k.add(t.Context(), free.ID(), free.Addrs()...)
	eventually(t, "reservation on the relay without limits alone", 2*time.Second, reservedOn(k, free))
	if lost := past.of(wire.ReservationLost); len(lost) != 1 || lost[0].Err != errLimited.Error() {
		t.Errorf("lost: %+v", lost)
	}
}

func TestAFoundRelayIsDialledOnlyWhenReservationsAreLacking(t *testing.T) {
	t.Parallel()
	listed, found := newHost(t, loopback), newHost(t, loopback)
	newRelay(t, listed)
	newRelay(t, found)
	k := &Keeper{Host: newHost(t), Bootstrap: []string{full(listed)}}
	keep(t, k)
	eventually(t, "reservation on the listed relay", 2*time.Second, reservedOn(k, listed))
	k.Found(t.Context(), peer.AddrInfo{ID: found.ID(), Addrs: found.Addrs()})
	time.Sleep(foundAfter + 500*time.Millisecond)
	if n := len(found.Network().Conns()); n != 0 {
		t.Fatalf("it was dialled without need: %d connections", n)
	}
	_ = listed.Close()
	eventually(t, "reservation on the found relay", foundAfter+2*time.Second, reservedOn(k, found))
}

func TestANetworkThatChangesEndsEveryWait(t *testing.T) {
	t.Parallel()
	late := newHost(t, loopback)
	newRelay(t, late)
	at := hostPort(late)
	addr := full(late)
	_ = late.Close()
	k := &Keeper{Host: newHost(t), Bootstrap: []string{addr}}
	keep(t, k)
	time.Sleep(4 * time.Second) // by then the rest is 2 s and more
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Skipf("SKIPPED: the port was taken meanwhile: %v", err)
	}
	t.Cleanup(func() { _ = l.Close() })
	asked := make(chan struct{})
	go func() {
		if c, err := l.Accept(); err == nil {
			close(asked)
			_ = c.Close()
		}
	}()
	k.NetworkChanged(t.Context())
	select {
	case <-asked:
	case <-time.After(500 * time.Millisecond):
		t.Error("nobody dialled at once")
	}
}

func TestWhatFailedInTheFormerNetworkDoesNotLengthenTheWaitsOfThisOne(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	var dialled atomic.Int32
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			dialled.Add(1)
			_ = c.Close()
		}
	}()
	k := &Keeper{Host: newHost(t)}
	k.reset()
	k.starts.open()
	k.mu.Lock()
	c := k.candidateLocked(newHost(t).ID())
	c.addLocked(tcpAddr(l.Addr()), true)
	c.lists[configured] = true
	c.failures = 10 // a minute's rest
	k.mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	k.tending.Go(func() { c.tend(ctx) })
	t.Cleanup(func() { cancel(); k.ended() })
	eventually(t, "try", 5*time.Second, func() bool { return dialled.Load() > 0 })
	time.Sleep(500 * time.Millisecond) // by then it rests
	before := dialled.Load()
	k.NetworkChanged(ctx)
	eventually(t, "second try after the change, a second after the first", 20*time.Second, func() bool { return dialled.Load() >= before+2 })
}

func TestAConnectionOfTheFormerNetworkIsNoticedSooner(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: it waits for a path to be given up")
	}
	t.Parallel()
	relayHost := newHost(t, loopback)
	newRelay(t, relayHost)
	c := newCable(t, hostPort(relayHost))
	k := &Keeper{Host: newHost(t), Bootstrap: []string{c.addr.String() + "/p2p/" + relayHost.ID().String()}}
	past := keep(t, k)
	eventually(t, "ping that is answered", 2*time.Second, func() bool { return len(past.of(wire.RelayPing)) > 0 })
	c.cut()
	k.NetworkChanged(t.Context())
	eventually(t, "end of the reservation", hurriedDead+time.Second, func() bool { return len(past.of(wire.ReservationLost)) == 1 })
}

func TestAStandbyConnectionOfTheFormerNetworkIsLeftAsSoon(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: it waits for a path to be given up")
	}
	t.Parallel()
	relayHost, gone, here := newHost(t, loopback), newHost(t, loopback), newHost(t, loopback)
	newRelay(t, relayHost)
	c := newCable(t, hostPort(gone))
	k := &Keeper{Host: newHost(t), Bootstrap: []string{full(relayHost), c.addr.String() + "/p2p/" + gone.ID().String(), full(here)}}
	past := keep(t, k)
	connsTo := func(h host.Host) int { return len(k.Host.Network().ConnsToPeer(h.ID())) }
	eventually(t, "reservation, and standby connections", 5*time.Second, func() bool {
		return reservedOn(k, relayHost)() && connsTo(gone) == 1 && connsTo(here) == 1
	})
	time.Sleep(200 * time.Millisecond) // by then they are attended to
	c.cut()
	k.NetworkChanged(t.Context())
	eventually(t, "end of the dead connection", 4*hurriedDead, func() bool { return connsTo(gone) == 0 })
	if connsTo(here) != 1 || len(past.of(wire.ReservationLost)) != 0 {
		t.Error("a connection that answers was given up as well")
	}
}

func TestAPathTooNarrowForFullSizePacketsIsNoticedAndLeftForSmallerOnes(t *testing.T) {
	t.Parallel()
	relayHost := newHost(t, loopback)
	newRelay(t, relayHost)
	ServeStatement(relayHost, func() [][]byte { return nil })
	var learned atomic.Bool
	addr, _ := forward(t, hostPort(relayHost), func() func(int) bool {
		stuck := false // on what is too large, and with it all that follows
		return func(size int) bool {
			stuck = stuck || size > 1400 && !learned.Load()
			return !stuck
		}
	})
	k := &Keeper{Host: newHost(t), Bootstrap: []string{addr.String() + "/p2p/" + relayHost.ID().String()}, Narrow: learned.Store}
	past := keep(t, k)
	eventually(t, "word of the narrow path", statementTimeout+mutePatience+identifyPatience+time.Second, func() bool { return len(past.of(wire.PathNarrow)) == 1 })
	former := past.of(wire.PathNarrow)[0].Conn
	eventually(t, "reservation on another connection", 5*time.Second, func() bool {
		rs := k.Relays()
		return len(rs) == 1 && rs[0].Conn != former && learned.Load()
	})
}

func TestAPathThatCarriesFullSizePacketsIsNotCalledNarrow(t *testing.T) {
	t.Parallel()
	relayHost := newHost(t, loopback)
	newRelay(t, relayHost)
	ServeStatement(relayHost, func() [][]byte { return nil })
	k := &Keeper{Host: newHost(t), Bootstrap: []string{full(relayHost)}, Narrow: func(bool) { t.Error("narrow") }}
	past := keep(t, k)
	eventually(t, "reservation", 2*time.Second, reservedOn(k, relayHost))
	time.Sleep(statementTimeout + 200*time.Millisecond)
	if e := past.of(wire.PathNarrow); len(e) != 0 {
		t.Errorf("%+v", e)
	}
}

func TestABetterWayIsTakenOnceItIsOpenWhileAnotherRelayKeepsUsReachable(t *testing.T) {
	t.Parallel()
	both, other := newHost(t, "/ip4/127.0.0.1/tcp/0/tls/ws"), newHost(t, loopback)
	newRelay(t, both)
	newRelay(t, other)
	k := &Keeper{Host: newHost(t), Bootstrap: []string{full(both)}, improveEvery: 200 * time.Millisecond}
	past := keep(t, k)
	eventually(t, "reservation over WebSocket", 2*time.Second, reservedOn(k, both))
	if err := both.Network().Listen(ma.StringCast(loopback)); err != nil {
		t.Fatal(err)
	}
	var tcp ma.Multiaddr
	for _, a := range both.Network().ListenAddresses() {
		if TransportName(a) == "tcp" {
			tcp = a
		}
	}
	k.add(t.Context(), both.ID(), tcp)
	time.Sleep(time.Second)
	if n := len(past.of(wire.ReservationLost)); n != 0 {
		t.Fatal("the only reservation was given up for a better way")
	}
	k.mu.Lock()
	k.Want = 2
	k.tellLocked()
	k.mu.Unlock()
	k.add(t.Context(), other.ID(), other.Addrs()...)
	eventually(t, "reservation over TCP, and another", 5*time.Second, func() bool {
		ways := map[string]string{}
		for _, r := range k.Relays() {
			ways[r.PeerID] = r.Transport
		}
		return len(ways) == 2 && ways[both.ID().String()] == "tcp"
	})
}

func TestAnInterceptorIsTold(t *testing.T) {
	t.Parallel()
	own, forged := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	for name, c := range map[string]struct {
		states    bool // the relay answers about its certificates
		seen      Outer
		refuse    bool
		reserved  bool
		inspected string // of the status
		recorded  wire.Outcome
	}{
		"the relay's own certificate, signed by nobody": {true, Outer{TLS: true, Leaf: own}, false, true, "no", ""},
		"another one, of an authority that we trust":    {true, Outer{TLS: true, Leaf: forged, Verified: true}, false, true, "yes", wire.OK},
		"another one, which is refused":                 {true, Outer{TLS: true, Leaf: forged, Verified: true}, true, false, "", wire.Failed},
		"another one, of an authority nobody knows":     {true, Outer{TLS: true, Leaf: forged}, false, false, "", wire.Failed},
		"a relay that does not say, verified":           {false, Outer{TLS: true, Leaf: own, Verified: true}, false, true, "unknown", ""},
		"a relay that does not say, signed by nobody":   {false, Outer{TLS: true, Leaf: own}, false, false, "", wire.Failed},
		"web traffic without TLS, which proves nothing": {true, Outer{}, true, true, "unknown", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			relayHost := newHost(t, loopback)
			newRelay(t, relayHost)
			if c.states {
				ServeStatement(relayHost, func() [][]byte { return [][]byte{own} })
			}
			k := &Keeper{Host: newHost(t), Bootstrap: []string{full(relayHost)}, RefuseInspected: c.refuse,
				Outer: func(interface{ As(any) bool }) (Outer, bool) { return c.seen, true }}
			past := keep(t, k)
			eventually(t, "decision", 3*time.Second, func() bool { return len(past.of(wire.ReservationMade))+len(past.of(wire.ReservationFailed)) > 0 })
			if made := len(past.of(wire.ReservationMade)) > 0; made != c.reserved {
				t.Fatalf("reserved: %t", made)
			}
			if c.reserved {
				eventually(t, "status", time.Second, func() bool { return len(k.Relays()) == 1 })
				if got := told(k.Relays()[0].Inspected); got != c.inspected {
					t.Errorf("inspected: %s, want %s", got, c.inspected)
				}
			}
			told := past.of(wire.RelayInspected)
			if (len(told) > 0) != (c.recorded != "") || len(told) > 0 && told[0].Outcome != c.recorded {
				t.Errorf("recorded: %+v, want %q", told, c.recorded)
			}
			if !c.reserved {
				eventually(t, "end of the connection", time.Second, func() bool { return len(relayHost.Network().Conns()) == 0 || len(told) > 0 })
			}
		})
	}
}

func told(b *bool) string {
	switch {
	case b == nil:
		return "unknown"
	case *b:
		return "yes"
	}
	return "no"
}

func TestANameThatLedNowhereIsAskedOfAnotherResolver(t *testing.T) {
	t.Parallel()
	good := newHost(t, loopback)
	newRelay(t, good)
	liar := dnsaddr(silent(t).String() + "/p2p/" + newHost(t).ID().String())
	honest := dnsaddr(full(good))
	k := &Keeper{Host: newHost(t), Bootstrap: []string{"/dnsaddr/mesh.example"}, Resolver: liar, SecondOpinion: honest}
	past := keep(t, k)
	eventually(t, "reservation on the relay that the second resolver names", answerPatience+2*time.Second, reservedOn(k, good))
	if n := len(past.of(wire.ResolveEnded)); n < 2 {
		t.Errorf("%d questions were recorded", n)
	}
}

func TestAResolverThatLedSomewhereIsNotDoubted(t *testing.T) {
	t.Parallel()
	good := newHost(t, loopback)
	newRelay(t, good)
	honest := dnsaddr(full(good))
	second := &countingZone{zone: honest}
	k := &Keeper{Host: newHost(t), Bootstrap: []string{"/dnsaddr/mesh.example"}, Resolver: honest, SecondOpinion: second}
	keep(t, k)
	eventually(t, "reservation", 2*time.Second, reservedOn(k, good))
	time.Sleep(answerPatience + 200*time.Millisecond)
	if n := second.asked.Load(); n != 0 {
		t.Errorf("it was asked %d times", n)
	}
}

// dnsaddr is a zone in which mesh.example is one peer.
func dnsaddr(addr string) zone {
	return zone{txt: map[string][]string{"_dnsaddr.mesh.example": {"dnsaddr=" + addr}}}
}

type countingZone struct {
	zone
	asked atomic.Int32
}

func (z *countingZone) LookupTXT(ctx context.Context, name string) ([]string, error) {
	z.asked.Add(1)
	return z.zone.LookupTXT(ctx, name)
}

func TestHoldingsWithoutLimitsComeFirst(t *testing.T) {
	flags := []bool{true, false, true, false}
	slices.SortFunc(flags, compareBool)
	if !slices.Equal(flags, []bool{false, false, true, true}) {
		t.Error(flags)
	}
}
