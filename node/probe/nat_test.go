package probe_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/pion/stun/v3"

	"github.com/worldcompute/wce2e/node/netcheck"
	"github.com/worldcompute/wce2e/node/probe"
)

// stunAt answers at an address of loopback, and says of everybody's what say makes of
// it; of nothing, it says nothing.
func stunAt(t *testing.T, ip string, say func(netip.AddrPort) netip.AddrPort) string {
	t.Helper()
	c, err := net.ListenPacket("udp4", ip+":0")
	if err != nil {
		t.Skipf("SKIPPED: loopback has one address only: %v", err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		in := make([]byte, 2048)
		for {
			n, from, err := c.ReadFrom(in)
			if err != nil {
				return
			}
			q := &stun.Message{Raw: in[:n]}
			if q.Decode() != nil {
				continue // neighbours that try each other
			}
			at := say(from.(*net.UDPAddr).AddrPort())
			if !at.IsValid() {
				continue
			}
			if a, err := stun.Build(q, stun.BindingSuccess, &stun.XORMappedAddress{IP: at.Addr().AsSlice(), Port: int(at.Port())}); err == nil {
				_, _ = c.WriteTo(a.Raw, from)
			}
		}
	}()
	return c.LocalAddr().String()
}

func asSeen(at netip.AddrPort) netip.AddrPort { return at }

func nextPort(at netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(at.Addr(), at.Port()^1) }

// elsewhere is an address of loopback at which nobody is.
func elsewhere(at netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.3"), at.Port())
}

// lookedAt is what a probe sees of the NAT by two STUN servers.
func lookedAt(t *testing.T, servers ...string) (mappings, hairpins []netcheck.Record) {
	t.Helper()
	cfg := alone("/ip4/127.0.0.1/tcp/1")
	cfg.STUN = servers
	report := run(t, cfg)
	return of(report, "", netcheck.Mapping, "stun"), of(report, "", netcheck.Hairpin, "udp")
}

func TestTwoServersAreAskedWhereTheySeeOneSocket(t *testing.T) {
	t.Parallel()
	mappings, hairpins := lookedAt(t, stunAt(t, "127.0.0.1", asSeen), stunAt(t, "127.0.0.2", asSeen))
	if len(mappings) != 4 || mappings[0].Transaction != mappings[1].Transaction || mappings[2].Transaction != mappings[3].Transaction || mappings[2].Transaction == mappings[0].Transaction {
		t.Fatalf("want two servers' records of one socket, and of another: %+v", mappings)
	}
	for _, r := range mappings {
		if r.Failure != nil || r.Sent == 0 || r.Received == 0 || r.Facts.Observed == "" {
			t.Errorf("%+v", r)
		}
	}
	if mappings[0].Facts.Observed != mappings[1].Facts.Observed || mappings[0].Addr == mappings[1].Addr {
		t.Errorf("one socket, two servers: %+v", mappings[:2])
	}
	if len(hairpins) != 1 || hairpins[0].Failure != nil || hairpins[0].Addr != mappings[2].Facts.Observed || hairpins[0].Received == 0 {
		t.Fatalf("the two sockets do not reach each other: %+v", hairpins)
	}
	if from := hairpins[0].Facts.Observed; from != mappings[0].Facts.Observed && from != mappings[2].Facts.Observed {
		t.Errorf("what arrived came from %s, which is none of them", from)
	}
}

func TestAnotherPortForEverybodyIsSeenAndNoNeighbourTried(t *testing.T) {
	t.Parallel()
	mappings, hairpins := lookedAt(t, stunAt(t, "127.0.0.1", asSeen), stunAt(t, "127.0.0.2", nextPort))
	if len(mappings) != 2 || mappings[0].Facts.Observed == mappings[1].Facts.Observed || mappings[0].Transaction != mappings[1].Transaction {
		t.Errorf("%+v", mappings)
	}
	if len(hairpins) != 0 {
		t.Errorf("there is no outside to try, and yet: %+v", hairpins)
	}
}

func TestANeighbourThatIsNotReachedTimesOut(t *testing.T) {
	t.Parallel()
	_, hairpins := lookedAt(t, stunAt(t, "127.0.0.1", elsewhere), stunAt(t, "127.0.0.2", elsewhere))
	if len(hairpins) != 1 || hairpins[0].Failure == nil || *hairpins[0].Failure != netcheck.Timeout || hairpins[0].Sent == 0 {
		t.Errorf("%+v", hairpins)
	}
}

func TestOneServerAloneTellsNothingOfANAT(t *testing.T) {
	t.Parallel()
	one := stunAt(t, "127.0.0.1", asSeen)
	if mappings, hairpins := lookedAt(t, one, one, "127.0.0.1:1"); len(mappings)+len(hairpins) != 0 {
		t.Errorf("%+v %+v", mappings, hairpins)
	}
}

func TestWhoIsSeenAtAnAddressOfItsOwnHasNoNAT(t *testing.T) {
	t.Parallel()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	own := netip.Addr{}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			own = p.Addr()
		}
	}
	if !own.IsValid() {
		t.Skip("SKIPPED: this machine has no IPv4 address but loopback's")
	}
	asOwn := func(at netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(own, at.Port()) }
	mappings, hairpins := lookedAt(t, stunAt(t, "127.0.0.1", asOwn), stunAt(t, "127.0.0.2", asOwn))
	if len(mappings) != 2 || len(hairpins) != 0 {
		t.Errorf("%+v %+v", mappings, hairpins)
	}
}

func TestThePublicSTUNServersAreAtTwoNames(t *testing.T) {
	if len(probe.StunServers) < 2 {
		t.Fatal("one server alone tells nothing of a NAT")
	}
	names := map[string]bool{}
	for _, s := range probe.StunServers {
		host, port, err := net.SplitHostPort(s)
		if err != nil || port != "3478" || names[host] {
			t.Errorf("%s: %v", s, err)
		}
		names[host] = true
	}
}

func TestWhatASTUNServerDoesNotAnswerIsLost(t *testing.T) {
	t.Parallel()
	asked := 0
	forgetful := func(at netip.AddrPort) netip.AddrPort {
		if asked++; asked%10 == 0 {
			return netip.AddrPort{}
		}
		return at
	}
	cfg := alone("/ip4/127.0.0.1/tcp/1")
	cfg.STUN = []string{stunAt(t, "127.0.0.1", asSeen), stunAt(t, "127.0.0.2", forgetful)}
	lost := of(run(t, cfg), "", netcheck.Loss, "stun")
	if len(lost) != 2 {
		t.Fatalf("%d servers were asked: %+v", len(lost), lost)
	}
	for _, r := range lost {
		want := 50
		if r.Addr == cfg.STUN[1] {
			want = 45
		}
		if r.Failure != nil || r.Facts.Tried != 50 || r.Facts.Stood != want {
			t.Errorf("%s answered %d of %d, not %d: %s", r.Addr, r.Facts.Stood, r.Facts.Tried, want, r.Error)
		}
	}
}
