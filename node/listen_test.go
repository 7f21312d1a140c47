package node

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/wire"
)

func TestANodeDoesNotShareThePortOfAnother(t *testing.T) {
	n := startNode(t, Config{Relay: true})
	for _, transport := range []string{"tcp", "quic-v1", "wss"} {
		addr := strings.TrimSuffix(n.addr(transport), "/p2p/"+n.host.ID().String())
		_, err := start(Config{Dir: newDir(t), NoBootstrap: true, Listen: []string{addr}})
		var failed *ListenError
		if !errors.As(err, &failed) || failed.Addr != addr || !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s: %v", transport, err)
		}
	}
}

func TestOneAddressThatDoesNotWorkIsAnError(t *testing.T) {
	_, err := start(Config{Dir: newDir(t), NoBootstrap: true, Listen: []string{"/ip4/127.0.0.1/tcp/0", "/ip4/192.0.2.77/tcp/0"}})
	var failed *ListenError
	if !errors.As(err, &failed) || failed.Addr != "/ip4/192.0.2.77/tcp/0" {
		t.Errorf("error: %v", err)
	}
	for _, bad := range []Config{
		{Listen: []string{"nonsense"}},
		{Announce: []string{"example.net"}},
		{Allow: []string{"everybody"}},
		{Bootstrap: []string{"/ip4/127.0.0.1/tcp/1"}},
	} {
		bad.Dir, bad.NoBootstrap = filepath.Join(newDir(t), "node"), len(bad.Bootstrap) == 0
		if len(bad.Listen) == 0 {
			bad.Listen = []string{"/ip4/127.0.0.1/tcp/0"}
		}
		if n, err := start(bad); err == nil {
			n.stop("test")
			t.Errorf("%+v was accepted", bad)
		}
		if err := bad.Check(); err == nil {
			t.Errorf("nothing is said to be wrong with %+v", bad)
		}
		if _, err := os.Stat(bad.Dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%+v: a directory was made: %v", bad, err)
		}
	}
	if err := (Config{Dir: "x"}).Check(); err != nil {
		t.Errorf("the zero configuration: %v", err)
	}
	if err := (Config{}).Check(); err == nil {
		t.Error("no directory is needed")
	}
}

func TestANodeServesBeforeItListens(t *testing.T) {
	n := newNode(Config{
		Dir: newDir(t), Relay: true, NoBootstrap: true, Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Log: discard(),
	})
	defer func() { n.stop("test") }()
	for _, step := range n.steps() {
		if err := step(); err != nil {
			t.Fatal(err)
		}
		if n.addrs == nil || len(n.addrs.interfaces()) == 0 {
			continue
		}
		for _, want := range []string{wire.V10.Protocol(), proto.ProtoIDv2Hop} {
			if !slices.Contains(n.host.Mux().Protocols(), protocol.ID(want)) {
				t.Errorf("it listens, but does not serve %s", want)
			}
		}
		return
	}
	t.Error("it does not listen")
}

func TestTheLastAnswerOfTheRelaysIsWhatIsAnnounced(t *testing.T) {
	n := startNode(t, Config{})
	old := maddrs(t, "/ip4/2.2.2.2/tcp/443/tls/ws/p2p/"+somebody+"/p2p-circuit")
	var now atomic.Pointer[[]ma.Multiaddr]
	now.Store(&old)
	asked, goOn := make(chan struct{}), make(chan struct{})
	var second atomic.Bool
	ann := &announcer{}
	l, err := newAddrLog(n.host, newRecorder(io.Discard, discard()), ann, func() []ma.Multiaddr {
		answer := *now.Load()
		if !second.Swap(true) {
			close(asked)
			<-goOn
		}
		return answer
	})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(l.relaysChanged) // and is slow to use the answer
	<-asked
	now.Store(&[]ma.Multiaddr{})
	wg.Go(l.relaysChanged)
	time.Sleep(50 * time.Millisecond) // the second has overtaken, where it can
	close(goOn)
	wg.Wait()
	if told := strs(ann.addrs(nil)); len(told) > 0 {
		t.Errorf("after the loss it announces %v", told)
	}
}

func TestTheDefaultPortGivesWayWhenItIsTaken(t *testing.T) {
	text := &logText{}
	log := discardTo(text)
	taken, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", defaultPort))
	if err != nil {
		t.Skipf("SKIPPED: port %d cannot be taken: %v", defaultPort, err)
	}
	defer taken.Close()
	if got := portOrAny("tcp", "/ip4/127.0.0.1", log); got != 0 {
		t.Errorf("port %d although it is taken", got)
	}
	if !strings.Contains(text.String(), "taken") {
		t.Errorf("log: %s", text)
	}
	if got := portOrAny("udp", "/ip4/127.0.0.77", log); got != defaultPort {
		t.Errorf("port %d although %d is free", got, defaultPort)
	}
}

func TestARelayDoesNotMoveFromItsPorts(t *testing.T) {
	addrs, err := listenAddrs(Config{Relay: true}, discard())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/udp/4001/quic-v1", "/ip4/0.0.0.0/tcp/443/tls/ws"} {
		if !slices.Contains(strs(addrs), want) {
			t.Errorf("%s is not among %v", want, addrs)
		}
	}
}

// Started at boot, it has no address yet: a router tells its prefix later.
func TestIPv6IsListenedOnWhereverTheKernelHasIt(t *testing.T) {
	_, err := os.Stat("/proc/net/if_inet6")
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: only Linux tells in a file whether its kernel has IPv6")
	}
	addrs, listenErr := listenAddrs(Config{Relay: true}, discard())
	if listenErr != nil {
		t.Fatal(listenErr)
	}
	for _, on := range []string{"/ip6/::/tcp/4001", "/ip6/::/udp/4001/quic-v1", "/ip6/::/tcp/443/tls/ws"} {
		if slices.Contains(strs(addrs), on) != (err == nil) {
			t.Errorf("IPv6: %v, and it listens on %v", err, addrs)
		}
	}
}

func TestARelayListensForPlainWebSocketWhenItIsTold(t *testing.T) {
	const plain = "/ip4/0.0.0.0/tcp/80/ws"
	for _, told := range []bool{false, true} {
		addrs, err := listenAddrs(Config{Relay: true, HTTP: told}, discard())
		if err != nil || slices.Contains(strs(addrs), plain) != told {
			t.Errorf("told %t: %v, %v", told, addrs, err)
		}
	}
}

// someListener is a network that takes a port for WebSocket, and has what else
// is to be served there join in.
type someListener struct {
	network.Network
	t *testing.T
}

func (l someListener) Listen(addrs ...ma.Multiaddr) error {
	for _, a := range addrs {
		if !has(a, ma.P_WS) {
			continue
		}
		port, err := net.Listen("tcp4", "127.0.0.1:"+strings.Split(a.String(), "/")[4])
		if err != nil {
			return err
		}
		l.t.Cleanup(func() { port.Close() })
	}
	return nil
}

func TestOnePortServesSeveralKindsOfWebTraffic(t *testing.T) {
	port := freePort(t)
	at := fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port)
	if err := listen(someListener{t: t}, maddrs(t, at+"/tls/ws", at+"/tls/http")); err != nil {
		t.Errorf("two kinds of web traffic: %v", err)
	}
	for _, other := range []string{"", "/tls/ws", "/ws", "/http"} {
		at := fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", freePort(t))
		if err := listen(someListener{t: t}, maddrs(t, at+"/tls/ws", at+other)); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%q beside WebSocket over TLS: %v", other, err)
		}
	}
}

func maddrs(t *testing.T, in ...string) []ma.Multiaddr {
	t.Helper()
	out, err := parseAddrs("address", in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAnnouncedAddresses(t *testing.T) {
	circuit := "/ip4/2.2.2.2/tcp/443/tls/ws/p2p/" + somebody + "/p2p-circuit"
	for name, c := range map[string]struct {
		cfg      Config
		direct   []string
		circuits []string
		want     []string
	}{
		"a donor keeps private addresses and adds circuits": {
			direct:   []string{"/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1", "/ip6/fe80::1/tcp/1"},
			circuits: []string{circuit},
			want:     []string{"/ip4/10.0.0.1/tcp/1", circuit},
		},
		"loopback when there is nothing else": {
			direct: []string{"/ip4/127.0.0.1/tcp/1"}, want: []string{"/ip4/127.0.0.1/tcp/1"},
		},
		"a relay tells its public addresses": {
			cfg:    Config{Relay: true},
			direct: []string{"/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1", "/ip4/8.8.8.8/tcp/1"},
			want:   []string{"/ip4/8.8.8.8/tcp/1"},
		},
		"the library's circuits are not rewritten": {
			cfg:      Config{Announce: []string{"8.8.8.8"}},
			direct:   []string{"/ip4/10.0.0.1/tcp/1", circuit},
			circuits: []string{circuit},
			want:     []string{"/ip4/8.8.8.8/tcp/1", circuit},
		},
		"a circuit is told once": {
			direct: []string{"/ip4/10.0.0.1/tcp/1", circuit}, circuits: []string{circuit}, want: []string{"/ip4/10.0.0.1/tcp/1", circuit},
		},
		"a private relay tells what it has": {
			cfg: Config{Relay: true}, direct: []string{"/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1"}, want: []string{"/ip4/10.0.0.1/tcp/1"},
		},
		"a relay that is told its address": {
			cfg:    Config{Relay: true, Announce: []string{"8.8.8.8"}},
			direct: []string{"/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1", "/ip6/::1/tcp/1"},
			want:   []string{"/ip4/8.8.8.8/tcp/1"},
		},
		"a relay with a name tells it too": {
			cfg:    Config{Relay: true, ACME: ACME{Domain: "relay.example.net"}},
			direct: []string{"/ip4/10.0.0.1/tcp/443/tls/ws", "/ip4/8.8.8.8/tcp/443/tls/ws", "/ip6/2a00::1/tcp/443/tls/ws", "/ip4/8.8.8.8/tcp/4001"},
			want: []string{
				"/dns4/relay.example.net/tcp/443/tls/ws", "/dns6/relay.example.net/tcp/443/tls/ws",
				"/ip4/8.8.8.8/tcp/443/tls/ws", "/ip6/2a00::1/tcp/443/tls/ws", "/ip4/8.8.8.8/tcp/4001",
			},
		},
		"a name does not make private addresses public": {
			cfg:    Config{Relay: true, ACME: ACME{Domain: "relay.example.net"}},
			direct: []string{"/ip4/10.0.0.1/tcp/443/tls/ws"},
			want:   []string{"/dns4/relay.example.net/tcp/443/tls/ws", "/ip4/10.0.0.1/tcp/443/tls/ws"},
		},
		"the tunnel is not told: a swarm takes it for raw TCP, which hides WebSocket": {
			cfg:    Config{Relay: true},
			direct: []string{"/ip4/8.8.8.8/tcp/443", "/ip4/8.8.8.8/tcp/443/tls/ws", "/ip4/8.8.8.8/tcp/443/tls/http", "/ip4/8.8.8.8/udp/443/quic-v1"},
			want:   []string{"/ip4/8.8.8.8/tcp/443/tls/ws", "/ip4/8.8.8.8/udp/443/quic-v1"},
		},
		"a donor's raw TCP does not hide WebSocket either": {
			direct: []string{"/ip4/8.8.8.8/tcp/443", "/ip4/8.8.8.8/tcp/443/tls/ws"}, want: []string{"/ip4/8.8.8.8/tcp/443/tls/ws"},
		},
		"raw TCP does not hide WebSocket": {
			cfg:    Config{Relay: true},
			direct: []string{"/ip4/8.8.8.8/tcp/443", "/ip4/8.8.8.8/tcp/443/tls/ws", "/ip4/8.8.8.8/tcp/4001"},
			want:   []string{"/ip4/8.8.8.8/tcp/443/tls/ws", "/ip4/8.8.8.8/tcp/4001"},
		},
	} {
		a, err := newAnnouncer(c.cfg)
		if err != nil {
			t.Fatal(err)
		}
		a.setCircuits(maddrs(t, c.circuits...))
		direct := maddrs(t, c.direct...)
		if got := strs(a.addrs(direct)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		if !slices.Equal(strs(direct), c.direct) {
			t.Errorf("%s: what was given has changed: %v", name, direct)
		}
	}
}

func TestRelayOfAnAddress(t *testing.T) {
	other := "12D3KooWCx1ghiFNrQASv9HcNKwhGQsGziV2ZM7Khj3fkRfs4WKD"
	for addr, want := range map[string]string{
		"/ip4/1.2.3.4/tcp/1/p2p/" + somebody:                               somebody[:0],
		"/ip4/1.2.3.4/tcp/1/p2p/" + somebody + "/p2p-circuit":              somebody,
		"/ip4/1.2.3.4/tcp/1/p2p/" + somebody + "/p2p-circuit/p2p/" + other: somebody,
		"/ip4/1.2.3.4/tcp/1/p2p-circuit/p2p/" + other:                      "",
	} {
		if got := relayOf(ma.StringCast(addr)); got != want {
			t.Errorf("%s: %q, want %q", addr, got, want)
		}
	}
}

func TestWholeCampusesBehindOneAddressGetIn(t *testing.T) {
	from := ma.StringCast("/ip4/45.1.2.3/tcp/5555")
	for _, c := range []struct {
		relay bool
		want  int
	}{{false, 64}, {true, 2000}} {
		rm, err := newResourceManager(c.relay)
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for ; got < c.want; got++ {
			scope, err := rm.OpenConnection(network.DirInbound, false, from)
			if err != nil {
				t.Errorf("relay %t: connection %d of %d: %v", c.relay, got+1, c.want, err)
				break
			}
			// Leave the transient scope, as a finished handshake does.
			if err := scope.SetPeer(randomPeer(t)); err != nil {
				t.Errorf("relay %t: connection %d: %v", c.relay, got+1, err)
				break
			}
		}
		rm.Close()
	}
}

func TestARelaysMemoryIsBounded(t *testing.T) {
	rm, err := newResourceManager(true)
	if err != nil {
		t.Fatal(err)
	}
	defer rm.Close()
	err = rm.ViewSystem(func(s network.ResourceScope) error {
		span, err := s.BeginSpan()
		if err != nil {
			return err
		}
		defer span.Done()
		if err := span.ReserveMemory(math.MaxInt64/8, network.ReservationPriorityAlways); err == nil {
			return errors.New("everything was given away")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestADonorSaysWhereItListens(t *testing.T) {
	n := startNode(t, Config{})
	var heard []string
	for _, ev := range n.kind(wire.ListenAddr) {
		heard = append(heard, ev.Transport)
		if !strings.HasSuffix(ev.Addr, "/p2p/"+n.host.ID().String()) {
			t.Errorf("address %s", ev.Addr)
		}
	}
	slices.Sort(heard)
	if !slices.Equal(heard, []string{"quic-v1", "tcp"}) {
		t.Errorf("listens on %v", heard)
	}
}
