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
