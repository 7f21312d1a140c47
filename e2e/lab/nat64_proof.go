//go:build linux

package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// provesNAT64 has flows of both kinds carried, many bytes in both directions,
// whole segments at once, and what says no to a host arrive there.
func provesNAT64(t *trial) error {
	if _, err := t.dial(place{t.host.ns, netip.IPv4Unspecified()}, 0, t.server.at(4001), silence); !errors.Is(err, unix.ENETUNREACH) {
		return fmt.Errorf("the host has IPv4: %w", orConnects(err))
	}
	if err := t.nat64Carries(tcp(4001), udp(4001)); err != nil {
		return err
	}
	if err := t.nat64Pours(); err != nil {
		return err
	}
	const closed = 4009
	if _, err := t.dial(t.host, 0, t.throughNAT64(closed), answerWait); !isRefused(err) {
		return fmt.Errorf("a reset does not come back: %w", orConnects(err))
	}
	if err := t.nat64Refuses(closed); err != nil {
		return err
	}
	t.saw("TCP, UDP, %d bytes both ways, a reset and an ICMP error pass", nat64Bytes)
	return nil
}

func (t *trial) throughNAT64(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(in6(t.server.addr), port)
}

// nat64Carries opens flows to ports of the server, which sees the router's address.
func (t *trial) nat64Carries(ports ...port) error {
	for _, p := range ports {
		f, from, err := t.openThroughNAT64(p)
		if err == nil {
			err = f.alive()
		}
		if err == nil && from != t.egress {
			err = fmt.Errorf("it comes from %s", from)
		}
		if err != nil {
			return fmt.Errorf("%s through NAT64: %w", p, err)
		}
	}
	t.saw("%s through NAT64 arrives", joined(ports))
	return nil
}

func (t *trial) openThroughNAT64(p port) (f flow, from netip.Addr, err error) {
	if p.network == "udp" {
		if f.far, err = t.packets(t.server, p.number, netip.AddrPort{}); err != nil {
			return f, from, err
		}
		if f.near, err = t.packets(t.host, 0, t.throughNAT64(p.number)); err != nil {
			return f, from, err
		}
		err = f.hello()
		return f, f.far.peer.Addr(), err
	}
	l, err := t.listen(t.server, p.number)
	if err != nil {
		return f, from, err
	}
	defer l.Close()
	if f.near, err = t.dial(t.host, 0, t.throughNAT64(p.number), answerWait); err != nil {
		return f, from, err
	}
	if f.far, err = t.accept(l, answerWait); err != nil {
		return f, from, err
	}
	return f, f.far.stream.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(), nil
}

// nat64Bytes makes many segments.
const nat64Bytes = 1 << 20

func (t *trial) nat64Pours() error {
	f, _, err := t.openThroughNAT64(tcp(4002))
	if err != nil {
		return err
	}
	for _, way := range []flow{f, {f.far, f.near}} {
		text := bytes.Repeat([]byte("0123456789abcdef"), nat64Bytes/16)
		wrote := make(chan error, 1)
		go func() { wrote <- way.near.write(string(text)) }()
		got := make([]byte, len(text))
		if err := way.far.stream.SetReadDeadline(time.Now().Add(answerWait)); err != nil {
			return err
		}
		n, err := io.ReadFull(way.far.stream, got)
		if err != nil || !bytes.Equal(got, text) {
			return fmt.Errorf("of %d bytes %d arrive at the %s: %w", len(text), n, way.far.name, err)
		}
		if err := <-wrote; err != nil {
			return err
		}
	}
	return nil
}

// nat64Refuses sends to a UDP port where nobody listens, from a socket that is
// connected and so hears of it.
func (t *trial) nat64Refuses(port uint16) error {
	c, err := t.host.ns.dial(t.ctx, "udp6", t.throughNAT64(port).String())
	if err != nil {
		return err
	}
	t.keep(c)
	near := &end{name: "host", stream: c}
	if err := near.write("is anybody there?"); err != nil {
		return err
	}
	if _, _, err := near.read(answerWait); !isRefused(err) {
		return fmt.Errorf("an ICMP error does not come back: %w", err)
	}
	return nil
}

// provesDNS64 asks the network's resolver for a name that never has another
// address than that of IPv4, and for the one that tells the prefix.
func provesDNS64(t *trial) error {
	for name, want := range map[string]netip.Addr{checkName: webServer, ipv4Only: netip.AddrFrom4([4]byte{192, 0, 0, 170})} {
		c, err := t.host.ns.dial(t.ctx, "udp", t.router.at(53).String())
		if err != nil {
			return err
		}
		t.keep(c)
		q := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeAAAA)
		a, _, err := (&dns.Client{Timeout: answerWait}).ExchangeWithConnContext(t.ctx, q, &dns.Conn{Conn: c})
		if err != nil {
			return fmt.Errorf("ask for %s: %w", name, err)
		}
		var got []netip.Addr
		for _, rr := range a.Answer {
			if rr, ok := rr.(*dns.AAAA); ok {
				addr, _ := netip.AddrFromSlice(rr.AAAA)
				got = append(got, addr)
			}
		}
		if !slices.Contains(got, in6(want)) {
			return fmt.Errorf("%s is %s, and not %s", name, got, in6(want))
		}
		t.saw("%s is %s", name, in6(want))
	}
	return nil
}
