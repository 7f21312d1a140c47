//go:build linux

package lab

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

var (
	phone  = netip.MustParseAddr("2a00:20::2")
	server = netip.MustParseAddr("45.10.0.2")
)

func newNAT64Box() *nat64Box {
	return &nat64Box{mac: make([]byte, 6), last: nat64Pool.Addr().Next(), ipv4: map[netip.Addr]netip.Addr{}, ipv6: map[netip.Addr]netip.Addr{}}
}

// tapped64 is a packet as a tap reads it.
func tapped64(p *packet) []byte {
	if p.src.Is6() {
		f := newNAT64Box().frame(etherTypeIPv6, header6, p)
		p.write6(f[ipAt:])
		return f
	}
	f := newNAT64Box().frame(etherTypeIPv4, header4, p)
	ip := f[ipAt:]
	ip[0], ip[8], ip[9] = 0x45, p.hops, p.proto
	binary.BigEndian.PutUint16(ip[2:], uint16(header4+len(p.payload)))
	copy(ip[12:], p.src.AsSlice())
	copy(ip[16:], p.dst.AsSlice())
	return f
}

// valid computes a packet's checksum anew, and compares.
func valid(t *testing.T, p *packet, at int) {
	t.Helper()
	if p == nil {
		t.Fatal("it is not translated")
	}
	was := bytes.Clone(p.payload)
	p.putSum(at)
	if !bytes.Equal(was, p.payload) {
		t.Errorf("the checksum of protocol %d from %s to %s is %x, want %x", p.proto, p.src, p.dst, was[at:at+2], p.payload[at:at+2])
	}
}

func TestChecksumsAreRightBehindNAT64(t *testing.T) {
	box := newNAT64Box()
	for _, c := range []struct {
		proto, back byte
		there, here string // payloads of a packet and of the answer, with checksums of 0
		at          int
	}{
		{unix.IPPROTO_UDP, unix.IPPROTO_UDP, "0fa10fa2000c000068656c6c", "0fa20fa1000d00006f74686572", 6},
		{unix.IPPROTO_TCP, unix.IPPROTO_TCP, "0fa10fa2000000010000000250180400000000006f6464", "0fa20fa100000001000000025018040000000000", 16},
		{unix.IPPROTO_ICMPV6, unix.IPPROTO_ICMP, "8000000012340001aabbcc", "0000000012340001aabbcc", 2},
	} {
		out := &packet{src: phone, dst: in6(server), hops: 60, proto: c.proto, payload: unhex(t, c.there)}
		out.putSum(c.at)
		ip := box.translate(tapped64(out))[ipAt:]
		q := read4(ip)
		valid(t, q, c.at)
		if q.dst != server || !nat64Pool.Contains(q.src) || q.hops != 60 {
			t.Errorf("it goes from %s to %s, with %d hops left", q.src, q.dst, q.hops)
		}
		if sum(0, ip[:header4]) != 0xffff {
			t.Errorf("the checksum of the header %x is wrong", ip[:header4])
		}
		in := &packet{src: server, dst: q.src, hops: 50, proto: c.back, payload: unhex(t, c.here)}
		if c.back != unix.IPPROTO_UDP { // whose checksum may be missing over IPv4, and may not over IPv6
			in.putSum(c.at)
		}
		back := read6(box.translate(tapped64(in))[ipAt:])
		valid(t, back, c.at)
		if back.src != in6(server) || back.dst != phone {
			t.Errorf("the answer goes from %s to %s", back.src, back.dst)
		}
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestNAT64LosesWhatHasNoCounterpart(t *testing.T) {
	udp := unhex(t, "0fa10fa2000c000068656c6c")
	for what, p := range map[string]*packet{
		"a packet to nobody":             {src: server, dst: netip.MustParseAddr("192.0.2.77"), proto: unix.IPPROTO_UDP, payload: udp},
		"a packet outside of the prefix": {src: phone, dst: netip.MustParseAddr("2a00:20::3"), proto: unix.IPPROTO_UDP, payload: udp},
		"a fragment":                     {src: phone, dst: in6(server), proto: unix.IPPROTO_FRAGMENT, payload: udp},
	} {
		if got := newNAT64Box().translate(tapped64(p)); got != nil {
			t.Errorf("%s is translated to %x", what, got)
		}
	}
}

func FuzzNAT64(f *testing.F) {
	f.Add(tapped64(&packet{src: phone, dst: in6(server), proto: unix.IPPROTO_UDP, payload: make([]byte, 12)}))
	f.Add(tapped64(&packet{src: server, dst: nat64Pool.Addr().Next().Next(), proto: unix.IPPROTO_TCP, payload: make([]byte, 20)}))
	inner := tapped64(&packet{src: nat64Pool.Addr().Next().Next(), dst: server, proto: unix.IPPROTO_UDP, payload: make([]byte, 8)})[ipAt:]
	f.Add(tapped64(&packet{src: server, dst: nat64Pool.Addr().Next().Next(), proto: unix.IPPROTO_ICMP, payload: append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, inner...)}))
	f.Fuzz(func(_ *testing.T, frame []byte) {
		b := newNAT64Box()
		b.lend(phone)
		b.translate(frame)
	})
}
