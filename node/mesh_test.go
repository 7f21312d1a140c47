package node

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/wire"
)

func TestADonorReservesAndBothSidesSaySo(t *testing.T) {
	for _, transport := range []string{"tcp", "quic-v1", "wss"} {
		t.Run(transport, func(t *testing.T) {
			relay := startNode(t, Config{Relay: true})
			donor := startNode(t, Config{Bootstrap: []string{relay.addr(transport)}})
			relayID, donorID := relay.host.ID().String(), donor.host.ID().String()
			addr := donor.through(relay)
			if want := relay.addr(transport) + "/p2p-circuit/p2p/" + donorID; addr != want {
				t.Errorf("the circuit address is %s, want %s", addr, want)
			}
			if !strings.Contains(donor.logText.String(), "NewListenAddr("+addr+")") {
				t.Error("the log does not have it")
			}
			made := donor.kind(wire.ReservationMade)
			if len(made) != 1 || made[0].Relay != relayID || len(made[0].Voucher) == 0 || made[0].Expires.Before(time.Now()) {
				t.Fatalf("the donor's record: %+v", made)
			}
			opened := donor.find(func(ev wire.Event) bool { return ev.Kind == wire.ConnOpened && ev.Conn == made[0].Conn })
			if len(opened) != 1 || opened[0].Peer != relayID || opened[0].Transport != transport {
				t.Errorf("the reservation's connection: %+v", opened)
			}
			granted := relay.awaitEvent("the relay's record", func(ev wire.Event) bool { return ev.Kind == wire.RelayReservation })
			if granted.Peer != donorID || granted.Outcome != wire.OK || granted.Renewal || !granted.Expires.Equal(made[0].Expires) {
				t.Errorf("the relay's record: %+v", granted)
			}
			donor.awaitEvent("a ping", func(ev wire.Event) bool {
				return ev.Kind == wire.RelayPing && ev.Outcome == wire.OK && ev.Conn == made[0].Conn
			})
			checkStatus(t, donor, relay, addr)
		})
	}
}

// checkStatus compares what the two nodes say of themselves.
func checkStatus(t *testing.T, donor, relay *testNode, circuit string) {
	t.Helper()
	s, err := FetchStatus(short(t), donor.cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if s.Role != "donor" || s.PeerID != donor.host.ID().String() || !slices.Equal(s.CircuitAddrs, []string{circuit}) {
		t.Errorf("the donor's status: %+v", s)
	}
	if len(s.Relays) != 1 || s.Relays[0].PeerID != relay.host.ID().String() {
		t.Fatalf("its relays: %+v", s.Relays)
	}
	if r := s.Relays[0]; (r.Transport == "wss") != (r.Inspected != nil) || r.Inspected != nil && *r.Inspected {
		t.Errorf("over %s it is said to be inspected: %v", r.Transport, r.Inspected)
	}
	if !slices.Contains(s.Addrs, circuit) {
		t.Errorf("the circuit address is not announced: %v", s.Addrs)
	}
	r, err := FetchStatus(short(t), relay.cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if r.Role != "relay" || len(r.Reservations) != 1 || r.Reservations[0].PeerID != s.PeerID {
		t.Errorf("the relay's status: %+v", r)
	}
}

func TestAStatusHasNoNullLists(t *testing.T) {
	n := startNode(t, Config{})
	raw, err := json.Marshal(n.status())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte("null")) {
		t.Errorf("status: %s", raw)
	}
}

func TestADonorWhoseRelayEndsMovesToAnother(t *testing.T) {
	first := startNode(t, Config{Relay: true})
	second := startNode(t, Config{Relay: true})
	donor := startNode(t, Config{Bootstrap: []string{first.addr("wss"), second.addr("wss")}})
	made := donor.awaitEvent("a reservation", func(ev wire.Event) bool { return ev.Kind == wire.ReservationMade })
	lost, other := first, second
	if made.Relay == second.host.ID().String() {
		lost, other = second, first
	}
	await(t, "the second relay connected", func() bool {
		return donor.host.Network().Connectedness(other.host.ID()) == network.Connected
	})
	ended := time.Now()
	lost.end()
	donor.through(other)
	if took := time.Since(ended); took > 2*time.Second {
		t.Errorf("moving took %s", took)
	}
	donor.awaitEvent("the old address gone", func(ev wire.Event) bool {
		return ev.Kind == wire.ListenClosed && ev.Relay == made.Relay
	})
	lostEvents := donor.kind(wire.ReservationLost)
	if len(lostEvents) != 1 || lostEvents[0].Relay != made.Relay {
		t.Errorf("lost: %+v", lostEvents)
	}
	if addrs := donor.status().CircuitAddrs; len(addrs) != 1 || !strings.Contains(addrs[0], other.host.ID().String()) {
		t.Errorf("circuit addresses now: %v", addrs)
	}
}

// connected has two nodes connected through relay, and returns that connection
// of the first.
func connected(t *testing.T, n, donor, relay *testNode) network.Conn {
	t.Helper()
	addr, _ := peer.SplitAddr(ma.StringCast(donor.through(relay)))
	n.host.Peerstore().AddAddr(donor.host.ID(), addr, peerstore.TempAddrTTL)
	c, err := n.host.Network().DialPeer(short(t), donor.host.ID())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestACircuitCarriesSixteenMebibytes(t *testing.T) {
	relay := startNode(t, Config{Relay: true})
	donor := startNode(t, Config{Bootstrap: []string{relay.addr("wss")}})
	n := startNode(t, Config{})
	donor.host.SetStreamHandler("/echo", func(s network.Stream) {
		io.Copy(s, s)
		s.CloseWrite()
	})
	c := connected(t, n, donor, relay)
	if c.Stat().Limited {
		t.Error("the circuit is limited")
	}
	s, err := routeOver(c).stream(short(t), "/echo")
	if err != nil {
		t.Fatal(err)
	}
	sent := make([]byte, 16<<20)
	rand.Read(sent)
	go func() {
		io.Copy(s, bytes.NewReader(sent))
		s.CloseWrite()
	}()
	got, err := io.ReadAll(s)
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d bytes came back: %v", len(got), err)
	}
	opened := relay.awaitEvent("the relay's record", func(ev wire.Event) bool { return ev.Kind == wire.RelayCircuitOpened })
	c.Close()
	closed := relay.awaitEvent("the circuit's end", func(ev wire.Event) bool { return ev.Kind == wire.RelayCircuitClosed })
	if closed.Circuit != opened.Circuit || closed.Peer != n.host.ID().String() || closed.Target != donor.host.ID().String() {
		t.Errorf("opened %+v, closed %+v", opened, closed)
	}
	if least := uint64(2 * len(sent)); closed.Bytes < least || closed.Bytes > least+least/20 {
		t.Errorf("the relay counted %d bytes, %d were echoed", closed.Bytes, len(sent))
	}
}

func TestCircuitsThatAreOpenWhenTheRelayStopsAreClosedInItsBooks(t *testing.T) {
	relay := startNode(t, Config{Relay: true})
	donor := startNode(t, Config{Bootstrap: []string{relay.addr("tcp")}})
	n := startNode(t, Config{})
	connected(t, n, donor, relay)
	opened := relay.awaitEvent("the circuit", func(ev wire.Event) bool { return ev.Kind == wire.RelayCircuitOpened })
	relay.relay.watch.closeRest() // as if the library had not
	relay.relay.watch.closeRest()
	if closed := relay.kind(wire.RelayCircuitClosed); len(closed) != 1 {
		t.Errorf("before the library closed it: %+v", closed)
	}
	relay.end()
	closed := relay.kind(wire.RelayCircuitClosed)
	if len(closed) != 1 || closed[0].Circuit != opened.Circuit || closed[0].Bytes == 0 || closed[0].Target != donor.host.ID().String() {
		t.Errorf("opened %+v, closed %+v", opened, closed)
	}
}

// closedConn is a connection that has ended.
type closedConn struct{ network.Conn }

func (closedConn) IsClosed() bool { return true }

func TestWhatIsLearnedOfAConnectionThatHasEndedIsNotKept(t *testing.T) {
	relay := startNode(t, Config{Relay: true})
	n := startNode(t, Config{Bootstrap: []string{relay.addr("tcp")}})
	n.through(relay)
	conns := n.host.Network().ConnsToPeer(relay.host.ID())
	if len(conns) == 0 {
		t.Fatal("no connection")
	}
	late := closedConn{conns[0]}
	for name, c := range map[string]struct {
		conn network.Conn
		want int
	}{"open": {conns[0], 1}, "closed": {late, 0}} {
		self := newSelfImage(newRecorder(io.Discard, discard()))
		self.observe(c.conn, ma.StringCast("/ip4/1.2.3.4/tcp/5"))
		if got := self.observations(); len(got) != c.want {
			t.Errorf("%s: observed %+v", name, got)
		}
		watch := newHopWatch(newRecorder(io.Discard, discard()), donorLimits())
		expire := uint64(time.Now().Add(time.Hour).Unix())
		watch.reserved(c.conn, &pb.HopMessage{Status: pb.Status_OK.Enum(), Reservation: &pb.Reservation{Expire: &expire}})
		if got := watch.reservations(time.Now()); len(got) != c.want {
			t.Errorf("%s: held %+v", name, got)
		}
	}
}

func TestARelayRemembersAReservationUntilItsPeerLeaves(t *testing.T) {
	relay := startNode(t, Config{Relay: true})
	donor := startNode(t, Config{Bootstrap: []string{relay.addr("tcp")}})
	donor.through(relay)
	if held := relay.relay.held(); len(held) != 1 {
		t.Fatalf("held: %v", held)
	}
	donor.end()
	await(t, "the reservation gone", func() bool { return len(relay.relay.held()) == 0 })
}
