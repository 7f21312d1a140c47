package node

import (
	"fmt"
	"runtime/debug"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
)

// oneGiB is what a machine has that docs/running-a-relay.md counts with.
func oneGiB(t *testing.T) network.ResourceManager {
	t.Helper()
	before := debug.SetMemoryLimit(1 << 30)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	return books(t, true)
}

func books(t *testing.T, forRelay bool) network.ResourceManager {
	t.Helper()
	rm, err := newResourceManager(forRelay)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rm.Close() })
	return rm
}

// settledConn is a connection whose peer is known, from the i-th address.
func settledConn(t *testing.T, rm network.ResourceManager, i int) (network.ConnManagementScope, error) {
	t.Helper()
	from := ma.StringCast(fmt.Sprintf("/ip4/11.%d.%d.%d/tcp/4001", i>>16, i>>8&255, i&255))
	c, err := rm.OpenConnection(network.DirInbound, true, from)
	if err != nil {
		return nil, err
	}
	t.Cleanup(c.Done)
	return c, c.SetPeer(randomPeer(t))
}

// stream is what yamux books for one.
func stream(t *testing.T, conn network.PeerScope) (network.ResourceScopeSpan, error) {
	t.Helper()
	span, err := conn.BeginSpan()
	if err != nil {
		t.Fatal(err)
	}
	return span, span.ReserveMemory(initialWindow, network.ReservationPriorityAlways)
}

// circuitsLeft counts how many the relay service of a relay has memory for.
func circuitsLeft(t *testing.T, rm network.ResourceManager) (n int) {
	t.Helper()
	err := rm.ViewService(relay.ServiceName, func(s network.ServiceScope) error {
		for ; s.ReserveMemory(circuitBuffers, network.ReservationPriorityHigh) == nil; n++ {
		}
		s.ReleaseMemory(n * circuitBuffers)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestIdleDonorsTakeNoCircuitsAway(t *testing.T) {
	rm := oneGiB(t)
	before := circuitsLeft(t, rm)
	if before < 600 || before > 700 {
		t.Errorf("1 GiB has memory for %d circuits", before)
	}
	for i := range 4000 {
		conn, err := settledConn(t, rm, i)
		if err != nil {
			t.Fatalf("donor %d: %v", i, err)
		}
		w := &windows{PeerScope: conn.PeerScope()}
		for range 3 {
			if _, err := stream(t, w); err != nil {
				t.Fatalf("donor %d: %v", i, err)
			}
		}
	}
	if n := circuitsLeft(t, rm); n != before {
		t.Errorf("beside 4,000 idle donors %d circuits fit, and %d without", n, before)
	}
}

func TestOnlyTheFirstStreamsOfAConnectionAreFree(t *testing.T) {
	rm := oneGiB(t)
	conn, err := settledConn(t, rm, 1)
	if err != nil {
		t.Fatal(err)
	}
	booked := func(want int64) {
		t.Helper()
		if got := conn.PeerScope().Stat().Memory; got != want {
			t.Errorf("%d bytes are booked, want %d", got, want)
		}
	}
	w := &windows{PeerScope: conn.PeerScope()}
	var open []network.ResourceScopeSpan
	for range freeWindows + 2 {
		s, err := stream(t, w)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, s)
	}
	booked(2 * initialWindow)
	open[0].Done() // whichever ends
	open[0].Done()
	booked(initialWindow)
	if err := open[1].ReserveMemory(initialWindow, 128); err != nil { // grows
		t.Fatal(err)
	}
	booked(2 * initialWindow)
	for _, s := range open {
		s.Done()
	}
	booked(0)
}

func TestAPeersCircuitsFitItsBooks(t *testing.T) {
	rm := oneGiB(t)
	conn, err := settledConn(t, rm, 1)
	if err != nil {
		t.Fatal(err)
	}
	w := &windows{PeerScope: conn.PeerScope()}
	for i := range volunteerLimits().CircuitsPerPeer + 32 {
		if _, err := stream(t, w); err != nil {
			t.Fatalf("stream %d, of which all end now: %v", i, err)
		}
	}
}

// However many strangers hold a connection, the connection manager must come to
// trim them, and others be let in meanwhile.
func TestADonorHasRoomForMoreConnectionsThanItKeeps(t *testing.T) {
	limits := rcmgr.DefaultLimits
	rm, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(donorResources(limits.Scale(2<<30/8, 1024))), rcmgr.WithMetricsDisabled())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rm.Close() })
	for i := range 2 * donorConnsHigh {
		if _, err := settledConn(t, rm, i); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	for i := range donorHandshakes {
		c, err := rm.OpenConnection(network.DirInbound, true, ma.StringCast(fmt.Sprintf("/ip4/12.0.%d.%d/tcp/4001", i>>8, i&255)))
		if err != nil {
			t.Fatalf("handshake %d: %v", i, err)
		}
		t.Cleanup(c.Done)
	}
	if c, err := rm.OpenConnection(network.DirOutbound, true, ma.StringCast("/ip4/13.0.0.1/tcp/4001")); err != nil {
		t.Errorf("its own: %v", err)
	} else {
		c.Done()
	}
}
