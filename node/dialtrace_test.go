package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/netcheck"
	"github.com/worldcompute/wce2e/node/wire"
)

const somebody = "12D3KooWLRPJAA5o6ZM9FZQGXfnFBYEGMhbWrsMLpQbQFfxvgXfY"

// serveTCP listens on loopback and treats each connection as told.
func serveTCP(t *testing.T, treat func(net.Conn)) ma.Multiaddr {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go treat(c)
		}
	}()
	return ma.StringCast(fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", l.Addr().(*net.TCPAddr).Port))
}

func silent(c net.Conn) {
	io.Copy(io.Discard, c)
	c.Close()
}

func reset(c net.Conn) {
	c.Read(make([]byte, 1))
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

func hangUp(c net.Conn) {
	c.Read(make([]byte, 64))
	c.Close()
}

func garbage(c net.Conn) {
	// A multistream reader takes the first byte for a length, twice, before it
	// complains: a short banner of a server that stays open looks like silence.
	io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nServer: "+strings.Repeat("no peer of ours ", 16)+"\r\n\r\n")
	silent(c)
}

// closedPort is an address that refuses connections.
func closedPort(t *testing.T) ma.Multiaddr {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return ma.StringCast(fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", l.Addr().(*net.TCPAddr).Port))
}

// silentUDP is a port that swallows everything.
func silentUDP(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return fmt.Sprintf("/ip4/127.0.0.1/udp/%d/quic-v1", c.LocalAddr().(*net.UDPAddr).Port)
}

func TestEveryDialHasOneOutcomeWithItsReason(t *testing.T) {
	other := startNode(t, Config{Relay: true})
	bare := func(transport string) string {
		a, _ := peer.SplitAddr(ma.StringCast(other.addr(transport)))
		return a.String()
	}
	for _, c := range []struct {
		name, addr, transport string
		want                  []netcheck.Failure
	}{
		{"refused", closedPort(t).String(), "tcp", []netcheck.Failure{netcheck.Refused}},
		{"accepted and then silent", serveTCP(t, silent).String(), "tcp", []netcheck.Failure{netcheck.SecurityTimeout}},
		{"reset after the first bytes", serveTCP(t, reset).String(), "tcp", []netcheck.Failure{netcheck.SecurityReset}},
		{"closed after the first bytes", serveTCP(t, hangUp).String(), "tcp", []netcheck.Failure{netcheck.SecurityEOF, netcheck.SecurityReset}},
		{"not libp2p", serveTCP(t, garbage).String(), "tcp", []netcheck.Failure{netcheck.Garbage}},
		{"not a TLS server", serveTCP(t, garbage).String() + "/tls/ws", "wss", []netcheck.Failure{netcheck.TLSHandshake}},
		{"not a WebSocket server", serveTCP(t, garbage).String() + "/ws", "ws", []netcheck.Failure{netcheck.WebSocketHandshake}},
		{"WebSocket into silence", serveTCP(t, silent).String() + "/tls/ws", "wss", []netcheck.Failure{netcheck.Timeout, netcheck.TLSHandshake}},
		{"UDP into silence", silentUDP(t), "quic-v1", []netcheck.Failure{netcheck.QUICIdleTimeout, netcheck.Timeout}},
		{"another peer over TCP", bare("tcp"), "tcp", []netcheck.Failure{netcheck.PeerMismatch}},
		{"another peer over QUIC", bare("quic-v1"), "quic-v1", []netcheck.Failure{netcheck.PeerMismatch}},
		{"another peer over WebSocket", bare("wss"), "wss", []netcheck.Failure{netcheck.PeerMismatch}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, err := DialOnce(short(t), DialConfig{To: c.addr + "/p2p/" + somebody, Timeout: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			if r.Outcome != wire.Failed || !slices.Contains(c.want, netcheck.Failure(r.Failure)) || r.Err == "" {
				t.Errorf("outcome %q, failure %q (%s), want one of %v", r.Outcome, r.Failure, r.Err, c.want)
			}
			if len(r.Events) != 2 || r.Events[0].Kind != wire.DialStarted || r.Events[1].Kind != wire.DialEnded ||
				r.Events[1].Dial != r.Events[0].Dial || r.Events[1].Outcome != wire.Failed || r.Events[1].Transport != c.transport {
				t.Errorf("events: %+v", r.Events)
			}
			if r.MS > 3000 {
				t.Errorf("took %.0f ms of the one second", r.MS)
			}
		})
	}
}

func TestTheDialThatLosesTheRaceIsAborted(t *testing.T) {
	other := startNode(t, Config{})
	n := startNode(t, Config{})
	_, id := peer.SplitAddr(ma.StringCast(other.addr("tcp")))
	good, _ := peer.SplitAddr(ma.StringCast(other.addr("tcp")))
	quiet := ma.StringCast(silentUDP(t)) // begun before TCP
	n.host.Peerstore().AddAddrs(id, []ma.Multiaddr{quiet, good}, peerstore.TempAddrTTL)
	if _, err := n.host.Network().DialPeer(short(t), id); err != nil {
		t.Fatal(err)
	}
	ended := n.awaitEvent("the end of the dial into silence", func(ev wire.Event) bool {
		return ev.Kind == wire.DialEnded && ev.Addr == quiet.String()
	})
	if ended.Outcome != wire.Aborted || ended.Failure != string(netcheck.Aborted) || ended.Err == "" {
		t.Errorf("it ended %q, %q, %q", ended.Outcome, ended.Failure, ended.Err)
	}
	counts := n.rec.dialCounts()
	if counts != (wire.DialCounts{Started: 2, OK: 1, Aborted: 1}) {
		t.Errorf("counts: %+v", counts)
	}
}

func TestADialThatIsOpenWhenTheNodeStopsIsAborted(t *testing.T) {
	n := startNode(t, Config{})
	id, err := peer.Decode(somebody)
	if err != nil {
		t.Fatal(err)
	}
	n.host.Peerstore().AddAddr(id, serveTCP(t, silent), peerstore.TempAddrTTL)
	go n.host.Network().DialPeer(context.Background(), id)
	n.awaitEvent("the start of the dial", func(ev wire.Event) bool { return ev.Kind == wire.DialStarted })
	began := time.Now()
	n.end() // checks the books
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("stopping took %s", took)
	}
	ends := n.kind(wire.DialEnded)
	if len(ends) != 1 || ends[0].Outcome != wire.Aborted {
		t.Errorf("ends of dials: %+v", ends)
	}
}

func TestADialThatItsLastWaiterDeadlineEndsHasFailed(t *testing.T) {
	n := startNode(t, Config{})
	id, err := peer.Decode(somebody)
	if err != nil {
		t.Fatal(err)
	}
	n.host.Peerstore().AddAddr(id, serveTCP(t, silent), peerstore.TempAddrTTL)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := n.host.Network().DialPeer(ctx, id); err == nil {
		t.Fatal("connected to nobody")
	}
	end := n.awaitEvent("the end of the dial", func(ev wire.Event) bool { return ev.Kind == wire.DialEnded })
	if end.Outcome != wire.Failed || end.Failure != string(netcheck.SecurityTimeout) {
		t.Errorf("it ended %q, %q: %s", end.Outcome, end.Failure, end.Err)
	}
}

// deafTransport never looks at its context.
type deafTransport struct {
	transport.Transport
	release chan struct{}
}

func (d deafTransport) Dial(context.Context, ma.Multiaddr, peer.ID) (transport.CapableConn, error) {
	<-d.release
	return nil, errors.New("at last")
}

func TestATransportThatIgnoresItsContextIsLeftBehind(t *testing.T) {
	events, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	release := make(chan struct{})
	defer close(release)
	rec := newRecorder(events, discard())
	tpt := &tracedTransport{Transport: deafTransport{release: release}, rec: rec}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err = tpt.Dial(ctx, ma.StringCast("/ip4/127.0.0.1/tcp/1/ws"), somebody)
	if !errors.Is(err, errTransportStuck) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error: %v", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %s", took)
	}
	if c := rec.dialCounts(); c != (wire.DialCounts{Started: 1, Failed: 1}) {
		t.Errorf("counts: %+v", c)
	}
}

func TestADialOutsideOfTheMeshDoesNotPunchHoles(t *testing.T) {
	relay := startNode(t, Config{Relay: true})
	donor := startNode(t, Config{Bootstrap: []string{relay.addr("wss")}})
	to := donor.through(relay)
	r, err := DialOnce(short(t), DialConfig{To: to})
	if err != nil {
		t.Fatal(err)
	}
	if r.Outcome != wire.OK || r.Path != wire.Relayed || r.Relay != relay.host.ID().String() || r.Transport != "circuit" {
		t.Fatalf("result: %+v", r)
	}
	if r.Observed == "" || r.PingMS <= 0 || r.Local == "" || r.Remote == "" {
		t.Errorf("result lacks something: %+v", r)
	}
	self, err := peer.Decode(r.Self)
	if err != nil {
		t.Fatal(err)
	}
	opened := donor.awaitEvent("the donor's end", func(ev wire.Event) bool {
		return ev.Kind == wire.ConnOpened && ev.Peer == r.Self
	})
	if opened.Direction != "inbound" || opened.Relay != relay.host.ID().String() {
		t.Errorf("the donor's end: %+v", opened)
	}
	if n := donor.host.Network().Connectedness(self); n == network.Connected {
		await(t, "the connection gone", func() bool { return donor.host.Network().Connectedness(self) != network.Connected })
	}
	if got := donor.find(func(ev wire.Event) bool { return ev.Kind == wire.ConnOpened && ev.Peer == r.Self }); len(got) != 1 {
		t.Errorf("the donor saw %d connections of the dialler", len(got))
	}
	var transports []string
	for _, ev := range r.Events {
		if ev.Kind == wire.DialEnded {
			transports = append(transports, ev.Transport+" "+string(ev.Outcome))
		}
	}
	if want := []string{"wss ok", "circuit ok"}; !slices.Equal(transports, want) {
		t.Errorf("dials: %v, want %v", transports, want)
	}
}

func TestADirectDialIsDirectAndTellsWhatThePeerSees(t *testing.T) {
	donor := startNode(t, Config{})
	for _, transport := range []string{"tcp", "quic-v1"} {
		r, err := DialOnce(short(t), DialConfig{To: donor.addr(transport)})
		if err != nil {
			t.Fatal(err)
		}
		if r.Outcome != wire.OK || r.Path != wire.Direct || r.Relay != "" || r.Transport != transport || len(r.Events) != 2 {
			t.Errorf("%s: %+v", transport, r)
		}
		seen := donor.awaitEvent("the donor's end", func(ev wire.Event) bool { return ev.Kind == wire.ConnOpened && ev.Peer == r.Self })
		if r.Observed != seen.Remote {
			t.Errorf("%s: seen as %s, told %s", transport, seen.Remote, r.Observed)
		}
	}
}

func TestADialThroughARelayWithoutAReservationSaysSo(t *testing.T) {
	relay := startNode(t, Config{Relay: true})
	r, err := DialOnce(short(t), DialConfig{To: relay.addr("quic-v1") + "/p2p-circuit/p2p/" + somebody})
	if err != nil {
		t.Fatal(err)
	}
	if r.Outcome != wire.Failed || r.Failure != string(netcheck.RelayNoReservation) {
		t.Errorf("outcome %q, failure %q: %s", r.Outcome, r.Failure, r.Err)
	}
	refused := relay.awaitEvent("the relay's refusal", func(ev wire.Event) bool { return ev.Kind == wire.RelayCircuitFailed })
	if refused.Peer != r.Self || refused.Target != somebody || refused.Err != "NO_RESERVATION" {
		t.Errorf("the relay's record: %+v", refused)
	}
}

func TestAnAddressWithoutItsPeerIsNoQuestion(t *testing.T) {
	for _, to := range []string{"", "nonsense", "/ip4/127.0.0.1/tcp/1", "/p2p/" + somebody, "/ip4/127.0.0.1/tcp/1/p2p-circuit/p2p/" + somebody} {
		if _, err := DialOnce(short(t), DialConfig{To: to}); err == nil {
			t.Errorf("%q was dialled", to)
		}
	}
}
