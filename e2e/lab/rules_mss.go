//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// meta l4proto tcp tcp flags syn tcp option maxseg size set BYTES
//
// A TCP handshake announces segments that fit into packets of so many bytes,
// which is what keeps TCP working over links where ICMP does not tell of it.
func clampMSS(packet int) rule {
	const ipv4, ipv6, tcp = 20, 40, 20 // bytes of headers
	return rule{name: clampsMSS, does: fmt.Sprintf("TCP handshakes announce segments for packets of %d bytes at most", packet),
		apply: func(f *firewall) {
			for number, header := range map[byte]int{unix.NFPROTO_IPV4: ipv4, unix.NFPROTO_IPV6: ipv6} {
				f.passing(family(number), protocol(unix.IPPROTO_TCP), bitsAt(expr.PayloadBaseTransportHeader, tcpFlags, flagSYN, flagSYN), []expr.Any{
					&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(uint16(packet - header - tcp))},
					&expr.Exthdr{Op: expr.ExthdrOpTcpopt, Type: unix.TCPOPT_MAXSEG, Offset: 2, Len: 2, SourceRegister: 1},
				})
			}
		},
		proof: func(t *trial) error {
			p, err := t.way("tcp")
			if err != nil {
				return err
			}
			f, err := t.stream(p.number)
			if err != nil {
				return err
			}
			for _, e := range []*end{f.near, f.far} {
				got, err := e.segment()
				if err != nil {
					return err
				}
				if most := packet - ipv4 - tcp; got > most {
					return fmt.Errorf("the %s makes segments of %d bytes, over %d", e.name, got, most)
				}
				t.saw("the %s makes segments of %d bytes", e.name, got)
			}
			return nil
		}}
}

const clampsMSS = "clamp-mss"

// clamps tells whether a rule of the profile keeps TCP segments short.
func (t *trial) clamps() bool {
	return slices.ContainsFunc(t.profile.rules, func(r rule) bool { return r.name == clampsMSS && r.apply != nil })
}

// segment is the most that an end puts into one TCP segment, options aside.
func (e *end) segment() (bytes int, err error) {
	c, err := e.stream.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	failed := c.Control(func(fd uintptr) { bytes, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG) })
	return bytes, errors.Join(failed, err)
}
