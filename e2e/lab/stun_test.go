//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/pion/stun/v3"
)

// behaviour finds out, from this host, what its NAT does: how many destinations
// share the mapping of a port, and who gets in by it (RFC 5780, sections 4.3 and
// 4.4). The answer's Local is the mapping, its Remote the filter.
//
// The filter comes first: some routers let in whoever was ever sent something.
func (o order) behaviour(a *answer) error {
	if err := o.filter(a); err != nil {
		return err
	}
	c, err := net.ListenPacket("udp4", ":0")
	if err != nil {
		return err
	}
	defer c.Close()
	first, err := o.binding(c, o.Addr, 0)
	if err != nil {
		return err
	}
	other := netip.AddrPortFrom(first.other.Addr(), netip.MustParseAddrPort(o.Addr).Port())
	second, err1 := o.binding(c, other.String(), 0)
	third, err2 := o.binding(c, first.other.String(), 0)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	switch {
	case first.seen == second.seen && second.seen == third.seen:
		a.Local = "one for all"
	case second.seen == third.seen:
		a.Local = "another for each address"
	default:
		a.Local = "another for each address and port"
	}
	a.Data = fmt.Append(nil, first.seen)
	return nil
}

// filter asks for answers from where nothing was sent to, from a fresh port.
func (o order) filter(a *answer) error {
	c, err := net.ListenPacket("udp4", ":0")
	if err != nil {
		return err
	}
	defer c.Close()
	for _, try := range []struct {
		change byte
		filter string
	}{{changeAddr | changePort, "everybody"}, {changePort, "that address"}, {0, "that address and port"}} {
		_, err := o.binding(c, o.Addr, try.change)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			a.Remote = try.filter
			return err
		}
	}
	return errors.New("the server does not answer any more")
}

type sighting struct{ seen, other netip.AddrPort }

// binding asks once, and takes the answer that belongs to it.
func (o order) binding(c net.PacketConn, to string, change byte) (sighting, error) {
	set := []stun.Setter{stun.TransactionID, stun.BindingRequest}
	if change != 0 {
		set = append(set, stun.RawAttribute{Type: stun.AttrChangeRequest, Value: []byte{0, 0, 0, change}})
	}
	q, err := stun.Build(set...)
	if err != nil {
		return sighting{}, err
	}
	at, err := net.ResolveUDPAddr("udp4", to)
	if err != nil {
		return sighting{}, err
	}
	wait := o.Timeout
	if change != 0 {
		wait = silence // for what a filter may drop
	}
	if _, err := c.WriteTo(q.Raw, at); err != nil {
		return sighting{}, err
	}
	buf := make([]byte, 2048)
	for end := time.Now().Add(wait); ; {
		if err := c.SetReadDeadline(end); err != nil {
			return sighting{}, err
		}
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return sighting{}, err
		}
		r := &stun.Message{Raw: buf[:n]}
		if r.Decode() != nil || r.TransactionID != q.TransactionID {
			continue
		}
		var seen stun.XORMappedAddress
		var origin stun.ResponseOrigin
		var other stun.OtherAddress
		if err := errors.Join(seen.GetFrom(r), origin.GetFrom(r), other.GetFrom(r), stun.Fingerprint.Check(r)); err != nil {
			return sighting{}, err
		}
		if said := addrPort(origin.IP, origin.Port); said.String() != from.String() {
			return sighting{}, fmt.Errorf("an answer from %s says that it comes from %s", from, said)
		}
		return sighting{addrPort(seen.IP, seen.Port), addrPort(other.IP, other.Port)}, nil
	}
}

func addrPort(ip net.IP, port int) netip.AddrPort {
	a, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap(), uint16(port))
}

func TestSTUNTellsEachKindOfNAT(t *testing.T) {
	cases := []struct{ profile, mapping, filter string }{
		{"home", "one for all", "that address and port"},
		{"full-cone", "one for all", "everybody"},
		{"address-restricted", "one for all", "that address"},
		{"symmetric", "another for each address and port", "that address and port"},
	}
	var profiles []string
	for _, c := range cases {
		profiles = append(profiles, c.profile)
	}
	i := behind(t, profiles...)
	ask := func(h *hand) answer {
		return h.do(order{Do: "behaviour", Addr: netip.AddrPortFrom(stunAddrs[0], stunPorts[0]).String(), Timeout: patience})
	}
	for _, c := range cases {
		a := ask(i.behind(t, c.profile))
		if a.Local != c.mapping || a.Remote != c.filter {
			t.Errorf("behind %s the mapping is %q, and lets in %q", c.profile, a.Local, a.Remote)
		}
		if at := netip.MustParseAddrPort(string(a.Data)); at.Addr() != i.lab.host(t, c.profile).Egress {
			t.Errorf("behind %s the host is seen at %s", c.profile, at)
		}
	}
	a := ask(i.relay1)
	if at := netip.MustParseAddrPort(string(a.Data)); at.Addr() != i.lab.host(t, "relay1").Addr || a.Remote != "everybody" {
		t.Errorf("a public host is seen at %s, and what gets in is from %q", at, a.Remote)
	}
	if got := query(t, i.relay1, "udp", resolver.String()+":53", "stun."+defaultZone+" A"); got != "NOERROR\nstun."+defaultZone+". 60 IN A "+stunAddrs[0].String() {
		t.Errorf("DNS says %s", got)
	}
}

func TestAnUnknownAttributeIsRefused(t *testing.T) {
	q := stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.RawAttribute{Type: 0x7f01, Value: []byte{1}})
	a, x, y := answerSTUN(q, netip.MustParseAddrPort("45.10.0.2:4001"), 0, 1)
	var code stun.ErrorCodeAttribute
	if err := code.GetFrom(a); err != nil || code.Code != stun.CodeUnknownAttribute || x != 0 || y != 1 {
		t.Errorf("answered from %d, %d with %v: %v", x, y, code, err)
	}
}
