package check

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/worldcompute/wce2e/node/netcheck"
	"github.com/worldcompute/wce2e/node/wire"
)

// arrivalsFrom is what the relays' own events say of connections that a host's look
// at its network, or its node meanwhile, may have made: they came while it looked,
// from where it leaves for the internet. Times are the report's, by way of the
// suite's clock.
func (h *history) arrivalsFrom(x *host, own *network) []netcheck.Arrival {
	from := h.egressOf(x)
	for _, r := range own.report.Records {
		from.add(r.Facts.Observed, own.seq)
		if seen, err := netip.ParseAddrPort(r.Facts.Observed); err == nil { // by STUN
			from.addIP(seen.Addr().Unmap(), own.seq)
		}
	}
	looked := own.report.Ended.Sub(own.report.Began).Seconds()
	var list []netcheck.Arrival
	for _, relay := range h.hosts {
		if relay.Role != "relay" {
			continue
		}
		for _, e := range relay.of(wire.ArrivalFailed) {
			remote, ok := parseAddr(e.Remote)
			if _, ours := from[remote.ip]; !ok || !ours {
				continue
			}
			a := relay.arrival(e)
			began := relay.suiteTime(e.Time).Add(-milliseconds(e.MS))
			a.T0 = began.Sub(x.suiteTime(own.report.Began)).Seconds()
			a.Within = (relay.clockError() + x.clockError()).Seconds()
			if a.T0 >= -a.Within && a.T0 <= looked+a.Within {
				list = append(list, a)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b netcheck.Arrival) int { return cmp.Compare(a.T0, b.T0) })
	return list
}

// arrival is what a relay says of one connection, but for when it came.
func (x *host) arrival(e said) netcheck.Arrival {
	local, _ := parseAddr(e.Local)
	remote, _ := parseAddr(e.Remote)
	return netcheck.Arrival{
		Host: x.Name, Peer: x.peer(), Local: local.hostPort(), Remote: remote.hostPort(),
		T: milliseconds(e.MS).Seconds(), Received: int64(e.Received), Sent: int64(e.Sent),
		Failure: netcheck.Failure(e.Failure), Error: e.Err,
	}
}
