package netcheck

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// obstacle is a finding, and the ways that it explains.
type obstacle struct {
	Finding
	ways []*way
}

// rules are asked in this order. A rule that returns nil has seen nothing; one
// that returns the last word leaves the rest unasked, since nothing else can be
// told behind it.
var rules = []struct {
	find     func(*look, []obstacle) *obstacle
	lastWord bool
}{
	{find: noNetwork, lastWord: true},
	{find: portalClosed, lastWord: true},
	{find: translated},
	{find: proxyInTheWay},
	{find: proxyPorts},
	{find: allBlocked, lastWord: true},
	{find: clockSkewed},
	{find: namesBlocked},
	{find: textNamesBlocked},
	{find: namesLie},
	{find: ipv6Broken},
	{find: udpBlocked},
	{find: udpPortBlocked},
	{find: tcpPortsBlocked},
	{find: blackHole},
	{find: quicBlocked},
	{find: largeHelloKilled},
	{find: bytesCapped},
	{find: flowsLimited},
	{find: tlsIntercepted},
	{find: serversRefused},
	{find: synAnswered},
	{find: upgradeStripped},
	{find: nameKilled},
	{find: multistreamKilled},
	{find: alpnKilled},
	{find: handshakeKilled},
	{find: udpTimeout},
	{find: tcpTimeout},
	{find: slow},
	{find: lossy},
	{find: throttled},
}

// shown makes an obstacle. The more independent records show it, the surer.
func shown(c Cause, how Confidence, ways []*way, because []int, sentence string, args ...any) *obstacle {
	because = slices.Concat(because, idsOfWays(ways))
	slices.Sort(because)
	return &obstacle{Finding{c, how, slices.Compact(because), fmt.Sprintf(sentence, args...)}, ways}
}

// open are the ways that no obstacle found so far explains.
func unexplained(ways []*way, found []obstacle) []*way {
	return slices.DeleteFunc(slices.Clone(ways), func(w *way) bool {
		return slices.ContainsFunc(found, func(o obstacle) bool { return slices.Contains(o.ways, w) })
	})
}

func has(found []obstacle, c Cause) bool {
	return slices.ContainsFunc(found, func(o obstacle) bool { return o.Cause == c })
}

func direct(ways []*way) []*way {
	return slices.DeleteFunc(slices.Clone(ways), func(w *way) bool { return w.route != "" })
}

func byProxy(ways []*way) []*way {
	return slices.DeleteFunc(slices.Clone(ways), func(w *way) bool { return w.route == "" })
}

func over(ways []*way, transports ...string) []*way {
	return slices.DeleteFunc(slices.Clone(ways), func(w *way) bool { return !slices.Contains(transports, w.transport) })
}

func family6(ways []*way, six bool) []*way {
	return slices.DeleteFunc(slices.Clone(ways), func(w *way) bool { return isIPv6(w.hostPort()) != six })
}

// hostPort is the IP address and port that a way's first step went to.
func (w *way) hostPort() string {
	for _, rec := range w.best() {
		if rec.Operation == Connect || rec.Operation == QUIC {
			return rec.Addr
		}
	}
	return ""
}

func noNetwork(l *look, _ []obstacle) *obstacle {
	if len(l.r.Local.Addrs) > 0 && len(l.r.Local.Routes) > 0 {
		return nil
	}
	return shown(NoNetwork, Certain, l.ways, nil, "This machine has %d network addresses and %d default routes: it is not on any network.",
		len(l.r.Local.Addrs), len(l.r.Local.Routes))
}

func portalClosed(l *look, _ []obstacle) *obstacle {
	pages := slices.DeleteFunc(l.all(Portal), func(r Record) bool { return r.Facts.FirstByte == "" })
	if len(pages) == 0 || len(l.through(Reserve)) > 0 {
		return nil
	}
	where := pages[0].Facts.Location
	if where == "" {
		where = "a page of its own"
	}
	return shown(PortalClosed, Certain, l.ways, idsOf(pages), "A captive portal answers in place of the internet: a page whose content is known led to %s.", where)
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

// connects tells of direct TCP connections and of UDP what got out at all.
func gotOut(l *look) bool {
	for _, w := range direct(l.ways) {
		if w.passed(Connect) || w.passed(QUIC) {
			return true
		}
	}
	return len(succeeded(l.all(Datagram))) > 0
}

func proxyInTheWay(l *look, _ []obstacle) *obstacle {
	asked := slices.DeleteFunc(slices.Clone(l.ours), func(r Record) bool { return r.Operation != ProxyTunnel })
	if len(asked) == 0 || gotOut(l) {
		return nil
	}
	kept := slices.DeleteFunc(direct(l.ways), (*way).stands)
	for _, rec := range asked {
		if failedWith(&rec, ProxyAuthRequired) {
			got := "and we have none"
			if len(succeeded(asked)) > 0 {
				got = "and takes ours"
			}
			return shown(ProxyAuth, Certain, kept, idsOf(asked), "Nothing gets out but through the proxy %s, which asks for a user and a password, %s.", rec.Addr, got)
		}
	}
	if len(succeeded(asked)) == 0 && !slices.ContainsFunc(asked, func(r Record) bool { return failedWith(&r, ProxyForbidden) }) {
		return nil // a proxy that is named and does not work is not what keeps others from getting out
	}
	return shown(ProxyRequired, Certain, kept, idsOf(asked), "Nothing gets out but through the proxy %s.", asked[0].Addr)
}

func proxyPorts(l *look, _ []obstacle) *obstacle {
	var refused []*way
	var ports []string
	for _, w := range byProxy(l.ways) {
		if failedWith(w.step(ProxyTunnel), ProxyForbidden) {
			refused = append(refused, w)
			ports = append(ports, portOf(w.addr))
		}
	}
	var passes []string
	for _, w := range byProxy(l.ways) {
		if w.passed(ProxyTunnel) {
			passes = append(passes, portOf(w.addr))
		}
	}
	if len(refused) == 0 || len(passes) == 0 {
		return nil
	}
	return shown(ProxyPorts, Certain, refused, nil, "The proxy connects to port %s and refuses %s.", listed(passes), listed(ports))
}

func allBlocked(l *look, found []obstacle) *obstacle {
	if gotOut(l) || len(found) > 0 || len(l.ways) == 0 || len(l.through(ProxyTunnel)) > 0 {
		return nil
	}
	lost := slices.Concat(l.blocked(Connect), l.blocked(QUIC))
	if len(over(lost, "tcp", "ws", "wss", "https", "http")) == 0 {
		return nil
	}
	return shown(AllBlocked, Certain, l.ways, idsOf(failing(l.all(Datagram))),
		"Nothing gets out: no TCP connection to any port, and no UDP packet is answered, while the same addresses answer elsewhere.")
}

// skew is by how much a clock may be wrong before certificates notice.
const skew = 300 // seconds

func clockSkewed(l *look, _ []obstacle) *obstacle {
	var wrong []Record
	for _, rec := range l.all(Clock) {
		if o := rec.Facts.Offset; o != nil && (*o > skew || *o < -skew) {
			wrong = append(wrong, rec)
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	bad := slices.DeleteFunc(slices.Clone(l.ways), func(w *way) bool { return !failedWith(w.failed(), TLSCertificate) })
	return shown(ClockSkewed, Certain, bad, idsOf(wrong), "This machine's clock is %.0f seconds ahead of others.", *wrong[0].Facts.Offset)
}

// asked is what several resolvers said to one question.
type asked struct {
	question  string
	own       []Record // of the network's resolver
	encrypted []Record // of DoH and DoT
	elsewhere []Record // of whomever other hosts asked
}

func (l *look) questions() (list []*asked) {
	of := map[string]*asked{}
	get := func(q string) *asked {
		if of[q] == nil {
			of[q] = &asked{question: q}
			list = append(list, of[q])
		}
		return of[q]
	}
	for _, rec := range l.all(Resolve) {
		q := get(rec.Facts.Question)
		switch {
		case rec.Proto == "doh" || rec.Proto == "dot":
			q.encrypted = append(q.encrypted, rec)
		case l.isOwn(rec):
			q.own = append(q.own, rec)
		}
	}
	for _, rec := range l.controls(Resolve) {
		if q := of[rec.Facts.Question]; q != nil {
			q.elsewhere = append(q.elsewhere, rec)
		}
	}
	return list
}

// isOwn tells whether it was a resolver of the network that was asked. What others
// answer in the clear may be the network's word as well as theirs.
func (l *look) isOwn(rec Record) bool {
	host, _, err := net.SplitHostPort(rec.Addr)
	if err != nil {
		host = rec.Addr
	}
	return rec.Proto == "system" || slices.Contains(l.r.Local.Resolvers, host)
}

// known tells whether the name has an answer, by others than the network's own
// resolver.
func (a *asked) known() bool {
	return len(succeeded(a.encrypted)) > 0 || len(succeeded(a.elsewhere)) > 0
}

func (a *asked) isText() bool { return strings.HasPrefix(a.question, "TXT ") }

// lost tells whether the network's resolver owes an answer that exists.
func (a *asked) lost() bool { return len(a.own) > 0 && len(succeeded(a.own)) == 0 && a.known() }

func namesBlocked(l *look, _ []obstacle) *obstacle {
	var because []int
	answered, denied := false, true
	for _, q := range l.questions() {
		answered = answered || len(succeeded(q.own)) > 0
		if q.lost() {
			because = append(because, idsOf(q.own)...)
			denied = denied && !slices.ContainsFunc(q.own, func(r Record) bool { return !failedWith(&r, NXDomain, DNSNoAnswer) })
		}
	}
	if answered || len(because) == 0 {
		return nil
	}
	if denied {
		return shown(DNSInternalOnly, Certain, nil, because, "The network's resolver knows no public names: it denies those that others know.")
	}
	return shown(DNSBlocked, Certain, nil, because, "The network's resolver answers nothing, while others know the names.")
}

func textNamesBlocked(l *look, found []obstacle) *obstacle {
	if has(found, DNSBlocked) || has(found, DNSInternalOnly) {
		return nil
	}
	var because []int
	for _, q := range l.questions() {
		if q.isText() && q.lost() {
			because = append(because, idsOf(q.own)...)
		}
	}
	if len(because) == 0 {
		return nil
	}
	return shown(DNSTXTBlocked, Certain, nil, because, "The network's resolver denies text records that exist, by which /dnsaddr names lead to relays.")
}

func namesLie(l *look, _ []obstacle) *obstacle {
	var because []int
	said := map[string]bool{}
	for _, q := range l.questions() {
		truth := answers(slices.Concat(succeeded(q.encrypted), succeeded(q.elsewhere)))
		for _, rec := range succeeded(q.own) {
			if len(truth) > 0 && !overlap(rec.Facts.Answers, truth) {
				because = append(because, rec.ID)
				for _, a := range rec.Facts.Answers {
					said[a] = true
				}
			}
		}
		// A name that exists nowhere else, and here does.
		if len(truth) == 0 && len(failing(slices.Concat(q.encrypted, q.elsewhere))) > 0 && deniedByAll(q) {
			because = append(because, idsOf(succeeded(q.own))...)
		}
	}
	if len(because) == 0 {
		return nil
	}
	var list []string
	for a := range said {
		list = append(list, a)
	}
	return shown(DNSLies, Certain, nil, because, "The network's resolver answers %s where others say something else.", listed(list))
}

func deniedByAll(q *asked) bool {
	others := slices.Concat(q.encrypted, q.elsewhere)
	return len(succeeded(others)) == 0 && slices.ContainsFunc(others, func(r Record) bool { return failedWith(&r, NXDomain) })
}

func answers(records []Record) (list []string) {
	for _, r := range records {
		list = append(list, r.Facts.Answers...)
	}
	return list
}

func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

func ipv6Broken(l *look, _ []obstacle) *obstacle {
	if !l.hasIPv6() {
		return nil
	}
	six := family6(direct(l.ways), true)
	answered := slices.ContainsFunc(six, func(w *way) bool { return w.passed(Connect) || w.passed(QUIC) })
	elsewhere := slices.ContainsFunc(six, func(w *way) bool { return l.elsewhere(w) == works })
	if answered || !elsewhere {
		return nil
	}
	return shown(IPv6Broken, Certain, six, nil, "This machine has IPv6 addresses and a route, and nothing that it sends over IPv6 is answered.")
}

func udpBlocked(l *look, _ []obstacle) *obstacle {
	tried := l.all(Datagram)
	if len(tried) < 2 || len(succeeded(tried)) > 0 || l.anyWay(func(w *way) bool { return w.passed(QUIC) }) || !l.udpElsewhere() {
		return nil
	}
	lost := slices.DeleteFunc(direct(l.blocked(QUIC)), func(w *way) bool { return isIPv6(w.hostPort()) })
	return shown(UDPBlocked, Certain, lost, idsOf(tried), "No UDP gets out: %s.", howLost(tried))
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

func udpPortBlocked(l *look, _ []obstacle) *obstacle {
	passes, lost := map[string]bool{}, map[string]bool{}
	ok := map[string]bool{}
	for _, r := range succeeded(l.controls(Datagram)) {
		ok[r.Addr] = true
	}
	var because []int
	for _, r := range l.all(Datagram) {
		switch {
		case r.Failure == nil:
			passes[port(r.Addr)] = true
		case ok[r.Addr]:
			lost[port(r.Addr)] = true
			because = append(because, r.ID)
		}
	}
	for p := range passes {
		delete(lost, p)
	}
	if len(passes) == 0 || len(lost) == 0 {
		return nil
	}
	ways := slices.DeleteFunc(l.blocked(QUIC), func(w *way) bool { return !lost[port(w.hostPort())] })
	return shown(UDPPortBlocked, Certain, ways, because, "UDP gets out, but not to port %s.", listed(keys(lost)))
}

func tcpPortsBlocked(l *look, found []obstacle) *obstacle {
	lost := family6(unexplained(direct(l.blocked(Connect)), found), false)
	var passes, ports []string
	for _, w := range direct(l.through(Connect)) {
		passes = append(passes, port(w.hostPort()))
	}
	lost = slices.DeleteFunc(lost, func(w *way) bool { return slices.Contains(passes, port(w.hostPort())) })
	for _, w := range lost {
		ports = append(ports, port(w.hostPort()))
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

// synAnswered comes after what takes connections for its own ends.
func synAnswered(l *look, found []obstacle) *obstacle {
	if has(found, TLSIntercepted) || has(found, TLSUntrusted) {
		return nil
	}
	there := slices.DeleteFunc(succeeded(l.all(Connect)), func(r Record) bool { return r.Proto != "dead" || l.takenFor(port(r.Addr)) })
	if len(there) == 0 {
		return nil
	}
	return shown(SYNAnswered, Certain, nil, idsOf(there), "Connections to an address where nobody is succeed: something answers every SYN itself.")
}

// takenFor tells whether connections to a port end at somebody who speaks for its
// servers, and does not speak as they do elsewhere: an inspector, say.
func (l *look) takenFor(p string) bool {
	return slices.ContainsFunc(slices.Concat(l.blocked(TLS), l.blocked(Upgrade)), func(w *way) bool { return port(w.hostPort()) == p })
}

// blackHole looks for steps that fail in packets as large as the system makes them
// and succeed in smaller ones.
func blackHole(l *look, _ []obstacle) *obstacle {
	var because []int
	var ways []*way
	for _, small := range succeeded(l.all(Size)) {
		for _, large := range failing(l.all(Size)) {
			if silent(large) && large.ICMP == "" && small.Addr == large.Addr && small.Proto == large.Proto && smaller(small, large) {
				because = append(because, small.ID, large.ID)
			}
		}
		for _, w := range l.ways {
			rec := w.failed()
			if rec != nil && silent(*rec) && w.addr == small.Lead && small.Facts.Segment > 0 && small.Proto == string(rec.Operation) {
				because, ways = append(because, small.ID), append(ways, w)
			}
		}
	}
	for _, small := range succeeded(l.all(Datagram)) {
		for _, large := range failing(l.all(Size)) {
			if silent(large) && large.ICMP == "" && small.Proto == large.Proto && small.Addr == large.Addr && smaller(small, large) {
				because = append(because, small.ID, large.ID)
			}
		}
	}
	if len(because) == 0 {
		return nil
	}
	for _, w := range l.ways {
		if rec := w.failed(); rec != nil && silent(*rec) && rec.Operation != Connect && !slices.Contains(ways, w) {
			ways = append(ways, w)
		}
	}
	return shown(MTUBlackHole, Certain, ways, because, "Full-size packets vanish on the way and no ICMP error says so, while small ones pass.")
}

// smaller tells whether two sizes differ in their packets only. Of a datagram, its
// bytes are the packet.
func smaller(a, b Record) bool {
	if a.Proto == "quic-version" {
		return a.Facts.Bytes < b.Facts.Bytes
	}
	return a.Facts.Segment > 0 && b.Facts.Segment == 0 && a.Facts.Bytes >= b.Facts.Bytes*9/10
}

// silent tells of a step that nothing came back to.
func silent(r Record) bool {
	return failedWith(&r, Timeout, SecurityTimeout, QUICIdleTimeout, QUICHandshakeTimeout)
}

func quicBlocked(l *look, found []obstacle) *obstacle {
	if has(found, UDPBlocked) || has(found, MTUBlackHole) {
		return nil
	}
	alive := map[string]bool{}
	for _, r := range succeeded(l.all(Datagram)) {
		alive[r.Addr] = true
	}
	lost := slices.DeleteFunc(unexplained(direct(l.blocked(QUIC)), found), func(w *way) bool { return !alive[w.hostPort()] })
	if len(lost) == 0 || slices.ContainsFunc(l.ways, func(w *way) bool { return w.passed(QUIC) }) {
		return nil
	}
	return shown(QUICBlocked, Certain, lost, nil, "UDP gets out, and other packets to the same ports are answered; packets that begin a QUIC connection are not.")
}

// largeHelloKilled looks for large hellos that fail in packets of any size, where
// the daemon's own, smaller one passed.
func largeHelloKilled(l *look, found []obstacle) *obstacle {
	if has(found, MTUBlackHole) {
		return nil
	}
	passed := map[string]bool{} // any hello, by the address
	var whole, cut []Record
	for _, r := range l.ours {
		switch {
		case r.Operation == TLS && r.Failure == nil, r.Operation == Size && r.Proto == "tls" && r.Failure == nil:
			passed[r.Addr] = passed[r.Addr] || r.Operation == TLS
		case r.Operation == Size && r.Proto == "tls" && r.Facts.Segment == 0:
			whole = append(whole, r)
		case r.Operation == Size && r.Proto == "tls":
			cut = append(cut, r)
		}
	}
	for _, a := range whole {
		for _, b := range cut {
			if a.Addr == b.Addr && passed[a.Addr] {
				return shown(LargeHelloKilled, Certain, nil, []int{a.ID, b.ID},
					"TLS hellos of %d bytes are stopped, in packets of any size, while small ones pass.", max(a.Facts.Bytes, b.Facts.Bytes))
			}
		}
	}
	return nil
}

// bytesCapped looks for connections that carry a little and then freeze.
func bytesCapped(l *look, found []obstacle) *obstacle {
	if has(found, MTUBlackHole) {
		return nil
	}
	for _, long := range failing(l.all(Size)) {
		for _, short := range succeeded(l.all(Size)) {
			if long.Proto == "echo" && short.Proto == "echo" && short.Lead == long.Lead && short.Transport == long.Transport && short.Facts.Bytes < long.Facts.Bytes {
				return shown(BytesCapped, Certain, nil, []int{short.ID, long.ID},
					"Connections freeze after some bytes: %d pass both ways, %d do not; %d bytes came back.", short.Facts.Bytes, long.Facts.Bytes, long.Received)
			}
		}
	}
	return nil
}

func flowsLimited(l *look, _ []obstacle) *obstacle {
	many := failing(l.all(Flows))
	if len(many) == 0 || many[0].Facts.Stood == 0 {
		return nil
	}
	return shown(FlowsLimited, Certain, nil, idsOf(many), "Of %d connections at once %d stood: the network limits how many one machine may have.",
		many[0].Facts.Tried, many[0].Facts.Stood)
}

func tlsIntercepted(l *look, _ []obstacle) *obstacle {
	var ways []*way
	cause, issuer, names := TLSIntercepted, "", "trusted here"
	for _, w := range direct(l.ways) {
		if rec := w.step(TLS); rec != nil && l.foreign(w, *rec) {
			ways = append(ways, w)
			issuer = rec.Facts.Chain[0].Issuer
			if rec.Facts.Trusted != nil && !*rec.Facts.Trusted {
				cause, names = TLSUntrusted, "not trusted here"
			}
		}
	}
	if len(ways) == 0 {
		return nil
	}
	return shown(cause, Certain, ways, nil, "TLS is opened on its way: relays show certificates of %q, which is %s, and others see other certificates there.", issuer, names)
}

// serversRefused looks for TLS that somebody ends with an alert, while connections
// to where nobody is succeed at the same port: an inspector takes them, and does not
// like the relay's certificate.
func serversRefused(l *look, _ []obstacle) *obstacle {
	taken := slices.DeleteFunc(succeeded(l.all(Connect)), func(r Record) bool { return r.Proto != "dead" })
	lost := slices.DeleteFunc(direct(l.blocked(TLS)), func(w *way) bool {
		return !failedWith(w.failed(), TLSHandshake) || !slices.ContainsFunc(taken, func(r Record) bool { return port(r.Addr) == port(w.hostPort()) })
	})
	if len(lost) == 0 {
		return nil
	}
	return shown(TLSServersRefused, Likely, lost, idsOf(taken), "Somebody in between takes all connections to port %s, and refuses to open TLS to the relays there.", port(lost[0].hostPort()))
}

// foreign tells whether the certificate that w met is somebody else's: the relay
// says so, inside Noise, or others meet another one there.
func (l *look) foreign(w *way, rec Record) bool {
	if len(rec.Facts.Chain) == 0 {
		return false
	}
	if s := rec.Facts.Stated; s != nil {
		return !*s
	}
	differs := false
	for _, o := range l.ctrl[wayKey{w.addr, w.transport, ""}] {
		if other := o.step(TLS); other != nil && len(other.Facts.Chain) > 0 {
			if other.Facts.Chain[0].SHA256 == rec.Facts.Chain[0].SHA256 {
				return false
			}
			differs = true
		}
	}
	return differs
}

func upgradeStripped(l *look, _ []obstacle) *obstacle {
	var lost []*way
	for _, w := range l.ways {
		rec := w.failed()
		if rec != nil && rec.Operation == Upgrade && l.elsewhere(w) != fails && (rec.Facts.Status != 0 || l.elsewhere(w) == works) {
			lost = append(lost, w)
		}
	}
	if len(lost) == 0 || l.anyWay(func(w *way) bool { return w.passed(Upgrade) && w.transport == lost[0].transport }) {
		return nil
	}
	if !slices.ContainsFunc(lost, func(w *way) bool { return w.passed(TLS) || w.transport != "ws" }) {
		return shown(HTTPIntercepted, Likely, lost, nil, "Somebody answers plain HTTP in the relays' place: the answer to an upgrade was %d.", lost[0].failed().Facts.Status)
	}
	return shown(UpgradeStripped, Likely, lost, nil, "HTTP passes, and nothing may become WebSocket: the answer to an upgrade was %d.", lost[0].failed().Facts.Status)
}

func (l *look) anyWay(is func(*way) bool) bool { return slices.ContainsFunc(l.ways, is) }

func nameKilled(l *look, found []obstacle) *obstacle {
	lost := unexplained(l.blocked(TLS), found)
	passes := direct(l.through(TLS))
	if len(lost) == 0 || len(passes) == 0 || slices.ContainsFunc(passes, func(w *way) bool { return port(w.hostPort()) != port(lost[0].hostPort()) }) {
		return nil
	}
	return shown(NameKilled, Likely, lost, nil, "TLS gets through to some names and not to others.")
}

func multistreamKilled(l *look, found []obstacle) *obstacle {
	lost := unexplained(direct(l.blocked(Multistream)), found)
	lost = over(lost, "tcp")
	if len(lost) == 0 {
		return nil
	}
	harmless := succeeded(l.all(Harmless))
	how := Likely
	if len(harmless) > 0 {
		how = Certain
	}
	var steps []Record
	for _, w := range lost {
		steps = append(steps, *w.failed())
	}
	others := ""
	if len(harmless) > 0 {
		others = " Other bytes to the same address pass."
	}
	return shown(MultistreamKilled, how, lost, idsOf(harmless), "Connections that open like libp2p's (/multistream/1.0.0) are killed: %s.%s", howKilled(steps), others)
}

func howKilled(steps []Record) string {
	for _, r := range steps {
		if failedWith(&r, Reset, SecurityReset, EOF, SecurityEOF) {
			return "they are reset at once"
		}
	}
	return "what follows vanishes, and nobody is told"
}

// libp2p's names for its handshakes, which are Security's Proto.
const protoNoise, protoTLS = "/noise", "/tls/1.0.0"

func alpnKilled(l *look, found []obstacle) *obstacle {
	var because []Record
	noise := map[string]bool{}
	for _, r := range l.ours {
		if r.Operation == Security && r.Proto == protoNoise && r.Failure == nil {
			noise[r.Lead] = true
		}
	}
	for _, r := range l.ours {
		if r.Operation == Security && r.Proto == protoTLS && r.Failure != nil && noise[r.Lead] && !silent(r) {
			because = append(because, r)
		}
	}
	if len(because) == 0 || has(found, MTUBlackHole) {
		return nil
	}
	return shown(ALPNKilled, Certain, nil, idsOf(because), "TLS that offers the protocol libp2p is killed: %s. Noise to the same address passes.", howKilled(because))
}

func handshakeKilled(l *look, found []obstacle) *obstacle {
	lost := unexplained(slices.Concat(l.blocked(Security), l.blocked(Muxer), l.blocked(Identify)), found)
	lost = over(direct(lost), "tcp")
	if len(lost) == 0 {
		return nil
	}
	var steps []Record
	for _, w := range lost {
		steps = append(steps, *w.failed())
	}
	return shown(HandshakeKilled, Certain, lost, nil, "Connections open like libp2p's and die during the handshake: %s.", howKilled(steps))
}

func udpTimeout(l *look, _ []obstacle) *obstacle {
	return l.forgotten(UDPTimeout, "UDP", "quic-v1", "webtransport")
}

func tcpTimeout(l *look, _ []obstacle) *obstacle {
	return l.forgotten(TCPTimeout, "TCP", "tcp", "ws", "wss", "http", "https")
}

// forgotten finds connections that did not outlive a silence.
func (l *look) forgotten(c Cause, what string, transports ...string) *obstacle {
	dead := slices.DeleteFunc(failing(l.all(Keepalive)), func(r Record) bool { return !slices.Contains(transports, r.Transport) })
	if len(dead) == 0 {
		return nil
	}
	shortest := slices.MinFunc(dead, func(a, b Record) int { return int(a.Facts.Silence - b.Facts.Silence) })
	return shown(c, Certain, nil, idsOf(dead), "%s flows that are silent for %.0f seconds are dead afterwards.", what, shortest.Facts.Silence)
}

func (l *look) hasIPv6() bool { return slices.Contains(l.r.Local.Routes, "ip6") }

// slowAfter is a round trip that no distance on Earth explains: a satellite's.
const slowAfter = 0.5 // seconds

// slow is told only of what stands: a dead address is not slow. The quickest of
// many connections counts: a lost packet makes some of them late, and so does a
// busy machine.
func slow(l *look, _ []obstacle) *obstacle {
	stood := succeeded(l.all(Connect))
	if len(stood) == 0 {
		return nil
	}
	quickest := slices.MinFunc(stood, func(a, b Record) int { return int((a.T - b.T) * 1e6) })
	if quickest.T < slowAfter {
		return nil
	}
	return shown(Slow, Likely, nil, idsOf(stood), "Round trips are long: of %d connections the quickest took %.1f seconds.", len(stood), quickest.T)
}

// lossy looks for steps that succeeded when they were tried again.
func lossy(l *look, _ []obstacle) *obstacle {
	var lost []Record
	for _, w := range l.ways {
		for _, try := range w.tries {
			if w.stands() {
				lost = append(lost, slices.DeleteFunc(failing(try), func(r Record) bool { return !silent(r) })...)
			}
		}
	}
	if len(lost) == 0 {
		return nil
	}
	return shown(Lossy, Likely, nil, idsOf(lost), "Packets get lost: %d steps succeeded only when they were tried again.", len(lost))
}

// littleRate is what a few jobs a minute take, in bytes a second.
const littleRate = 128 << 10

// throttled looks at what the longest flow carried, beside what others' did: a
// busy machine or relay is slow for everybody.
func throttled(l *look, found []obstacle) *obstacle {
	if has(found, Slow) || has(found, BytesCapped) || has(found, MTUBlackHole) {
		return nil // which explain it
	}
	here, because := fastest(l.all(Size))
	there, _ := fastest(l.controls(Size))
	if here == 0 || here > littleRate || there < 4*here {
		return nil
	}
	return shown(Throttled, Likely, nil, because, "The network carries %.0f kbit/s; another one carries %.0f kbit/s from the same relays.", here*8/1000, there*8/1000)
}

// fastest is the best rate of the long flows among records, in bytes a second.
func fastest(records []Record) (rate float64, ids []int) {
	for _, r := range succeeded(records) {
		if r.Proto == "echo" && r.Facts.Bytes >= 32<<10 && r.T > 0 {
			rate, ids = max(rate, float64(r.Facts.Bytes)/r.T), append(ids, r.ID)
		}
	}
	return rate, ids
}

func keys(m map[string]bool) (list []string) {
	for k := range m {
		list = append(list, k)
	}
	return list
}

// listed writes a list as a sentence has it, each once, in order.
func listed(list []string) string {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	list = slices.Compact(list)
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:len(list)-1], ", ") + " and " + list[len(list)-1]
}
