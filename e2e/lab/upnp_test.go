//go:build linux

package lab

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	natpmp "github.com/jackpal/go-nat-pmp"
	libp2pnat "github.com/libp2p/go-libp2p/p2p/net/nat"
)

// lend asks the network's router for a port, and keeps it: by UPnP as libp2p
// does, or by NAT-PMP with the client that libp2p has for it. (go-libp2p v0.51.0
// itself finds no NAT-PMP on Linux: it looks for the way to 0.0.0.0 with
// go-netroute v0.4.0, which knows none.)
func (o order) lend(a *answer) error {
	at := netip.MustParseAddrPort(o.Addr)
	if o.Name == "nat-pmp" {
		c := natpmp.NewClientWithTimeout(at.Addr().AsSlice(), o.Timeout)
		outside, err := c.GetExternalAddress()
		if err != nil {
			return err
		}
		m, err := c.AddPortMapping(o.Network, int(at.Port()), 0, 60)
		if err == nil {
			a.Remote = netip.AddrPortFrom(netip.AddrFrom4(outside.ExternalIPAddress), m.MappedExternalPort).String()
		}
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), o.Timeout)
	defer cancel()
	n, err := libp2pnat.DiscoverNAT(ctx)
	if err != nil {
		return err
	}
	if err := n.AddMapping(ctx, o.Network, int(at.Port())); err != nil {
		return err
	}
	outside, found := n.GetMapping(o.Network, int(at.Port()))
	if !found {
		return fmt.Errorf("the router has lent no port for %s %s", o.Network, o.Addr)
	}
	a.Remote = netip.AddrPortFrom(outside.Addr().Unmap(), outside.Port()).String()
	return nil
}

func TestARouterLendsPortsToLibp2pAndForgetsThemWhenItReboots(t *testing.T) {
	i := behind(t, "upnp", "home")
	h := i.behind(t, "upnp")
	for _, way := range []string{"upnp", "nat-pmp"} {
		for _, proto := range []string{"tcp", "udp"} {
			t.Run(way+" "+proto, func(t *testing.T) { i.wantLent(t, h, way, proto) })
		}
	}
	home := i.behind(t, "home")
	if a := home.ask(order{Do: "lend", Network: "udp", Addr: "0.0.0.0:4001", Timeout: patience}); !strings.Contains(a.Err, "no NAT found") {
		t.Errorf("an ordinary home lends ports: %q, %s", a.Remote, a.Err)
	}
}

// wantLent asks for a port, has relay2 come in by it, and reboots the router.
func (i *internet) wantLent(t *testing.T, h *hand, way, proto string) {
	router := i.lab.host(t, h.name).Addr.As4()
	router[3] = 1
	outside := h.do(order{Do: "lend", Name: way, Network: proto, Addr: netip.AddrPortFrom(netip.AddrFrom4(router), 4001).String(), Timeout: patience}).Remote
	if host := netip.MustParseAddrPort(outside).Addr(); host != i.lab.host(t, h.name).Egress {
		t.Errorf("libp2p takes %s for its own", outside)
	}
	comes := func(wait time.Duration) error {
		l := h.do(order{Do: "listen", Network: proto + "4", Addr: ":4001"}).ID
		defer h.do(order{Do: "close", ID: l})
		a := i.relay2.ask(order{Do: "dial", Network: proto + "4", Addr: outside, Timeout: wait})
		if a.Err != "" {
			return fmt.Errorf("dial: %s", a.Err)
		}
		defer i.relay2.do(order{Do: "close", ID: a.ID})
		i.relay2.do(order{Do: "write", ID: a.ID, Data: []byte("hello")})
		if proto == "tcp" {
			l = h.do(order{Do: "accept", ID: l, Timeout: wait}).ID
		}
		if got := h.ask(order{Do: "read", ID: l, Timeout: wait}); string(got.Data) != "hello" {
			return fmt.Errorf("%q arrives: %s", got.Data, got.Err)
		}
		return nil
	}
	if err := comes(patience); err != nil {
		t.Errorf("%s to %s: %v", proto, outside, err)
	}
	if err := i.lab.Rebind(t.Context(), h.name); err != nil {
		t.Fatal(err)
	}
	if err := comes(silence); err == nil {
		t.Errorf("%s to %s still arrives after a reboot", proto, outside)
	}
}
