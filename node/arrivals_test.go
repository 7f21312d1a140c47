package node

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	tptu "github.com/libp2p/go-libp2p/p2p/net/upgrader"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/worldcompute/wce2e/node/netcheck"
	"github.com/worldcompute/wce2e/node/wire"
)

// opening is what a listener says first: libp2p's header, with its length.
const opening = "\x13/multistream/1.0.0\n"

// knock connects to a node as a stranger.
func (n *testNode) knock(transport string) *net.TCPConn {
	n.t.Helper()
	c, err := net.Dial("tcp", "127.0.0.1:"+strings.Split(n.addr(transport), "/")[4])
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// arrivalOf is what the node tells of a stranger's connection.
func (n *testNode) arrivalOf(c *net.TCPConn) wire.Event {
	n.t.Helper()
	from, err := manet.FromNetAddr(c.LocalAddr())
	if err != nil {
		n.t.Fatal(err)
	}
	return n.awaitEvent("word of "+from.String(), func(ev wire.Event) bool { return ev.Kind == wire.ArrivalFailed && ev.Remote == from.String() })
}

func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, c net.Conn, text string) {
	t.Helper()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("heard %q: %v", got, err)
	}
}

func resets(t *testing.T, c *net.TCPConn) {
	t.Helper()
	if err := errors.Join(c.SetLinger(0), c.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestAnArrivalThatComesToNothingSaysWhatCameAndWhoEndedIt(t *testing.T) {
	relay := startNode(t, Config{Relay: true})
	for name, c := range map[string]struct {
		transport      string
		does           func(*testing.T, *net.TCPConn)
		failure        netcheck.Failure
		received, sent int // sent: -1 for any
	}{
		"a reset": {"tcp", func(t *testing.T, c *net.TCPConn) { hear(t, c, opening); resets(t, c) }, netcheck.Reset, 0, len(opening)},
		"a reset behind some bytes": {"tcp", func(t *testing.T, c *net.TCPConn) {
			say(t, c, opening+"\x09/unknown\n")
			hear(t, c, opening+"\x03na\n")
			resets(t, c)
		}, netcheck.Reset, len(opening) + 10, len(opening) + 4},
		"an end": {"tcp", func(t *testing.T, c *net.TCPConn) { hear(t, c, opening); c.Close() }, netcheck.EOF, 0, len(opening)},
		"nonsense": {"tcp", func(t *testing.T, c *net.TCPConn) { say(t, c, "\x01\x01"); io.Copy(io.Discard, c) },
			netcheck.Aborted, 2, len(opening)},
		"a reset in place of a hello": {"wss", func(t *testing.T, c *net.TCPConn) { say(t, c, "\x16\x03\x01\x02"); resets(t, c) }, netcheck.Reset, 4, 0},
		"a hello that ends":           {"wss", func(t *testing.T, c *net.TCPConn) { say(t, c, "\x16\x03\x01\x02"); c.Close() }, netcheck.EOF, 4, 0},
		"no TLS":                      {"wss", func(t *testing.T, c *net.TCPConn) { say(t, c, "SSH-2.0-OpenSSH\r\n"); io.Copy(io.Discard, c) }, netcheck.Aborted, -1, -1},
	} {
		t.Run(name, func(t *testing.T) {
			conn := relay.knock(c.transport)
			c.does(t, conn)
			ev := relay.arrivalOf(conn)
			if ev.Failure != string(c.failure) || ev.Err == "" || ev.MS <= 0 || !strings.Contains(relay.addr(c.transport), ev.Local) {
				t.Errorf("want %s: %+v", c.failure, ev)
			}
			if c.received >= 0 && ev.Received != uint64(c.received) || c.sent >= 0 && ev.Sent != uint64(c.sent) {
				t.Errorf("want %d bytes received and %d sent: %+v", c.received, c.sent, ev)
			}
			if want := map[string]string{"tcp": "tcp"}[c.transport]; ev.Transport != want {
				t.Errorf("transport %q, want %q", ev.Transport, want)
			}
		})
	}
}

func TestAnArrivalThatIsSilentHasWaitedInVain(t *testing.T) {
	relay := startNode(t, Config{Relay: true})
	conn := relay.knock("tcp")
	hear(t, conn, opening)
	relay.end()
	if ev := relay.arrivalOf(conn); ev.Failure != string(netcheck.Timeout) || ev.Received != 0 || ev.Sent != uint64(len(opening)) {
		t.Errorf("%+v", ev)
	}
}

func TestPeersAndVisitorsAreNoArrivalsThatFailed(t *testing.T) {
	relay := startNode(t, Config{Relay: true})
	for _, transport := range []string{"tcp", "wss"} {
		donor := startNode(t, Config{Bootstrap: []string{relay.addr(transport)}})
		donor.through(relay)
		donor.end()
	}
	c := browser(t)
	get(t, c, relay.webURL())
	c.CloseIdleConnections()
	relay.end()
	if list := relay.kind(wire.ArrivalFailed); len(list) > 0 {
		t.Errorf("%+v", list)
	}
}

// fullBooks is a resource manager that has no room.
type fullBooks struct{ network.NullResourceManager }

func (*fullBooks) OpenConnection(network.Direction, bool, ma.Multiaddr) (network.ConnManagementScope, error) {
	return nil, network.ErrResourceLimitExceeded
}

// choosyBooks has none for the peer that it turns out to be.
type choosyBooks struct{ network.NullResourceManager }

type choosyScope struct{ network.NullScope }

func (*choosyScope) SetPeer(peer.ID) error        { return network.ErrResourceLimitExceeded }
func (*choosyScope) PeerScope() network.PeerScope { return nil }

func (*choosyBooks) OpenConnection(network.Direction, bool, ma.Multiaddr) (network.ConnManagementScope, error) {
	return &choosyScope{}, nil
}

// gated has what comes to a port looked at by a resource manager, and returns the
// connections that are let in, and the first thing that is told of one.
func gated(t *testing.T, books network.ResourceManager, most int) (l net.Listener, in chan admission, told func() wire.Event) {
	t.Helper()
	u, err := tptu.New(nil, nil, nil, books, nil)
	if err != nil {
		t.Fatal(err)
	}
	port, err := manet.Listen(ma.StringCast("/ip4/127.0.0.1/tcp/0"))
	if err != nil {
		t.Fatal(err)
	}
	lines := &logText{}
	gate := newArrivals(newRecorder(lines, slog.New(slog.DiscardHandler)), most).watch(u, "tcp").GateMaListener(port)
	t.Cleanup(func() { gate.Close() })
	in = make(chan admission, 1)
	go func() {
		for {
			c, scope, err := gate.Accept()
			if err != nil {
				return
			}
			in <- admission{c, scope}
		}
	}()
	return manet.NetListener(port), in, func() wire.Event {
		t.Helper()
		await(t, "word of an arrival", func() bool { return strings.HasSuffix(lines.String(), "\n") })
		var ev wire.Event
		if err := json.Unmarshal([]byte(lines.String()), &ev); err != nil {
			t.Fatal(err)
		}
		return ev
	}
}

type admission struct {
	manet.Conn
	scope network.ConnManagementScope
}

func TestARelayWithoutRoomSaysSo(t *testing.T) {
	l, _, told := gated(t, &fullBooks{}, 1)
	c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err == nil {
		c.Close()
		t.Fatal("somebody answered")
	}
	if ev := told(); ev.Failure != string(netcheck.ResourceLimit) || ev.Received != 0 {
		t.Errorf("unread: %+v", ev)
	}
	l, in, told := gated(t, &choosyBooks{}, 1)
	stranger, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	a := <-in
	if err := a.scope.SetPeer(randomPeer(t)); err == nil {
		t.Fatal("there was room")
	}
	a.Close()
	if ev := told(); ev.Failure != string(netcheck.ResourceLimit) {
		t.Errorf("for this peer: %+v", ev)
	}
}

func TestOneAddressCannotTakeAllPlacesForHandshakes(t *testing.T) {
	const most = 3
	l, in, told := gated(t, &network.NullResourceManager{}, most)
	knock := func(from string) net.Conn {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
		c, err := d.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	admitted := func() admission {
		t.Helper()
		select {
		case a := <-in:
			return a
		case <-time.After(patience):
			t.Fatal("nobody was let in")
		}
		panic("not reached")
	}
	var silent []admission
	for range most {
		knock("127.0.0.1")
		silent = append(silent, admitted())
	}
	over := knock("127.0.0.1")
	_ = over.SetDeadline(time.Now().Add(patience))
	if _, err := over.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("one too many was let in")
	}
	if ev := told(); ev.Failure != string(netcheck.ResourceLimit) || ev.Received != 0 {
		t.Errorf("%+v", ev)
	}
	knock("127.0.0.2")
	admitted()
	if err := silent[0].scope.SetPeer(randomPeer(t)); err != nil {
		t.Fatal(err)
	}
	silent[1].scope.Done() // a visitor
	silent[2].Close()
	for _, a := range silent { // as they all do later
		a.Close()
	}
	for range most {
		knock("127.0.0.1")
		admitted()
	}
}

func TestScansDoNotFillTheEvents(t *testing.T) {
	w := newArrivals(newRecorder(io.Discard, slog.New(slog.DiscardHandler)), 1)
	told := func(many int, from func(i int) netip.Addr) (n int) {
		for i := range many {
			if w.rates.Allow(from(i)) {
				n++
			}
		}
		return n
	}
	one := netip.MustParseAddr("11.0.0.1")
	if n := told(2*arrivalBurstPerIP, func(int) netip.Addr { return one }); n < arrivalBurstPerIP || n > arrivalBurstPerIP*5/4 {
		t.Errorf("%d of one address are told of", n)
	}
	each := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{12, 0, byte(i >> 8), byte(i)}) }
	if n := told(2*arrivalBurst, each); n > arrivalBurst*5/4 {
		t.Errorf("%d of many addresses are told of", n)
	}
}
