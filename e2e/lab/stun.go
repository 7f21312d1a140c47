//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/pion/stun/v3"
	"github.com/vishvananda/netlink"
)

// stunServer tells hosts how they are seen from outside (STUN, RFC 8489). It has
// two addresses and two ports, and answers from another of them when asked to, so
// that hosts can tell which mapping and which filter their NAT has (RFC 5780).
//
// The indices are those of stunAddrs and stunPorts.
type stunServer [2][2]*net.UDPConn

var (
	stunAddrs = [2]netip.Addr{netip.AddrFrom4([4]byte{9, 34, 78, 1}), netip.AddrFrom4([4]byte{9, 34, 78, 2})}
	stunPorts = [2]uint16{3478, 3479}
)

// stunName has the first of the addresses, in the lab's zone.
const stunName = "stun"

// publicSTUN are servers that the whole world uses. In this internet they are one.
var publicSTUN = [2]string{"stun.cloudflare.com", "global.stun.twilio.com"}

func startSTUN(core netNS, world *zone, fail func(error)) error {
	s := new(stunServer)
	for i, addr := range stunAddrs {
		err := core.edit(func(h *netlink.Handle) error { return addAddr(h, "lo", netip.PrefixFrom(addr, 32)) })
		for j, port := range stunPorts {
			var e error
			s[i][j], e = core.listenUDP(netip.AddrPortFrom(addr, port))
			err = errors.Join(err, e)
		}
		if err != nil {
			return fmt.Errorf("serve STUN on %s: %w", addr, err)
		}
	}
	world.addA(stunName, stunAddrs[0])
	for i, addr := range stunAddrs {
		world.addName(publicSTUN[i], addr)
		for j, port := range stunPorts {
			go func() { fail(fmt.Errorf("serve STUN on %s:%d: %w", addr, port, s.serve(i, j))) }()
		}
	}
	return nil
}

// serve answers what comes to the i-th address and the j-th port.
func (s *stunServer) serve(i, j int) error {
	buf := make([]byte, 2048) // STUN stays below the MTU
	for {
		n, from, err := s[i][j].ReadFromUDPAddrPort(buf)
		if err != nil {
			return err
		}
		q := &stun.Message{Raw: buf[:n]}
		if q.Decode() != nil || q.Type != stun.BindingRequest {
			continue
		}
		a, x, y := answerSTUN(q, from, i, j)
		if a != nil {
			_, _ = s[x][y].WriteToUDPAddrPort(a.Raw, from) // whoever asked asks again
		}
	}
}

// Flags of CHANGE-REQUEST, in its last byte.
const (
	changeAddr = 4
	changePort = 2
)

// answerSTUN is the answer, and which address and port it is sent from.
func answerSTUN(q *stun.Message, from netip.AddrPort, i, j int) (a *stun.Message, x, y int) {
	if unknown := unknownOf(q); unknown != nil {
		a, _ = stun.Build(q, stun.BindingError, stun.CodeUnknownAttribute, unknown)
		return a, i, j
	}
	x, y = i, j
	if flags, err := q.Get(stun.AttrChangeRequest); err == nil && len(flags) == 4 {
		if flags[3]&changeAddr != 0 {
			x = 1 - i
		}
		if flags[3]&changePort != 0 {
			y = 1 - j
		}
	}
	ip, port := net.IP(from.Addr().Unmap().AsSlice()), int(from.Port())
	at := func(i, j int) (net.IP, int) { return stunAddrs[i].AsSlice(), int(stunPorts[j]) }
	originIP, originPort := at(x, y)
	otherIP, otherPort := at(1-i, 1-j)
	a, _ = stun.Build(q, stun.BindingSuccess, // nil where it fails: the request was none that can be answered
		&stun.XORMappedAddress{IP: ip, Port: port}, &stun.MappedAddress{IP: ip, Port: port},
		&stun.ResponseOrigin{IP: originIP, Port: originPort}, &stun.OtherAddress{IP: otherIP, Port: otherPort},
		stun.Fingerprint)
	return a, x, y
}

// unknownOf lists attributes that have to be understood and are not.
func unknownOf(q *stun.Message) stun.UnknownAttributes {
	var unknown stun.UnknownAttributes
	for _, a := range q.Attributes {
		if a.Type.Required() && a.Type != stun.AttrChangeRequest {
			unknown = append(unknown, a.Type)
		}
	}
	return unknown
}
