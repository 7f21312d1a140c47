package proxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
)

// rawDial dials as libp2p's TCP transport does.
func rawDial(t *testing.T, f *Finder, address string) (net.Conn, error) {
	t.Helper()
	d, err := f.ContextDialer(ma.StringCast("/ip4/192.0.2.1/tcp/4001"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := d.DialContext(ctx, "tcp", address)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, err
}

func TestRawTCPGoesDirectlyAndLeavesAWebProxyAlone(t *testing.T) {
	t.Parallel()
	w := &web{}
	n := corporate(t, w)
	n.lead("192.0.2.1:4001", serve(t, func(c net.Conn) { time.Sleep(2 * stagger); echo(c) }))
	f := n.finder(withProxy())
	conn, err := rawDial(t, f, "192.0.2.1:4001")
	if err != nil {
		t.Fatal(err)
	}
	echoes(t, conn)
	if targets, _ := w.saw(); len(targets) != 0 || f.CarriesTCP() {
		t.Errorf("the proxy was asked for %q", targets)
	}
}

func TestRawTCPGoesThroughAWebProxyWhereThereIsNoOtherWay(t *testing.T) {
	t.Parallel()
	n := corporate(t, &web{})
	conn, err := rawDial(t, n.finder(withProxy()), "192.0.2.1:4001")
	if err != nil {
		t.Fatal(err)
	}
	echoes(t, conn)
	if got := conn.RemoteAddr().String(); got != "192.0.2.1:4001" {
		t.Errorf("the far end is %s", got)
	}
}

func TestRawTCPGoesThroughAProxyForEverythingFirst(t *testing.T) {
	t.Parallel()
	var target string
	n := newNetwork(t)
	n.lead("10.0.0.1:1080", serve(t, socksServer("", 0, &target)))
	n.lead("192.0.2.1:4001", serve(t, echo))
	f := n.finder(map[string]string{"HTTPS_PROXY": "socks5://10.0.0.1"})
	if !f.CarriesTCP() {
		t.Error("it is not seen")
	}
	conn, err := rawDial(t, f, "192.0.2.1:4001")
	if err != nil {
		t.Fatal(err)
	}
	echoes(t, conn)
	if n.wasDialed("192.0.2.1:4001") != 0 {
		t.Error("the direct way was dialled")
	}
}

func TestRawTCPTriesEachWayOnce(t *testing.T) {
	t.Parallel()
	f := newNetwork(t).finder(map[string]string{"HTTPS_PROXY": "http://web:1", "ALL_PROXY": "http://all:1", "HTTP_PROXY": "socks5://socks:1"})
	var got []string
	for _, a := range (rawTCP{f}).plan("192.0.2.1:4001") {
		got = append(got, a.route)
	}
	if want := []string{"http://all:1", "socks5://socks:1", "", "http://web:1"}; !slices.Equal(got, want) {
		t.Errorf("the ways are %q, not %q", got, want)
	}
}

func TestPeersTalkThroughAProxyOverRawTCP(t *testing.T) {
	t.Parallel()
	server, err := libp2p.New(libp2p.DisableMetrics(), libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	n := newNetwork(t)
	// A proxy to one place, whatever it is asked for.
	to := server.Addrs()[0]
	port, err := to.ValueForProtocol(ma.P_TCP)
	if err != nil {
		t.Fatal(err)
	}
	n.lead("10.0.0.1:1080", serve(t, func(c net.Conn) {
		inner, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil || socksAnswer(c, "", 0, new(string)) != nil {
			return
		}
		defer func() { _ = inner.Close() }()
		go func() { _, _ = io.Copy(inner, c) }()
		_, _ = io.Copy(c, inner)
	}))
	f := n.finder(map[string]string{"ALL_PROXY": "socks5://10.0.0.1"})
	client, err := libp2p.New(libp2p.DisableMetrics(), libp2p.NoListenAddrs,
		libp2p.Transport(tcp.NewTCPTransport, tcp.WithDialerForAddr(f.ContextDialer)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	at := ma.StringCast("/ip4/192.0.2.1/tcp/4001")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := client.Connect(ctx, peer.AddrInfo{ID: server.ID(), Addrs: []ma.Multiaddr{at}}); err != nil {
		t.Fatal(err)
	}
	if got := client.Network().ConnsToPeer(server.ID())[0].RemoteMultiaddr(); !got.Equal(at) {
		t.Errorf("the far end is %s", got)
	}
}

func TestRefusalOfRawTCPIsNotHidden(t *testing.T) {
	t.Parallel()
	n := corporate(t, &web{status: http.StatusForbidden})
	if _, err := rawDial(t, n.finder(withProxy()), "192.0.2.1:4001"); err == nil {
		t.Error("it worked")
	}
}
