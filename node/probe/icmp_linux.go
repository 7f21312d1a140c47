package probe

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// watchICMP has the system keep ICMP errors for a socket, and not fragment what it
// sends: QUIC does neither.
func watchICMP(c *net.UDPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return // then there is no word of ICMP, and the outcome is the same
	}
	_ = raw.Control(func(fd uintptr) {
		for _, o := range []struct{ level, name, value int }{
			{unix.IPPROTO_IP, unix.IP_RECVERR, 1}, {unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1},
			{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE}, {unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE},
		} {
			_ = unix.SetsockoptInt(int(fd), o.level, o.name, o.value) // a socket is of one family
		}
	})
}

// icmpOf takes the last ICMP error that came for a socket; empty: none did.
func icmpOf(c *net.UDPConn) (what string) {
	raw, err := c.SyscallConn()
	if err != nil {
		return ""
	}
	to, _ := c.RemoteAddr().(*net.UDPAddr)
	_ = raw.Control(func(fd uintptr) {
		for {
			oob := make([]byte, 512)
			_, n, _, _, err := unix.Recvmsg(int(fd), nil, oob, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
			if err != nil {
				return
			}
			if told := readICMP(oob[:n], to.AddrPort().Addr()); told != "" {
				what = told
			}
		}
	})
	return what
}

// byAnother is said of an error that only the machine to which a datagram went may
// send, and that another one sent: iptables' REJECT is the usual one.
const byAnother = "-by-another"

// readICMP finds the ICMP error among control messages that came of a datagram.
func readICMP(oob []byte, to netip.Addr) string {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return ""
	}
	for _, m := range messages {
		is4 := m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_RECVERR
		is6 := m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_RECVERR
		if !is4 && !is6 || len(m.Data) < int(unsafe.Sizeof(unix.SockExtendedErr{})) {
			continue
		}
		e := (*unix.SockExtendedErr)(unsafe.Pointer(&m.Data[0]))
		if e.Origin == unix.SO_EE_ORIGIN_ICMP || e.Origin == unix.SO_EE_ORIGIN_ICMP6 {
			name := icmpName(is6, e.Type, e.Code)
			if name == "port-unreachable" && offender(m.Data[unsafe.Sizeof(*e):]) != to.Unmap().WithZone("") {
				name += byAnother
			}
			return name
		}
	}
	return ""
}

// offender is who sent an error, by the socket address behind it (ip(7), IP_RECVERR);
// the zero Addr where there is none.
func offender(sockaddr []byte) netip.Addr {
	if len(sockaddr) < 2 {
		return netip.Addr{}
	}
	addr := sockaddr[:0]
	switch family := binary.NativeEndian.Uint16(sockaddr); {
	case family == unix.AF_INET && len(sockaddr) >= unix.SizeofSockaddrInet4:
		addr = sockaddr[4:8]
	case family == unix.AF_INET6 && len(sockaddr) >= unix.SizeofSockaddrInet6:
		addr = sockaddr[8:24]
	}
	a, _ := netip.AddrFromSlice(addr) // of neither it is the zero Addr
	return a.Unmap()
}

type icmp struct {
	v6         bool
	kind, code uint8
}

// icmpNames are those of iptables and of the RFCs (792, 1812, 4443).
var icmpNames = map[icmp]string{
	{false, 3, 0}: "net-unreachable", {false, 3, 1}: "host-unreachable", {false, 3, 3}: "port-unreachable", {false, 3, 4}: "frag-needed",
	{false, 3, 9}: "net-prohibited", {false, 3, 10}: "host-prohibited", {false, 3, 13}: "admin-prohibited", {false, 11, 0}: "time-exceeded",
	{true, 1, 0}: "no-route", {true, 1, 1}: "admin-prohibited", {true, 1, 3}: "host-unreachable", {true, 1, 4}: "port-unreachable",
	{true, 2, 0}: "packet-too-big", {true, 3, 0}: "time-exceeded",
}

func icmpName(v6 bool, kind, code uint8) string {
	if name, ok := icmpNames[icmp{v6, kind, code}]; ok {
		return name
	}
	return fmt.Sprintf("type %d code %d", kind, code)
}
