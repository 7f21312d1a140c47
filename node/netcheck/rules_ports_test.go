package netcheck

import (
	"slices"
	"testing"
)

// wellKnown is the page whose content is known.
var wellKnown = Record{Operation: Portal, Proto: "http", Addr: "http://portal.example/", Facts: Facts{Status: 200}}

// at4001 is a list with relays at port 4001 only, of which none is reached.
func at4001() *seen {
	return newSeen().here("tcp", Connect, Timeout).here("quic-v1", QUIC, QUICIdleTimeout).aside(stun(Timeout)).aside(version(Datagram, 1200), Timeout)
}

func (s *seen) askedProxy(transport, lead string, f Failure) *seen {
	s.next++
	add(&s.Records, Record{Transaction: s.next, Operation: ProxyTunnel, Transport: transport, Lead: lead, Addr: "http://proxy:3128"}, f)
	return s
}

func TestWhatGetsOutIsToldByAllThatWasTried(t *testing.T) {
	for name, c := range map[string]struct {
		make *seen
		want []Cause
	}{
		"a page comes by port 80, and relays are at another port": {at4001().aside(wellKnown, ""), []Cause{TCPPortsBlocked, UDPBlocked}},
		"a page does not come, nor anything else":                 {at4001().aside(wellKnown, Timeout), []Cause{AllBlocked}},
		"a page comes, and what a proxy forbids may pass without it": {
			at4001().askedProxy("tcp", leads["tcp"], ProxyForbidden).aside(wellKnown, ""), []Cause{TCPPortsBlocked, UDPBlocked, NoControl}},
		"a page comes, and TLS does not pass without the proxy": {
			at4001().here("wss", Connect, Timeout).askedProxy("wss", leads["wss"], "").aside(wellKnown, ""), []Cause{ProxyRequired, UDPBlocked}},
	} {
		t.Run(name, func(t *testing.T) {
			d := Diagnose(c.make.fine().Report)
			if got := causesOf(d); !slices.Equal(sorted(got), sorted(c.want)) {
				t.Errorf("found %v, want %v\n%s", got, c.want, marshal(d))
			}
		})
	}
}

// The relay of these tests by IPv6.
var leads6 = map[string]string{"tcp": "/ip6/2a00::1/tcp/4001", "quic-v1": "/ip6/2a00::1/udp/4001/quic-v1"}

// dual gives this host IPv6 as well, and has it try the relay by it. Elsewhere that works.
func (s *seen) dual(f Failure) *seen {
	s.Local.Routes = []string{"ip4", "ip6"}
	s.Targets = append(s.Targets, Target{Addr: leads6["tcp"], Leads: []string{leads6["tcp"]}}, Target{Addr: leads6["quic-v1"], Leads: []string{leads6["quic-v1"]}})
	for i, transport := range []string{"tcp", "quic-v1"} {
		s.next++
		step := Record{Transaction: s.next, Target: 3 + i, Operation: climbs[transport][0], Transport: transport, Lead: leads6[transport], Addr: "[2a00::1]:4001"}
		add(&s.Records, step, f)
		add(&s.away.Records, step, "")
	}
	datagram := Record{Target: -1, Operation: Datagram, Proto: "quic-version", Addr: "[2a00::1]:4001"}
	s.aside(datagram, f)
	add(&s.away.Records, datagram, "")
	return s
}

func TestTheTwoVersionsOfIPAreToldApart(t *testing.T) {
	public := Record{Operation: Connect, Proto: "ip6", Addr: "[2606:4700:4700::1111]:443"}
	campus := func() *seen { return at4001().here("wss", "", "").dual(Timeout) }
	for name, c := range map[string]struct {
		make *seen
		want []Cause
	}{
		"a campus stops UDP and a port of both": {campus().aside(public, ""), []Cause{UDPBlocked, TCPPortsBlocked}},
		"a campus whose IPv6 leads nowhere":     {campus().aside(public, Timeout), []Cause{IPv6Broken, UDPBlocked, TCPPortsBlocked}},
		"a port of IPv6 alone is stopped": {newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", "", "").aside(stun("")).dual(Timeout).aside(public, ""),
			[]Cause{NoControl}},
		"UDP by IPv6 alone": {campus().aside(Record{Operation: Datagram, Proto: "quic-version", Addr: "[2a00::2]:443"}, ""), []Cause{UDPBlocked, TCPPortsBlocked, NoControl}},
		"nothing by IPv4":   {newSeen().here("tcp", Connect, Timeout).dual(Timeout).aside(public, ""), []Cause{NoControl}},
	} {
		t.Run(name, func(t *testing.T) {
			d := Diagnose(c.make.fine().Report)
			if got := causesOf(d); !slices.Equal(sorted(got), sorted(c.want)) {
				t.Errorf("found %v, want %v\n%s", got, c.want, marshal(d))
			}
		})
	}
}

func TestAnIPv6ThatIsProhibitedIsNotThisMachinesOwnFirewall(t *testing.T) {
	for errno, want := range map[string]Cause{"EACCES": NoControl, "EPERM": LocalFirewall} {
		s := newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", "", "").aside(stun("")).dual(PermissionDenied)
		for i, r := range s.Records {
			if isIPv6(r.Addr) && r.Failure != nil {
				s.Records[i].Errno = errno
			}
		}
		if d := Diagnose(s.Report); d.Targets[3].Cause != want {
			t.Errorf("%s is %s, want %s", errno, d.Targets[3].Cause, want)
		}
	}
}

func TestTwoVerdictsOnUDPDoNotContradictEachOther(t *testing.T) {
	poke := Record{Operation: Datagram, Proto: "quic-version", Addr: "11.0.0.1:443"}
	for icmp, want := range map[string][]Cause{
		portUnreachable:                 {UDPPortBlocked}, // the relay has no QUIC at 443, and says so
		portUnreachable + "-by-another": {UDPBlocked},     // a firewall
	} {
		s := newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", QUIC, QUICIdleTimeout).aside(stun(Timeout)).aside(version(Datagram, 1200), Timeout)
		poke.ICMP = portUnreachable
		add(&s.away.Records, poke, Refused)
		add(&s.away.Records, version(Datagram, 1200), "")
		poke.ICMP = icmp
		d := Diagnose(s.aside(poke, Refused).fine().Report)
		if got := causesOf(d); !slices.Equal(got, want) {
			t.Errorf("%s at port 443: found %v, want %v\n%s", icmp, got, want, marshal(d.Causes))
		}
	}
}

func TestWhatPassesToOneAddressAndNotToAnotherIsNoMatterOfPorts(t *testing.T) {
	other := version(Datagram, 1200)
	other.Addr = "11.0.0.9:4001"
	for f, want := range map[Failure][]Cause{"": {UDPPortBlocked}, Timeout: nil} { // at the same port of another relay
		s := newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", "", "").aside(version(Datagram, 1200), "").aside(stun(Timeout))
		for _, r := range []Record{version(Datagram, 1200), other} {
			add(&s.away.Records, r, "")
		}
		r, _ := stun("")
		add(&s.away.Records, r, "")
		d := Diagnose(s.aside(other, f).fine().Report)
		if got := causesOf(d); !slices.Equal(got, want) {
			t.Errorf("%q: found %v, want %v\n%s", f, got, want, marshal(d.Causes))
		}
	}
}
