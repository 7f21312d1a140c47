//go:build linux

package lab

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// What changes behind the IP header when NAT64 changes that (RFC 7915): TCP's and
// UDP's checksums, which cover the addresses, and all of ICMP.

// offload is the virtio header of a frame: what the sender has left to its card.
// Segments of up to 64 KiB pass whole; their headers are all that is translated.
type offload struct {
	flags, segment                               byte
	headBytes, segmentBytes, sumStart, sumOffset uint16
}

const (
	needsSum  = 1 // flag: the checksum has the pseudo header only
	segments4 = 1 // TCP over IPv4, to be cut up
	segments6 = 4
	withECN   = 0x80
)

func offloadOf(frame []byte) offload {
	u16 := binary.NativeEndian.Uint16
	return offload{frame[0], frame[1], u16(frame[2:]), u16(frame[4:]), u16(frame[6:]), u16(frame[8:])}
}

func (o offload) write(frame []byte) {
	frame[0], frame[1] = o.flags, o.segment
	for i, v := range []uint16{o.headBytes, o.segmentBytes, o.sumStart, o.sumOffset} {
		binary.NativeEndian.PutUint16(frame[2+2*i:], v)
	}
}

func (o offload) in4() offload { return o.shifted(header4-header6, segments6, segments4) }
func (o offload) in6() offload { return o.shifted(header6-header4, segments4, segments6) }

func (o offload) shifted(by int, from, to byte) offload {
	if o.flags&needsSum != 0 {
		o.sumStart = uint16(int(o.sumStart) + by)
	}
	if o.segment != 0 {
		o.headBytes = uint16(int(o.headBytes) + by)
	}
	if o.segment&^withECN == from {
		o.segment = to | o.segment&withECN
	}
	return o
}

// carry gives p the payload of old, which has other addresses. It is false for a
// protocol that is not translated.
func (p *packet) carry(old *packet) bool {
	p.payload = old.payload
	switch {
	case p.proto == unix.IPPROTO_TCP && len(p.payload) >= 20:
		p.correct(16, old)
	case p.proto == unix.IPPROTO_UDP && len(p.payload) >= 8:
		if p.flags&needsSum == 0 && p.payload[6]|p.payload[7] == 0 { // which IPv6 does not allow
			p.putSum(6)
			break
		}
		p.correct(6, old)
	case p.proto == unix.IPPROTO_ICMPV6 && len(p.payload) >= 8:
		return p.carryEcho(map[byte]byte{128: 8, 129: 0}, unix.IPPROTO_ICMP)
	case p.proto == unix.IPPROTO_ICMP && len(p.payload) >= 8:
		return p.carryEcho(map[byte]byte{8: 128, 0: 129}, unix.IPPROTO_ICMPV6)
	default:
		return false
	}
	return true
}

// correct takes the old addresses out of the checksum at an offset, and puts the
// new ones in (RFC 1624). One that has the pseudo header only is not inverted.
func (p *packet) correct(at int, old *packet) {
	field := p.payload[at : at+2]
	was := binary.BigEndian.Uint16(field)
	if p.flags&needsSum != 0 {
		binary.BigEndian.PutUint16(field, p.addresses(sum(uint32(was)+uint32(^old.addresses(0)))))
		return
	}
	now := ^p.addresses(sum(uint32(^was) + uint32(^old.addresses(0))))
	if now == 0 && p.proto == unix.IPPROTO_UDP {
		now = 0xffff
	}
	binary.BigEndian.PutUint16(field, now)
}

// addresses adds both to a sum.
func (p *packet) addresses(start uint16) uint16 {
	return sum(uint32(start), p.src.AsSlice(), p.dst.AsSlice())
}

// putSum computes the whole checksum, with the pseudo header of IPv6; that of
// ICMP over IPv4 has none.
func (p *packet) putSum(at int) {
	field := p.payload[at : at+2]
	field[0], field[1] = 0, 0
	start := uint32(0)
	if p.proto != unix.IPPROTO_ICMP {
		start = uint32(p.addresses(0)) + uint32(len(p.payload)) + uint32(p.proto)
	}
	now := ^sum(start, p.payload)
	if now == 0 {
		now = 0xffff
	}
	binary.BigEndian.PutUint16(field, now)
}

func (p *packet) carryEcho(kinds map[byte]byte, proto byte) bool {
	kind, ok := kinds[p.payload[0]]
	if !ok {
		return false
	}
	p.payload[0], p.proto = kind, proto
	p.putSum(2)
	return true
}

// sum is the Internet checksum's (RFC 1071), not inverted. Parts have even
// lengths but for the last.
func sum(start uint32, parts ...[]byte) uint16 {
	s := uint64(start)
	for _, b := range parts {
		for ; len(b) >= 2; b = b[2:] {
			s += uint64(binary.BigEndian.Uint16(b))
		}
		if len(b) == 1 {
			s += uint64(b[0]) << 8
		}
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// The errors of ICMP, and what is said of a destination.
const (
	icmpUnreachable, icmpExpired = 3, 11

	portUnreachable, tooLong                      = 3, 4
	networkForbidden, hostForbidden, allForbidden = 9, 10, 13
)

func isError(icmp []byte) bool {
	return len(icmp) > 0 && (icmp[0] == icmpUnreachable || icmp[0] == icmpExpired)
}

// carryError translates an error about a packet of a host, of which it has the
// beginning. Errors that hosts send are not translated.
func (p *packet) carryError(old *packet, hosts map[netip.Addr]netip.Addr) bool {
	const head = 8
	if len(old.payload) < head+header4+8 {
		return false
	}
	kind, code, more := error6(old.payload)
	inner := old.payload[head:]
	about := netip.AddrFrom4([4]byte(inner[12:16]))
	host, known := hosts[about]
	ihl := int(inner[0]&0x0f) * 4
	if !known || kind == 0 || ihl < header4 || len(inner) < ihl+8 {
		return false
	}
	rest := inner[ihl:]
	sent := &packet{src: host, dst: in6(netip.AddrFrom4([4]byte(inner[16:20]))), hops: inner[8], proto: inner[9]}
	p.payload = make([]byte, head+header6, head+header6+len(rest))
	p.payload[0], p.payload[1] = kind, code
	binary.BigEndian.PutUint32(p.payload[4:], more)
	sent.write6(p.payload[head:])
	// The length is what the packet had, not what is left of it.
	binary.BigEndian.PutUint16(p.payload[head+4:], binary.BigEndian.Uint16(inner[2:])-uint16(ihl))
	p.payload = append(p.payload, rest...)
	p.proto, p.offload = unix.IPPROTO_ICMPV6, offload{}
	p.putSum(2)
	return true
}

// error6 is what ICMPv6 calls an error of ICMP (RFC 7915, section 4.2); 0 where it has no word for it.
func error6(icmp []byte) (kind, code byte, more uint32) {
	const unreachable6, tooLong6, expired6 = 1, 2, 3
	if icmp[0] == icmpExpired {
		return expired6, icmp[1], 0
	}
	switch icmp[1] {
	case tooLong:
		return tooLong6, 0, uint32(binary.BigEndian.Uint16(icmp[6:])) + header6 - header4
	case portUnreachable:
		return unreachable6, 4, 0
	case networkForbidden, hostForbidden, allForbidden:
		return unreachable6, 1, 0
	case 0, 1, 5, 6, 7, 8, 11, 12: // no network, no host, and variants of it
		return unreachable6, 0, 0
	}
	return 0, 0, 0
}
