package netcheck

import (
	"net/netip"
	"slices"
)

// Whether anything gets out, over which IP version, and to which ports.

func noNetwork(l *look, _ []obstacle) *obstacle {
	if len(l.r.Local.Addrs) > 0 && len(l.r.Local.Routes) > 0 || l.anyWay(func(w *way) bool { return w.reached() != "" }) {
		return nil // a proxy in the same network needs no route
	}
	return shown(NoNetwork, Certain, l.ways, nil, "This machine has %d network addresses and %d default routes: it is not on any network.",
		len(l.r.Local.Addrs), len(l.r.Local.Routes))
}

// translated looks for a machine that has no IPv4 and is given IPv6 addresses that
// stand for it (RFC 6147).
func translated(l *look, _ []obstacle) *obstacle {
	if slices.Contains(l.r.Local.Routes, "ip4") || !l.hasIPv6() {
		return nil
	}
	var made []Record
	for _, r := range succeeded(l.all(Resolve)) {
		if l.isOwn(r) && slices.ContainsFunc(r.Facts.Answers, isNAT64) {
			made = append(made, r)
		}
	}
	if len(made) == 0 {
		return nil
	}
	four := family6(direct(l.ways), false)
	four = slices.DeleteFunc(four, (*way).stands)
	return shown(IPv4ByTranslation, Certain, four, idsOf(made), "This machine has IPv6 only. The resolver gives it IPv6 addresses that stand for IPv4 ones (NAT64).")
}

// isNAT64 tells of the well-known prefix (RFC 6052, section 2.1).
func isNAT64(answer string) bool {
	a, err := netip.ParseAddr(answer)
	return err == nil && netip.MustParsePrefix("64:ff9b::/96").Contains(a)
}

// gotOut tells whether anything did, without a proxy.
func gotOut(l *look) bool {
	return len(direct(l.through(Connect)))+len(direct(l.through(QUIC)))+len(succeeded(l.all(Datagram))) > 0
}

// pageCame tells whether the page whose content is known came, by port 80 and
// without a proxy. What a portal says in its place is no way out.
func (l *look) pageCame() bool {
	return slices.ContainsFunc(succeeded(l.all(Portal)), func(r Record) bool { return r.Facts.FirstByte == "" })
}

func allBlocked(l *look, found []obstacle) *obstacle {
	if gotOut(l) || l.pageCame() || l.reachesIPv6() || len(found) > 0 || len(l.ways) == 0 || len(l.through(ProxyTunnel)) > 0 {
		return nil
	}
	lost := slices.Concat(l.blocked(Connect), l.blocked(QUIC))
	if len(over(lost, "tcp", "ws", "wss", "https", "http")) == 0 {
		return nil
	}
	return shown(AllBlocked, Certain, l.ways, idsOf(failing(l.all(Datagram))),
		"Nothing gets out: no TCP connection to any port, and no UDP packet is answered, while the same addresses answer elsewhere.")
}

// reachesIPv6 tells whether anything beside the addresses of the list was reached by
// IPv6: a server that is known to be there, or a machine that answers datagrams.
func (l *look) reachesIPv6() bool {
	return slices.ContainsFunc(l.ours, func(r Record) bool {
		return r.Operation == Connect && r.Proto == "ip6" && r.Failure == nil || r.Operation == Datagram && isIPv6(r.Addr) && gotThere(r)
	})
}

func ipv6Broken(l *look, _ []obstacle) *obstacle {
	if !l.hasIPv6() {
		return nil
	}
	six := family6(direct(l.ways), true)
	answered := slices.ContainsFunc(six, func(w *way) bool { return w.passed(Connect) || w.passed(QUIC) })
	elsewhere := slices.ContainsFunc(six, func(w *way) bool { return l.elsewhere(w) == works })
	if answered || l.reachesIPv6() || !elsewhere {
		return nil
	}
	return shown(IPv6Broken, Certain, six, nil, "This machine has IPv6 addresses and a route, and nothing that it sends over IPv6 is answered.")
}

func udpBlocked(l *look, found []obstacle) *obstacle {
	tried := l.datagrams()
	if len(tried) < 2 || slices.ContainsFunc(tried, gotThere) || l.anyWay(func(w *way) bool { return w.passed(QUIC) }) || !l.udpElsewhere() {
		return nil
	}
	lost := family6(direct(l.blocked(QUIC)), l.onlyIPv6())
	if !slices.ContainsFunc(l.all(Datagram), gotThere) {
		lost = append(lost, l.besideIPv4(QUIC, found)...)
	}
	return shown(UDPBlocked, Certain, lost, idsOf(tried), "No UDP gets out: %s.", howLost(tried))
}

// besideIPv4 are the ways of IPv6 that are blocked at op on a machine that has both:
// what stops IPv4 there stops them as well, unless IPv6 as a whole leads nowhere.
func (l *look) besideIPv4(op Operation, found []obstacle) []*way {
	if !l.hasIPv6() || l.onlyIPv6() {
		return nil
	}
	return family6(unexplained(direct(l.blocked(op)), found), true)
}

// datagrams are those over the IP version that matters here.
func (l *look) datagrams() []Record {
	return slices.DeleteFunc(l.all(Datagram), func(r Record) bool { return isIPv6(r.Addr) != l.onlyIPv6() })
}

// udpElsewhere tells whether UDP carries on another host.
func (l *look) udpElsewhere() bool {
	if len(succeeded(l.controls(Datagram))) > 0 {
		return true
	}
	for _, ways := range l.ctrl {
		if slices.ContainsFunc(ways, func(w *way) bool { return w.passed(QUIC) }) {
			return true
		}
	}
	return false
}

// howLost says how packets were stopped: told, or in silence.
func howLost(records []Record) string {
	for _, r := range records {
		if r.ICMP != "" {
			return "an ICMP error, " + r.ICMP + ", comes back"
		}
	}
	for _, r := range records {
		if failedWith(&r, Refused, Reset) {
			return "they are refused at once"
		}
	}
	return "they vanish, and nobody is told"
}

// portUnreachable is the ICMP error of a machine at whose port nobody listens. The
// probe has another word for one that a firewall sends in its place.
const portUnreachable = "port-unreachable"

// gotThere tells whether a datagram was answered, if only by the machine itself: that
// nobody listens at this port.
func gotThere(r Record) bool { return r.Failure == nil || r.ICMP == portUnreachable }

func udpPortBlocked(l *look, found []obstacle) *obstacle {
	if has(found, FlowsLimited) {
		return nil // any port may have been one flow too many
	}
	passes, lost := map[string]bool{}, map[string]bool{}
	ok := map[string]bool{}
	for _, r := range l.controls(Datagram) {
		ok[r.Addr] = ok[r.Addr] || gotThere(r)
	}
	var because []int
	for _, r := range l.datagrams() {
		switch {
		case gotThere(r):
			passes[port(r.Addr)] = true
		case ok[r.Addr]:
			lost[port(r.Addr)] = true
			because = append(because, r.ID)
		}
	}
	if len(passes) == 0 || len(lost) == 0 || slices.ContainsFunc(keys(passes), func(p string) bool { return lost[p] }) {
		return nil // what passes to one address and not to another is no matter of ports
	}
	ways := slices.DeleteFunc(l.blocked(QUIC), func(w *way) bool { return !lost[port(w.hostPort())] })
	return shown(UDPPortBlocked, Certain, ways, because, "UDP gets out, but not to port %s.", listed(keys(lost)))
}

func tcpPortsBlocked(l *look, found []obstacle) *obstacle {
	lost := family6(unexplained(direct(l.blocked(Connect)), found), l.onlyIPv6())
	var passes, ports []string
	for _, w := range direct(l.through(Connect)) {
		passes = append(passes, port(w.hostPort()))
	}
	if l.pageCame() {
		passes = append(passes, "80")
	}
	lost = slices.DeleteFunc(lost, func(w *way) bool { return slices.Contains(passes, port(w.hostPort())) })
	for _, w := range lost {
		ports = append(ports, port(w.hostPort()))
	}
	for _, w := range l.besideIPv4(Connect, found) {
		if slices.Contains(ports, port(w.hostPort())) {
			lost = append(lost, w)
		}
	}
	if len(lost) == 0 || len(passes) == 0 {
		return nil
	}
	var steps []Record
	for _, w := range lost {
		steps = append(steps, *w.failed())
	}
	return shown(TCPPortsBlocked, Certain, lost, nil, "TCP gets out to port %s; connections to port %s are stopped: %s.", listed(passes), listed(ports), howLost(steps))
}

// onlyIPv6 tells of a machine whose IP version that matters is 6: where there is IPv4,
// what becomes of IPv6 is a question of its own.
func (l *look) onlyIPv6() bool { return l.hasIPv6() && !slices.Contains(l.r.Local.Routes, "ip4") }

func (l *look) hasIPv6() bool { return slices.Contains(l.r.Local.Routes, "ip6") }
