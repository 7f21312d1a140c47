package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"
	madns "github.com/multiformats/go-multiaddr-dns"

	"github.com/worldcompute/wce2e/node/netcheck"
	"github.com/worldcompute/wce2e/node/wire"
)

// DialConfig says what DialOnce dials.
type DialConfig struct {
	To      string        // multiaddr, direct or through a relay, with /p2p/<peer>
	Timeout time.Duration // of all of it; 0 means DefaultDialOnce
	Version string        // of the software, as told to the peer
	Log     *slog.Logger  // nil means discard
}

// DefaultDialOnce bounds a single dial: one dialTimeout, and what follows.
const DefaultDialOnce = 20 * time.Second

// observeTimeout is how long to wait, after the ping, for the peer to tell how
// it sees us: one round trip, which the ping has just shown to work.
const observeTimeout = 2 * time.Second

// DialOnce dials one address with a new identity and new sockets, listening
// nowhere, makes a ping round trip on that very connection, and hangs up. It
// punches no holes. An error means that the question was wrong; whatever the
// network did is in the result.
func DialOnce(ctx context.Context, cfg DialConfig) (wire.DialResult, error) {
	t, err := parseTarget(cfg.To)
	if err != nil {
		return wire.DialResult{}, fmt.Errorf("dial: %w", err)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultDialOnce
	}
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return wire.DialResult{}, fmt.Errorf("dial: new identity: %w", err)
	}
	var lines bytes.Buffer
	rec := newRecorder(&lines, cfg.Log)
	h, err := newHost(hostConfig{key: key, rec: rec, userAgent: "wce2e/" + cfg.Version})
	if err != nil {
		return wire.DialResult{}, fmt.Errorf("dial: %w", err)
	}
	d := &singleDial{host: h, rec: rec, target: t}
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	result := d.run(ctx)
	result.Self, result.Addr, result.Peer = h.ID().String(), cfg.To, t.peer.String()

	// A dial that ran into the deadline is about to tell what it was doing.
	rec.settle(2 * dialGrace)
	rec.stopping.Store(true)
	closing, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if !within(closing, stopTimeout, func() { h.Close() }) {
		cfg.Log.Warn("the libp2p host did not end in time")
	}
	rec.abortDials(errStopped)
	rec.Record(wire.Event{Kind: wire.NodeStopped}) // nothing is written from here on
	if result.Events, err = dialEvents(&lines); err != nil {
		return result, err
	}
	d.explain(&result)
	return result, nil
}

// explain takes the reason of a failed dial from the attempt itself, where the
// library has only told that all failed, or that time was over.
func (d *singleDial) explain(result *wire.DialResult) {
	if result.Remote != "" {
		return // there was a connection
	}
	for _, ev := range result.Events {
		if ev.Kind == wire.DialEnded && ev.Outcome == wire.Failed && ev.Addr == d.target.addr.String() {
			result.Failure, result.Err = ev.Failure, ev.Err
		}
	}
}

// singleDial is one DialOnce under way.
type singleDial struct {
	host   host.Host
	rec    *recorder
	target target
}

func (d *singleDial) run(ctx context.Context) wire.DialResult {
	began := time.Now()
	seen, err := d.host.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted))
	if err != nil {
		return failedDial(began, err)
	}
	defer seen.Close()
	conn, err := d.dial(ctx)
	if err != nil {
		return failedDial(began, err)
	}
	result := wire.DialResult{
		Outcome: wire.OK, Path: pathOf(conn), Relay: relayOf(conn.RemoteMultiaddr()),
		Transport: transportOf(conn.RemoteMultiaddr()),
		Local:     conn.LocalMultiaddr().String(), Remote: conn.RemoteMultiaddr().String(),
		Security: string(conn.ConnState().Security), MS: millis(time.Since(began)),
	}
	rtt, err := pingOver(ctx, routeOver(conn))
	if err != nil {
		result.Outcome, result.Err, result.Failure = wire.Failed, err.Error(), string(netcheck.Classify(err))
		return result
	}
	result.PingMS = millis(rtt)
	result.Observed = d.observed(ctx, seen, conn)
	return result
}

// dial makes the connection, and returns the reason when the library only says
// that time was over.
func (d *singleDial) dial(ctx context.Context) (network.Conn, error) {
	if madns.Matches(d.target.addr) {
		// The library would only say that there are no good addresses.
		if _, err := madns.Resolve(ctx, d.target.addr); err != nil {
			return nil, fmt.Errorf("resolve %s: %w", d.target.addr, err)
		}
	}
	d.host.Peerstore().AddAddr(d.target.peer, d.target.addr, peerstore.TempAddrTTL)
	ctx = network.WithAllowLimitedConn(network.WithDialPeerTimeout(ctx, time.Hour), "dial")
	if !has(d.target.addr, ma.P_CIRCUIT) {
		ctx = network.WithForceDirectDial(ctx, "dial")
	}
	return d.host.Network().DialPeer(ctx, d.target.peer)
}

// observed is our address as the peer sees it. Through a relay, a peer sees
// the relay; then it is our address as the relay sees it.
func (d *singleDial) observed(ctx context.Context, seen event.Subscription, conn network.Conn) string {
	who := conn.RemotePeer().String()
	if relay := relayOf(conn.RemoteMultiaddr()); relay != "" {
		who = relay
	}
	ctx, cancel := context.WithTimeout(ctx, observeTimeout)
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return ""
		case e := <-seen.Out():
			if e, ok := e.(event.EvtPeerIdentificationCompleted); ok && e.Peer.String() == who && e.ObservedAddr != nil {
				return e.ObservedAddr.String()
			}
		}
	}
}

func failedDial(began time.Time, err error) wire.DialResult {
	return wire.DialResult{
		Outcome: wire.Failed, Err: err.Error(), Failure: string(netcheck.Classify(err)), MS: millis(time.Since(began)),
	}
}

// pingOver is one round trip of libp2p's ping on this route.
func pingOver(ctx context.Context, way route) (time.Duration, error) {
	s, err := way.stream(ctx, ping.ID)
	if err != nil {
		return 0, err
	}
	defer s.Reset()
	stop := context.AfterFunc(ctx, func() { s.SetDeadline(time.Now()) })
	defer stop()
	out, in := make([]byte, ping.PingSize), make([]byte, ping.PingSize)
	rand.Read(out) // never fails
	began := time.Now()
	if _, err := s.Write(out); err != nil {
		return 0, fmt.Errorf("ping %s: %w", way.peer, err)
	}
	if _, err := io.ReadFull(s, in); err != nil {
		return 0, fmt.Errorf("ping %s: %w", way.peer, err)
	}
	if !bytes.Equal(out, in) {
		return 0, fmt.Errorf("ping %s: %w", way.peer, errors.New("the answer is not what was sent"))
	}
	return time.Since(began), nil
}

// dialEvents are the recorded events of dials.
func dialEvents(lines io.Reader) ([]wire.Event, error) {
	out := []wire.Event{}
	dec := json.NewDecoder(lines)
	for {
		var ev wire.Event
		err := dec.Decode(&ev)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, fmt.Errorf("dial: read back the events: %w", err)
		}
		if ev.Kind == wire.DialStarted || ev.Kind == wire.DialEnded {
			out = append(out, ev)
		}
	}
}
