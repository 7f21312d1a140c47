package node

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	ma "github.com/multiformats/go-multiaddr"
)

// The examples of RFC 6052, section 2.4.
func TestAnIPv4AddressIsEmbeddedBehindEachKindOfPrefix(t *testing.T) {
	for prefix, want := range map[string]string{
		"2001:db8::/32":         "2001:db8:c000:221::",
		"2001:db8:100::/40":     "2001:db8:1c0:2:21::",
		"2001:db8:122::/48":     "2001:db8:122:c000:2:2100::",
		"2001:db8:122:300::/56": "2001:db8:122:3c0:0:221::",
		"2001:db8:122:344::/64": "2001:db8:122:344:c0:2:2100::",
		"2001:db8:122:344::/96": "2001:db8:122:344::c000:221",
		"64:ff9b::/96":          "64:ff9b::c000:221",
	} {
		p := netip.MustParsePrefix(prefix)
		if got := embed(p, netip.MustParseAddr("192.0.2.33")); got != netip.MustParseAddr(want) {
			t.Errorf("%s: %s, want %s", prefix, got, want)
		}
		for _, known := range ipv4OnlyAddrs {
			if got := prefixOf(embed(p, known)); got != p {
				t.Errorf("%s is taken for %s", p, got)
			}
		}
	}
}

func TestOnlyPublicIPv4WithoutARouteGoesThroughNAT64(t *testing.T) {
	wellKnown := []netip.Addr{netip.MustParseAddr("64:ff9b::c000:aa")}
	for _, c := range []struct {
		addr, want string
		routed     bool
		answer     []netip.Addr
		err        error
	}{
		{addr: "/ip4/45.10.0.2/udp/4001/quic-v1", want: "/ip6/64:ff9b::2d0a:2/udp/4001/quic-v1", answer: wellKnown},
		{addr: "/ip4/45.10.0.2/tcp/443/tls/sni/a.example/ws", want: "/ip6/64:ff9b::2d0a:2/tcp/443/tls/sni/a.example/ws", answer: wellKnown},
		{addr: "/ip4/45.10.0.2/tcp/4001", routed: true, answer: wellKnown},
		{addr: "/ip4/192.168.1.2/tcp/4001", answer: wellKnown},
		{addr: "/ip6/2a00::1/tcp/4001", answer: wellKnown},
		{addr: "/dns4/relay.example.net/tcp/4001", answer: wellKnown},
		{addr: "/ip4/45.10.0.2/tcp/4001", err: errors.New("no such host")},
		{addr: "/ip4/45.10.0.2/tcp/4001", answer: []netip.Addr{netip.MustParseAddr("2001:db8::1")}},
	} {
		n := &nat64{
			routed: func(netip.Addr) bool { return c.routed },
			lookup: func(context.Context, string) ([]netip.Addr, error) { return c.answer, c.err },
		}
		want := c.want
		if want == "" {
			want = c.addr
		}
		if got := n.toward(t.Context(), ma.StringCast(c.addr)); got.String() != want {
			t.Errorf("%s becomes %s, want %s (routed %t, resolver says %v)", c.addr, got, want, c.routed, c.answer)
		}
	}
}

func TestThePrefixIsAskedForOnceByManyDials(t *testing.T) {
	asked := 0
	n := &nat64{
		routed: func(netip.Addr) bool { return false },
		lookup: func(context.Context, string) ([]netip.Addr, error) {
			asked++
			return nil, errors.New("no such host")
		},
	}
	for range 8 {
		n.toward(t.Context(), ma.StringCast("/ip4/45.10.0.2/tcp/4001"))
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

func TestAResolverThatFailsIsSoonAskedForThePrefixAgain(t *testing.T) {
	const addr = "/ip4/45.10.0.2/tcp/4001"
	for _, c := range []struct {
		err  error
		then string // 3 s later
	}{
		{&net.DNSError{Err: "server misbehaving", IsTemporary: true}, "/ip6/64:ff9b::2d0a:2/tcp/4001"},
		{context.DeadlineExceeded, "/ip6/64:ff9b::2d0a:2/tcp/4001"},
		{&net.DNSError{Err: "no such host", IsNotFound: true}, addr},
	} {
		synctest.Test(t, func(t *testing.T) {
			err := c.err
			n := &nat64{
				routed: func(netip.Addr) bool { return false },
				lookup: func(context.Context, string) ([]netip.Addr, error) {
					if err != nil {
						return nil, err
					}
					return []netip.Addr{netip.MustParseAddr("64:ff9b::c000:aa")}, nil
				},
			}
			if got := n.toward(t.Context(), ma.StringCast(addr)); got.String() != addr {
				t.Errorf("after %v: %s", c.err, got)
			}
			err = nil
			time.Sleep(3 * time.Second)
			if got := n.toward(t.Context(), ma.StringCast(addr)); got.String() != c.then {
				t.Errorf("3 s after %v: %s, want %s", c.err, got, c.then)
			}
		})
	}
}

func TestThisMachineHasARouteToItself(t *testing.T) {
	if !new(nat64).hasRoute(netip.MustParseAddr("127.0.0.1")) {
		t.Error("it says that it has none")
	}
}
