package probe_test

import (
	"context"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/node"
	"github.com/worldcompute/wce2e/node/netcheck"
	"github.com/worldcompute/wce2e/node/probe"
	"github.com/worldcompute/wce2e/node/traversal/names"
	"github.com/worldcompute/wce2e/node/traversal/proxy"
	"github.com/worldcompute/wce2e/node/wire"
)

// relay runs a relay on loopback, with every transport, until the test ends.
func relay(t *testing.T) (addrs map[string]string, id string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "node")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- node.Run(ctx, node.Config{Dir: dir, Relay: true, NoBootstrap: true, Listen: []string{
			"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/udp/0/quic-v1/webtransport",
			"/ip4/127.0.0.1/tcp/0/ws", "/ip4/127.0.0.1/tcp/0/tls/ws"}})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		st, err := node.FetchStatus(t.Context(), dir)
		if err != nil || len(st.ListenAddrs) < 5 {
			continue
		}
		addrs = map[string]string{}
		for _, a := range st.ListenAddrs {
			addrs[wire.TransportOf(a)] = a + "/p2p/" + st.PeerID
		}
		return addrs, st.PeerID
	}
	t.Fatal("the relay did not start within 30 s")
	return nil, ""
}

// alone is a probe that asks nobody but its targets.
func alone(targets ...string) probe.Config {
	return probe.Config{
		Targets: targets, Quick: true, Servers: []names.Server{}, STUN: []string{}, Dead: "127.0.0.1:1", System: nothing{},
		Portal:  []names.Check{{URL: "http://127.0.0.1:1/", Status: 204}},
		Proxies: &proxy.Finder{Getenv: func(string) string { return "" }, NoDiscovery: true},
	}
}

// nothing knows no name.
type nothing struct{}

func (nothing) LookupIPAddr(_ context.Context, name string) ([]net.IPAddr, error) {
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (nothing) LookupTXT(_ context.Context, name string) ([]string, error) {
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func run(t *testing.T, cfg probe.Config) netcheck.Report {
	t.Helper()
	report, err := probe.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range report.Records {
		if r.ID != i {
			t.Errorf("the record at place %d has the ID %d", i, r.ID)
		}
	}
	return report
}

// of are the records of one operation on one transport, without those of another
// protocol, if one is given.
func of(r netcheck.Report, transport string, op netcheck.Operation, proto string) []netcheck.Record {
	return slices.DeleteFunc(slices.Clone(r.Records), func(r netcheck.Record) bool {
		return r.Operation != op || r.Transport != transport || proto != "" && r.Proto != proto
	})
}

func TestEveryTransportOfARelayIsTakenToAReservation(t *testing.T) {
	addrs, id := relay(t)
	var targets []string
	for _, a := range addrs {
		targets = append(targets, a)
	}
	slices.Sort(targets)
	report := run(t, alone(targets...))
	ladder := map[string][]netcheck.Operation{
		"tcp":          {netcheck.Connect, netcheck.Multistream, netcheck.Security, netcheck.Muxer},
		"ws":           {netcheck.Connect, netcheck.Upgrade, netcheck.Multistream, netcheck.Security, netcheck.Muxer},
		"wss":          {netcheck.Connect, netcheck.TLS, netcheck.Upgrade, netcheck.Multistream, netcheck.Security, netcheck.Muxer},
		"quic-v1":      {netcheck.QUIC},
		"webtransport": {netcheck.QUIC},
	}
	for transport, layers := range ladder {
		t.Run(transport, func(t *testing.T) {
			for _, op := range append(layers, netcheck.Identify, netcheck.Reserve) {
				got := of(report, transport, op, "")
				if len(got) == 0 {
					t.Fatalf("there is no record of %s", op)
				}
				for _, r := range got {
					if layers := op != netcheck.Connect && op != netcheck.Identify; layers && (r.Sent == 0 || r.Received == 0) {
						t.Errorf("%s %s: no bytes are counted: %+v", op, r.Proto, r)
					}
					if r.Failure != nil {
						t.Errorf("%s %s: %s: %s", op, r.Proto, *r.Failure, r.Error)
					}
				}
			}
			said := of(report, transport, netcheck.Identify, "")[0]
			if said.Facts.Peer != id || said.Facts.Agent == "" || said.Facts.Observed == "" {
				t.Errorf("identify: %+v", said)
			}
			granted := of(report, transport, netcheck.Reserve, "")[0]
			if granted.Facts.Expires == nil || time.Until(*granted.Facts.Expires) < time.Minute {
				t.Errorf("reserve: %+v", granted)
			}
			for _, r := range of(report, transport, netcheck.Size, "echo") {
				if r.Failure != nil || r.Received < int64(r.Facts.Bytes) {
					t.Errorf("size: %+v", r)
				}
			}
		})
	}
	t.Run("the certificate is untrusted, and the relay says that it is its own", func(t *testing.T) {
		seen := of(report, "wss", netcheck.TLS, "")[0]
		if len(seen.Facts.Chain) == 0 || seen.Facts.Trusted == nil || *seen.Facts.Trusted || seen.Error == "" {
			t.Errorf("%+v", seen)
		}
		if s := of(report, "wss", netcheck.Identify, "")[0].Facts.Stated; s == nil || !*s {
			t.Errorf("stated: %v", s)
		}
	})
	t.Run("Noise and TLS are both tried over plain TCP", func(t *testing.T) {
		for _, proto := range []string{"/noise", "/tls/1.0.0"} {
			if len(of(report, "tcp", netcheck.Security, proto)) == 0 {
				t.Errorf("%s was not", proto)
			}
		}
	})
}

// texts knows one name's TXT records, and no address.
type texts struct {
	nothing
	name   string
	values []string
}

func (z texts) LookupTXT(ctx context.Context, name string) ([]string, error) {
	if strings.TrimSuffix(name, ".") == z.name {
		return z.values, nil
	}
	return z.nothing.LookupTXT(ctx, name)
}

func TestANameLeadsToAddressesAndEachIsDialledOnce(t *testing.T) {
	addrs, id := relay(t)
	name := "/dnsaddr/relays.example.org"
	cfg := alone(name, addrs["tcp"], name+"/p2p/"+id, "/dnsaddr/nobody.example.org")
	cfg.System = texts{name: "_dnsaddr.relays.example.org", values: []string{
		"dnsaddr=" + addrs["tcp"], "dnsaddr=" + addrs["ws"], "dnsaddr=/dnsaddr/relays.example.org", "no address at all", "dnsaddr=/nonsense"}}
	report := run(t, cfg)
	for i, want := range []int{2, 1, 2, 0} {
		if got := report.Targets[i].Leads; len(got) != want {
			t.Errorf("%s leads to %q", report.Targets[i].Addr, got)
		}
	}
	if got := of(report, "ws", netcheck.Connect, ""); len(got) != 1 || got[0].Lead != addrs["ws"] {
		t.Errorf("the WebSocket address was dialled: %+v", got)
	}
	denied := 0
	for _, r := range of(report, "", netcheck.Resolve, "system") {
		if strings.Contains(r.Facts.Question, "nobody") && r.Failure != nil && *r.Failure == netcheck.NXDomain {
			denied++
		}
	}
	if denied != 1 {
		t.Errorf("a name that does not exist was denied %d times", denied)
	}
}

func TestSilenceIsKeptAndMeasured(t *testing.T) {
	addrs, _ := relay(t)
	cfg := alone(addrs["tcp"], addrs["quic-v1"])
	cfg.Silences = []time.Duration{100 * time.Millisecond, 500 * time.Millisecond}
	report := run(t, cfg)
	for _, transport := range []string{"tcp", "quic-v1"} {
		got := of(report, transport, netcheck.Keepalive, "ping")
		if len(got) != 2 {
			t.Fatalf("%s: %+v", transport, got)
		}
		for _, r := range got {
			if r.Failure != nil || r.T < r.Facts.Silence || r.Sent == 0 {
				t.Errorf("%s: %+v", transport, r)
			}
		}
	}
}

func TestATargetThatCannotBeDialledIsSaidBeforeAnythingIsDone(t *testing.T) {
	for _, bad := range []string{"relay.example.org:443", "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp/p2p-circuit", "/ip4/127.0.0.1/udp/1"} {
		if report, err := probe.Run(t.Context(), alone(bad)); err == nil || report.Version != 0 || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestEachKindOfFailureHasItsLayerAndItsWord(t *testing.T) {
	addrs, _ := relay(t)
	stranger := "/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
	right := strings.Split(addrs["tcp"], "/p2p/")[0]
	garbage := listen(t, func(c net.Conn) {
		_, _ = c.Write([]byte("SSH-2.0-OpenSSH_9.6\r\n"))
		_, _ = c.Read(make([]byte, 100))
	})
	mute := listen(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)); time.Sleep(20 * time.Second) })
	reset := listen(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1))
		_ = c.(*net.TCPConn).SetLinger(0)
	})
	page := listen(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1000))
		_, _ = c.Write([]byte("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"))
	})
	for _, c := range []struct {
		what, addr, transport string
		op                    netcheck.Operation
		want                  netcheck.Failure
	}{
		{"nobody listens", "/ip4/127.0.0.1/tcp/1" + stranger, "tcp", netcheck.Connect, netcheck.Refused},
		{"somebody else answers", right + stranger, "tcp", netcheck.Security, netcheck.PeerMismatch},
		{"something else answers", garbage + stranger, "tcp", netcheck.Multistream, netcheck.Garbage},
		{"nothing comes back", mute + stranger, "tcp", netcheck.Multistream, netcheck.SecurityTimeout},
		{"the first bytes are reset", reset + stranger, "tcp", netcheck.Multistream, netcheck.SecurityReset},
		{"a web server says no", page + "/ws" + stranger, "ws", netcheck.Upgrade, netcheck.WebSocketHandshake},
		{"nobody speaks QUIC", "/ip4/127.0.0.1/udp/1/quic-v1" + stranger, "quic-v1", netcheck.QUIC, netcheck.QUICIdleTimeout},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			report := run(t, alone(c.addr))
			got := of(report, c.transport, c.op, "")
			if len(got) == 0 || got[0].Failure == nil || *got[0].Failure != c.want {
				t.Errorf("%s: %+v", c.op, got)
			}
			if took := time.Since(began); took > 15*time.Second { // 6 s, and patience with this machine
				t.Errorf("it took %s", took)
			}
			if c.want == netcheck.Garbage && !strings.HasPrefix(got[0].Facts.FirstByte, "5353482d") {
				t.Errorf("what came is recorded as %q", got[0].Facts.FirstByte)
			}
		})
	}
}

// listen answers every connection on loopback by serve.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
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
			go func() { defer c.Close(); serve(c) }()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return "/ip4/127.0.0.1/tcp/" + port
}
