package traversal

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/wire"
)

func TestRelayThatCutsARequestOffIsAskedAgain(t *testing.T) {
	t.Parallel()
	busy := newHost(t, loopback)
	var asked atomic.Int32
	busy.SetStreamHandler(proto.ProtoIDv2Hop, func(s network.Stream) {
		if asked.Add(1) == 1 {
			_ = s.ResetWithError(network.StreamProtocolNegotiationFailed)
			return
		}
		defer s.Close()
		_ = util.NewDelimitedWriter(s).WriteMsg(granted(time.Hour))
	})
	k := &Keeper{Host: newHost(t), Bootstrap: []string{full(busy)}}
	past := keep(t, k)
	eventually(t, "reservation at the second request", 4*time.Second, reservedOn(k, busy))
	if failed := past.of(wire.ReservationFailed); len(failed) != 1 || failed[0].Failure != "protocol_not_supported" {
		t.Errorf("failed: %+v", failed)
	}
}

func TestInferredLackOfARelayExpires(t *testing.T) {
	t.Parallel()
	k := &Keeper{}
	k.reset()
	c := &candidate{keeper: k, hop: hopNo, hopUntil: time.Now().Add(time.Minute)}
	if wait, ready := c.mayAsk(time.Time{}); ready || wait > time.Minute {
		t.Errorf("before: ready %v, else in %s", ready, wait)
	}
	c.hopUntil = time.Now().Add(-time.Second)
	if _, ready := c.mayAsk(time.Time{}); !ready || c.hop == hopNo {
		t.Errorf("after: ready %v, hop %v", ready, c.hop)
	}
	c.hop, c.hopUntil = hopNo, time.Time{}
	if _, ready := c.mayAsk(time.Time{}); ready {
		t.Error("the peer's own word has expired")
	}
}

func TestRefusedRenewalIsNotHurried(t *testing.T) {
	t.Parallel()
	relayHost := newHost(t, loopback)
	var asked atomic.Int32
	answering(relayHost, func(peer.ID) *pb.HopMessage {
		if asked.Add(1) == 1 {
			return granted(time.Hour)
		}
		return &pb.HopMessage{Type: pb.HopMessage_STATUS.Enum(), Status: pb.Status_RESERVATION_REFUSED.Enum()}
	})
	k := &Keeper{Host: newHost(t), Bootstrap: []string{full(relayHost)}, renewEvery: 50 * time.Millisecond}
	past := keep(t, k)
	eventually(t, "refused renewal", 2*time.Second, func() bool { return len(past.of(wire.ReservationFailed)) == 1 })
	// From the second failure on, backoff alone would have asked after 2.4 s.
	time.Sleep(3 * time.Second)
	if n := asked.Load(); n != 2 {
		t.Errorf("the relay was asked %d times", n)
	}
}

func TestReservationEndsWhenTheRelayIsNoneAtRenewal(t *testing.T) {
	t.Parallel()
	relayHost := newHost(t, loopback)
	var over atomic.Bool
	relayHost.SetStreamHandler(proto.ProtoIDv2Hop, func(s network.Stream) {
		if over.Load() {
			_ = s.ResetWithError(network.StreamProtocolNegotiationFailed)
			return
		}
		defer s.Close()
		_ = util.NewDelimitedWriter(s).WriteMsg(granted(time.Hour))
	})
	k := &Keeper{Host: newHost(t), Bootstrap: []string{full(relayHost)}}
	keep(t, k)
	eventually(t, "reservation", 2*time.Second, reservedOn(k, relayHost))
	k.mu.Lock()
	held := *k.held[relayHost.ID()]
	k.mu.Unlock()
	quiet := &Keeper{Host: k.Host, renewEvery: time.Millisecond, Want: 1}
	quiet.reset()
	held.keeper = quiet
	if err := k.Host.Peerstore().RemoveProtocols(relayHost.ID(), proto.ProtoIDv2Hop); err != nil {
		t.Fatal(err)
	}
	over.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := held.renew(ctx); !errors.Is(err, errNoRelay) {
		t.Errorf("the renewal ended with %v", err)
	}
}

func TestPeerThatLetsGoOfUsIsNotRedialledAtOnce(t *testing.T) {
	t.Parallel()
	k := &Keeper{}
	k.reset()
	c := &candidate{keeper: k}
	holdOne := func() { k.held["other"] = &holding{keeper: k} }
	began := time.Now()
	for name, x := range map[string]struct {
		why      rest
		held     bool
		hop      hopSupport
		relayed  bool
		min, max time.Duration
	}{
		"a relay that is needed":                {rest{parted: true, steady: true}, false, hopYes, true, 0, 0},
		"one whose connection did not last":     {rest{parted: true, failures: 1}, false, hopYes, true, 2 * time.Second, 2 * time.Second},
		"a relay that said it stops":            {rest{parted: true, steady: true}, false, hopNo, true, 0, 0},
		"a relay that is not needed":            {rest{parted: true, steady: true}, true, hopYes, true, time.Minute, time.Minute},
		"a peer that is no relay":               {rest{parted: true, steady: true}, false, hopNo, false, time.Minute, time.Minute},
		"the same for the third time":           {rest{parted: true, steady: true, partings: 2}, false, hopNo, false, 4 * time.Minute, 4 * time.Minute},
		"the same for ever":                     {rest{parted: true, steady: true, partings: 1000}, true, hopNo, false, idleBackoff, idleBackoff},
		"a peer that could not be reached once": {rest{}, true, hopUnknown, false, time.Second, time.Second},
	} {
		clear(k.held)
		if x.held {
			holdOne()
		}
		c.hop, c.relayed = x.hop, x.relayed
		if d := c.pauseFor(x.why, 1, began); d < x.min || d > x.max {
			t.Errorf("%s: %s", name, d)
		}
	}
	for lived, want := range map[time.Duration]int{steadyAfter + time.Second: 4, idleBackoff + time.Second: 1} {
		c.partings = 3
		if c.parted(lived); c.partings != want {
			t.Errorf("after %s: %d", lived, c.partings)
		}
	}
}

func TestFailingNameIsLeftInPeaceWhileAReservationStands(t *testing.T) {
	t.Parallel()
	k := &Keeper{}
	k.reset()
	if d := k.nameAgain(1, 1); d != time.Second {
		t.Errorf("while a reservation is lacking: %s", d)
	}
	k.held["relay"] = &holding{keeper: k}
	if d := k.nameAgain(1, 1); d != idleBackoff {
		t.Errorf("while one stands: %s", d)
	}
}

func TestUnwelcomeDonorDoesNotInsist(t *testing.T) {
	t.Parallel()
	relayHost := newHost(t, loopback)
	newRelay(t, relayHost, relay.WithACL(nobody{}))
	k := &Keeper{Host: newHost(t), Bootstrap: []string{full(relayHost)}}
	past := keep(t, k)
	eventually(t, "refusal", 2*time.Second, func() bool { return len(past.of(wire.ReservationFailed)) > 0 })
	k.mu.Lock()
	left := time.Until(k.candidates[relayHost.ID()].notBefore)
	k.mu.Unlock()
	if left < idleBackoff-10*time.Second {
		t.Errorf("it is asked again in %s", left)
	}
}

// nobody lets nobody have a reservation.
type nobody struct{}

func (nobody) AllowReserve(peer.ID, ma.Multiaddr) bool          { return false }
func (nobody) AllowConnect(peer.ID, ma.Multiaddr, peer.ID) bool { return false }

func TestCandidatesAndAddressesAreBounded(t *testing.T) {
	t.Parallel()
	k := &Keeper{Host: newHost(t)}
	k.reset()
	ended, cancel := context.WithCancel(t.Context())
	cancel() // nobody is dialled
	at := func(n int) ma.Multiaddr { return ma.StringCast(fmt.Sprintf("/ip4/192.0.2.1/tcp/%d", n+1)) }
	k.add(ended, "configured", at(0))
	for n := range 3 * maxAddrs {
		k.enlist(ended, "/dnsaddr/a", "configured", at(n))
		k.enlist(ended, "/dnsaddr/a", "configured", at(5))
	}
	c := k.candidates["configured"]
	if len(c.addrs) != maxAddrs || !c.addrs[0].Equal(at(0)) || !ma.Contains(c.addrs, at(5)) || !ma.Contains(c.addrs, at(3*maxAddrs-1)) {
		t.Errorf("%d addresses: %v", len(c.addrs), c.addrs)
	}
	for n := range 2 * maxCandidates {
		if room := k.enlist(ended, "/dnsaddr/a", peer.ID(fmt.Sprint(n)), at(n)); room != (n < maxCandidates-1) {
			t.Fatalf("room for number %d: %v", n, room)
		}
	}
	k.add(ended, "also configured", at(0))
	if n := len(k.candidates); n != maxCandidates+1 {
		t.Errorf("%d candidates", n)
	}
}

func TestPeerThatNoListNamesIsForgottenOnceItIsLongGone(t *testing.T) {
	t.Parallel()
	k := &Keeper{Host: newHost(t)}
	k.reset()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	k.enlist(ended, "/dnsaddr/a", "old")
	k.enlist(ended, "/dnsaddr/b", "old")
	k.add(ended, "configured")
	old, fixed := k.candidates["old"], k.candidates["configured"]
	old.reached, fixed.reached = time.Now().Add(-2*forgetAfter), time.Now().Add(-2*forgetAfter)
	k.unlist("/dnsaddr/a", map[peer.ID]bool{"new": true})
	if old.forget() {
		t.Error("it was forgotten although another list names it")
	}
	k.unlist("/dnsaddr/b", map[peer.ID]bool{"old": true})
	if old.forget() {
		t.Error("it was forgotten although it is named again")
	}
	k.unlist("/dnsaddr/b", nil)
	if fixed.forget() {
		t.Error("a configured peer was forgotten")
	}
	old.reached = time.Now()
	if old.forget() {
		t.Error("it was forgotten a moment after it was reached")
	}
	old.reached = time.Now().Add(-2 * forgetAfter)
	if !old.forget() || k.candidates["old"] != nil || len(k.candidates) != 1 {
		t.Errorf("it was not forgotten: %v", k.candidates)
	}
}

func TestTwoSurplusReservationsDoNotGiveWayToEachOther(t *testing.T) {
	t.Parallel()
	k := &Keeper{}
	k.reset()
	a, b := &holding{keeper: k}, &holding{keeper: k}
	k.held["a"], k.held["b"] = a, b
	if first, second := a.surplus(), b.surplus(); !first || second {
		t.Errorf("the first goes: %v, the second: %v", first, second)
	}
}

func TestAFoundPeerThatLosesItsPlaceIsProtectedNoMore(t *testing.T) {
	t.Parallel()
	k := &Keeper{Host: newHost(t)}
	k.reset()
	k.mu.Lock()
	for n := range maxFound {
		k.candidateLocked(peer.ID(fmt.Sprint(n))).found = true
	}
	oldest := k.candidates["0"]
	oldest.reached = time.Now().Add(-time.Hour)
	k.Host.ConnManager().Protect(oldest.id, protectTag) // it was connected once
	if !k.roomLocked() || !oldest.gone {
		t.Error("it has not lost its place")
	}
	k.mu.Unlock()
	oldest.tend(t.Context())
	if k.Host.ConnManager().IsProtected(oldest.id, protectTag) {
		t.Error("it is protected still")
	}

	k.mu.Lock()
	k.candidateLocked(oldest.id).found = true
	k.Host.ConnManager().Protect(oldest.id, protectTag)
	k.mu.Unlock()
	oldest.tend(t.Context())
	if !k.Host.ConnManager().IsProtected(oldest.id, protectTag) {
		t.Error("what is left of it took the protection of the candidate that it became anew")
	}
}
