package traversal

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"

	"github.com/worldcompute/wce2e/node/wire"
)

func TestRelayWithoutPingIsKeptAndNotPinged(t *testing.T) {
	t.Parallel()
	mute := newHost(t, loopback)
	mute.RemoveStreamHandler(ping.ID)
	newRelay(t, mute)
	k := &Keeper{Host: newHost(t), Bootstrap: []string{full(mute)}}
	past := keep(t, k)
	eventually(t, "reservation", 2*time.Second, reservedOn(k, mute))
	eventually(t, "word of why there are no pings", 2*time.Second, func() bool { return len(past.of(wire.RelayPing)) > 0 })
	time.Sleep(1500 * time.Millisecond) // in which silence would have been met with another ping
	pings := past.of(wire.RelayPing)
	if len(pings) != 1 || pings[0].Outcome != wire.Failed || !strings.Contains(pings[0].Err, errNoPing.Error()) {
		t.Errorf("pings: %+v", pings)
	}
	if lacking, _ := k.need(); lacking {
		t.Error("a relay without ping is doubted")
	}
}

// pingFor runs a pinger that gives a path up after two seconds of silence.
func pingFor(t *testing.T, to host.Host, d time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	conn := connected(t, ctx, newHost(t), to)
	ctx, cancel = context.WithTimeout(ctx, d)
	defer cancel()
	p := pinger{conn: conn, every: 100 * time.Millisecond, dead: 2 * time.Second,
		report: func(time.Duration, error) {}, speaks: func() bool { return true }}
	return p.run(ctx)
}

func TestAHurryThatFallsIntoAPingIsNotMissed(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex // guards the field below
	hurry := make(chan struct{})
	h := newHost(t, loopback)
	h.SetStreamHandler(ping.ID, func(s network.Stream) {
		mu.Lock()
		close(hurry)
		hurry = make(chan struct{})
		mu.Unlock()
		_, _ = io.Copy(s, s)
	})
	var pings atomic.Int32
	p := pinger{
		conn: connected(t, t.Context(), newHost(t), h), every: time.Hour,
		report: func(time.Duration, error) { pings.Add(1) },
		speaks: func() bool { return true },
		hurry: func() <-chan struct{} {
			mu.Lock()
			defer mu.Unlock()
			return hurry
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.run(ctx) }()
	eventually(t, "second ping at once", 5*time.Second, func() bool { return pings.Load() >= 2 })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestOnlySilenceCountsAgainstAPath(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		handler network.StreamHandler
		dead    bool
	}{
		"a limit":                {func(s network.Stream) { _ = s.ResetWithError(network.StreamResourceLimitExceeded) }, false},
		"an overloaded peer":     {func(s network.Stream) { _ = s.ResetWithError(network.StreamProtocolNegotiationFailed) }, false},
		"an end":                 {func(s network.Stream) { _ = s.Close() }, false},
		"an answer from nowhere": {func(s network.Stream) { _, _ = s.Write(make([]byte, ping.PingSize)); _, _ = io.Copy(io.Discard, s) }, false},
		"silence":                {func(s network.Stream) { _, _ = io.Copy(io.Discard, s) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, loopback)
			var called atomic.Int32
			h.SetStreamHandler(ping.ID, func(s network.Stream) { called.Add(1); c.handler(s) })
			err := pingFor(t, h, 4*time.Second)
			if errors.Is(err, errDead) != c.dead || !c.dead && err != nil {
				t.Errorf("%v", err)
			}
			if n := called.Load(); n < 1 || n < 2 && !c.dead {
				t.Errorf("pinged %d times", n)
			}
		})
	}
}
