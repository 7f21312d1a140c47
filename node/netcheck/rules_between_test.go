package netcheck

import (
	"slices"
	"testing"
)

func TestAProxyThatForbidsAddressesWithoutNamesIsNotOneOfPorts(t *testing.T) {
	s := newSeen().here("wss", Connect, Timeout).here("tcp", Connect, Timeout).aside(stun(Timeout)).aside(stun(Timeout)).
		askedProxy("wss", leads["wss"], ProxyForbidden).askedProxy("wss", "/dns4/relay.example.org/tcp/443/tls/ws", "")
	if d := Diagnose(s.fine().Report); slices.Contains(causesOf(d), ProxyPorts) {
		t.Errorf("one port is both open and closed:\n%s", marshal(d))
	}
	d := Diagnose(s.askedProxy("tcp", leads["tcp"], ProxyForbidden).fine().Report)
	if i := slices.IndexFunc(d.Causes, func(f Finding) bool { return f.Cause == ProxyPorts }); i < 0 || d.Causes[i].Sentence != "The proxy connects to port 443 and refuses 4001." {
		t.Errorf("a port that is refused by itself is not named:\n%s", marshal(d))
	}
}

// refusesUpgrade is a relay that answers an upgrade with an HTTP error.
func refusesUpgrade() *seen {
	s := newSeen().here("tcp", "", "").here("wss", Upgrade, WebSocketHandshake).here("quic-v1", "", "").aside(stun(""))
	for i, r := range s.Records {
		if r.Operation == Upgrade {
			s.Records[i].Facts.Status = 502
		}
	}
	return s
}

func TestARefusedUpgradeThatNobodyElseTriedMayBeTheRelaysFault(t *testing.T) {
	byProxy := func(s *seen) *seen {
		s = s.askedProxy("wss", "/dns4/relay.example.org/tcp/443/tls/ws", "")
		add(&s.Records, Record{Transaction: s.next, Operation: Upgrade, Transport: "wss", Lead: "/dns4/relay.example.org/tcp/443/tls/ws", Facts: Facts{Status: 502}}, WebSocketHandshake)
		return s
	}
	for name, c := range map[string]struct {
		report Report
		want   []Cause
	}{
		"by nobody":                        {refusesUpgrade().Report, []Cause{NoControl}},
		"through a proxy, by nobody":       {byProxy(newSeen().aside(stun(""))).Report, []Cause{NoControl}},
		"through a proxy, of another name": {byProxy(newSeen().aside(stun(""))).fine().Report, []Cause{UpgradeStripped}},
		"with success":                     {refusesUpgrade().fine().Report, []Cause{UpgradeStripped}},
		"in vain":                          {refusesUpgrade().elsewhere("wss", Upgrade, WebSocketHandshake).Report, nil},
	} {
		d := Diagnose(c.report)
		if got := slices.DeleteFunc(causesOf(d), func(c Cause) bool { return c == ProxyRequired }); !slices.Equal(sorted(got), sorted(c.want)) {
			t.Errorf("tried elsewhere %s: found %v, want %v\n%s", name, got, c.want, marshal(d))
		}
	}
}

func TestOneClockThatDiffersMayBeTheWrongOne(t *testing.T) {
	for name, c := range map[string]struct {
		ahead []float64 // seconds
		want  Confidence
	}{
		"a relay's clock is wrong":    {[]float64{0.3, -310}, ""},
		"the only other one differs":  {[]float64{-310}, Likely},
		"all others differ from ours": {[]float64{86400.2, 86400}, Certain},
	} {
		s := newSeen().here("tcp", "", "").here("wss", "", "").here("quic-v1", "", "").aside(stun(""))
		for _, ahead := range c.ahead {
			s.aside(Record{Operation: Clock, Facts: Facts{Offset: &ahead}}, "")
		}
		d := Diagnose(s.fine().Report)
		switch i := slices.IndexFunc(d.Causes, func(f Finding) bool { return f.Cause == ClockSkewed }); {
		case i < 0 && c.want == "":
		case i < 0 || d.Causes[i].Confidence != c.want:
			t.Errorf("%s: want %q\n%s", name, c.want, marshal(d.Causes))
		}
	}
}
