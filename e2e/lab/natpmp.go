//go:build linux

package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"
)

// natPMP lets hosts ask the router for ports by NAT-PMP (RFC 6886), as Apple's
// routers had it first. Go has clients of it, but no well-kept server.
var natPMP = service{
	name: "nat-pmp",
	does: "hosts get ports of the router by NAT-PMP",
	start: func(r *router) error {
		c, err := r.ns.listenUDP(netip.AddrPortFrom(r.addr, natPMPPort))
		if err != nil {
			return err
		}
		s := &natPMPServer{router: r, began: time.Now()}
		go func() { r.fail(fmt.Errorf("serve NAT-PMP on %s: %w", c.LocalAddr(), s.serve(c))) }()
		return nil
	},
	proof: provesNATPMP,
}

const natPMPPort = 5351

// What requests ask for; answers have 128 added to it.
const (
	pmpAddress = 0
	pmpMapUDP  = 1
	pmpMapTCP  = 2
	pmpAnswer  = 128
)

// Result codes of RFC 6886, section 3.5.
const (
	pmpSuccess            = 0
	pmpUnsupportedVersion = 1
	pmpNetworkFailure     = 3
	pmpOutOfResources     = 4
	pmpUnsupportedOpcode  = 5
)

// pmpTries is how many ports are drawn until one is free.
const pmpTries = 16

type natPMPServer struct {
	router *router
	began  time.Time
}

func (s *natPMPServer) serve(c *net.UDPConn) error {
	buf := make([]byte, 1100) // the most that PCP, its successor, allows
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return err
		}
		if n < 2 || buf[1] >= pmpAnswer {
			continue
		}
		_, _ = c.WriteToUDPAddrPort(s.answer(buf[:n], from.Addr().Unmap()), from) // whoever asked asks again
	}
}

// answer begins, whatever was asked, with version, operation, result and the
// seconds since the mappings were last lost.
func (s *natPMPServer) answer(request []byte, host netip.Addr) []byte {
	a := []byte{0, pmpAnswer + request[1], 0, 0}
	a = binary.BigEndian.AppendUint32(a, uint32(time.Since(s.began).Seconds()))
	rest, result := []byte(nil), uint16(pmpUnsupportedOpcode)
	switch op := request[1]; {
	case request[0] != 0: // PCP, which falls back (RFC 6887, appendix A)
		result = pmpUnsupportedVersion
	case op == pmpAddress:
		rest, result = s.address()
	case (op == pmpMapUDP || op == pmpMapTCP) && len(request) >= 12:
		rest, result = s.mapPort(request, host)
	}
	binary.BigEndian.PutUint16(a[2:], result)
	return append(a, rest...)
}

func (s *natPMPServer) address() (rest []byte, result uint16) {
	outside, err := s.router.outside()
	if err != nil {
		return make([]byte, 4), pmpNetworkFailure
	}
	return outside.AsSlice(), pmpSuccess
}

// mapPort makes, renews or, with a lifetime of 0, ends a mapping. The outside
// port is the suggested one unless that is another host's.
func (s *natPMPServer) mapPort(request []byte, host netip.Addr) (rest []byte, result uint16) {
	proto := viaUDP
	if request[1] == pmpMapTCP {
		proto = viaTCP
	}
	inside := netip.AddrPortFrom(host, binary.BigEndian.Uint16(request[4:]))
	outside := binary.BigEndian.Uint16(request[6:])
	seconds := binary.BigEndian.Uint32(request[8:])
	var err error
	if seconds == 0 {
		outside = 0
		_, err = s.router.ports.remove(proto, func(m mapping) bool {
			return m.inside == inside || inside.Port() == 0 && m.inside.Addr() == host
		})
	} else {
		outside, err = s.lend(proto, outside, inside, time.Duration(seconds)*time.Second)
	}
	if err != nil {
		outside, seconds, result = 0, 0, pmpOutOfResources
	}
	rest = binary.BigEndian.AppendUint16(rest, inside.Port())
	rest = binary.BigEndian.AppendUint16(rest, outside)
	return binary.BigEndian.AppendUint32(rest, seconds), result
}

// lend gives a host the port that it has for this purpose already, or the one
// that it suggests, or one that is free.
func (s *natPMPServer) lend(proto transport, suggested uint16, inside netip.AddrPort, life time.Duration) (uint16, error) {
	now, err := s.router.ports.list(proto)
	if err != nil {
		return 0, err
	}
	for _, m := range now {
		if m.inside == inside {
			suggested = m.outside
		}
	}
	err = errTaken
	for range pmpTries {
		if suggested != 0 {
			err = s.router.ports.add(proto, mapping{outside: suggested, inside: inside, life: life})
		}
		if !errors.Is(err, errTaken) {
			return suggested, err
		}
		suggested = uint16(1024 + rand.IntN(1<<16-1024))
	}
	return 0, err
}

// provesNATPMP asks as a host does: for the address, then for a port of either
// protocol, whose lifetime it lets pass.
func provesNATPMP(t *trial) error {
	c, err := t.packets(t.host, 0, t.router.at(natPMPPort))
	if err != nil {
		return err
	}
	ask := func(op byte, request ...byte) ([]byte, error) {
		if err := c.write(string(append([]byte{0, op}, request...))); err != nil {
			return nil, err
		}
		text, _, err := c.read(answerWait)
		if err == nil && (len(text) < 12 || text[1] != pmpAnswer+op || text[2] != 0 || text[3] != pmpSuccess) {
			err = fmt.Errorf("operation %d is answered with %x", op, text)
		}
		return []byte(text), err
	}
	a, err := ask(pmpAddress)
	if err != nil {
		return err
	}
	if addr := netip.AddrFrom4([4]byte(a[8:])); addr != t.egress {
		return fmt.Errorf("it says that its address is %s, which is %s", addr, t.egress)
	}
	const inside = 4002
	life := uint32(provingTimer.Seconds())
	request := binary.BigEndian.AppendUint16([]byte{0, 0}, inside)
	request = binary.BigEndian.AppendUint32(append(request, 0, 0), life)
	lent := map[transport]uint16{}
	for proto, op := range map[transport]byte{viaTCP: pmpMapTCP, viaUDP: pmpMapUDP} {
		if a, err = ask(op, request...); err != nil {
			return err
		}
		lent[proto] = binary.BigEndian.Uint16(a[10:])
		if err := t.leadsIn(proto, lent[proto], inside); err != nil {
			return err
		}
	}
	if err := t.pause(provingTimer + expirySlack); err != nil {
		return err
	}
	t.saw("ports %v lead in for %d s", lent, life)
	return errors.Join(t.leadsNowhere(viaTCP, lent[viaTCP], inside), t.leadsNowhere(viaUDP, lent[viaUDP], inside))
}

// expirySlack is for mappings to be gone after their end.
const expirySlack = 500 * time.Millisecond
