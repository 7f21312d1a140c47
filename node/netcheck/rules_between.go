package netcheck

import (
	"fmt"
	"slices"
)

// Who stands in between and speaks for others: portals, proxies, inspectors.

func portalClosed(l *look, _ []obstacle) *obstacle {
	pages := slices.DeleteFunc(l.all(Portal), func(r Record) bool { return r.Facts.FirstByte == "" })
	if len(pages) == 0 || len(l.through(Security)) > 0 || len(l.through(QUIC)) > 0 {
		return nil // a filter may replace that page alone
	}
	where := pages[0].Facts.Location
	if where == "" {
		where = "a page of its own"
	}
	return shown(PortalClosed, Certain, l.ways, idsOf(pages), "A captive portal answers in place of the internet: a page whose content is known led to %s.", where)
}

func proxyInTheWay(l *look, _ []obstacle) *obstacle {
	asked := slices.DeleteFunc(slices.Clone(l.ours), func(r Record) bool { return r.Operation != ProxyTunnel })
	if len(asked) == 0 || gotOut(l) {
		return nil
	}
	only := "Nothing"
	if l.pageCame() { // then port 443, too, may be open without the proxy
		only = "Nothing but plain HTTP"
		if !slices.ContainsFunc(direct(l.blocked(Connect)), func(w *way) bool { return port(w.hostPort()) == "443" }) {
			return nil
		}
	}
	kept := slices.DeleteFunc(direct(l.ways), func(w *way) bool { return w.stands() || l.elsewhere(w) == fails })
	for _, rec := range asked {
		if rec.Facts.Login || failedWith(&rec, ProxyAuthRequired) {
			got := "and we have none"
			if len(succeeded(asked)) > 0 {
				got = "and takes ours"
			}
			return shown(ProxyAuth, Certain, kept, idsOf(asked), "%s gets out but through the proxy %s, which asks for a user and a password, %s.", only, rec.Addr, got)
		}
	}
	if len(succeeded(asked)) == 0 && !slices.ContainsFunc(asked, func(r Record) bool { return failedWith(&r, ProxyForbidden) }) {
		return nil // a proxy that is named and does not work is not what keeps others from getting out
	}
	return shown(ProxyRequired, Certain, kept, idsOf(asked), "%s gets out but through the proxy %s.", only, asked[0].Addr)
}

func proxyPorts(l *look, _ []obstacle) *obstacle {
	var passes, ports []string
	for _, w := range byProxy(l.ways) {
		if w.passed(ProxyTunnel) {
			passes = append(passes, portOf(w.addr))
		}
	}
	var refused []*way
	for _, w := range byProxy(l.ways) {
		// At a port that passes, the proxy forbids something else: addresses without a name, say.
		if p := portOf(w.addr); failedWith(w.step(ProxyTunnel), ProxyForbidden) && !slices.Contains(passes, p) {
			refused, ports = append(refused, w), append(ports, p)
		}
	}
	if len(refused) == 0 || len(passes) == 0 {
		return nil
	}
	return shown(ProxyPorts, Certain, refused, nil, "The proxy connects to port %s and refuses %s.", listed(passes), listed(ports))
}

// skew is by how much a clock may be wrong before certificates notice.
const skew = 300 // seconds

// clockSkewed compares this machine's clock with those of others, each of which may be
// the one that is wrong.
func clockSkewed(l *look, _ []obstacle) *obstacle {
	var wrong []Record
	for _, rec := range l.all(Clock) {
		switch o := rec.Facts.Offset; {
		case o == nil:
		case *o <= skew && *o >= -skew:
			return nil
		default:
			wrong = append(wrong, rec)
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	how := Likely
	if len(wrong) > 1 {
		how = Certain
	}
	bad := slices.DeleteFunc(slices.Clone(l.ways), func(w *way) bool { return !failedWith(w.failed(), TLSCertificate) })
	return shown(ClockSkewed, how, bad, idsOf(wrong), "This machine's clock is %.0f seconds ahead of others.", *wrong[0].Facts.Offset)
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

func tlsIntercepted(l *look, _ []obstacle) *obstacle {
	var ways []*way
	cause, issuer, names, how := TLSIntercepted, "", "trusted here", "others see other certificates there"
	for _, w := range direct(l.ways) {
		if rec := w.step(TLS); rec != nil && l.foreign(w, *rec) {
			ways = append(ways, w)
			issuer = rec.Facts.Chain[0].Issuer
			if w.stated() != nil {
				how = "they say themselves that these are not theirs"
			}
			if rec.Facts.Trusted != nil && !*rec.Facts.Trusted {
				cause, names = TLSUntrusted, "not trusted here"
			}
		}
	}
	if len(ways) == 0 {
		return nil
	}
	return shown(cause, Certain, ways, nil, "TLS is opened on its way: relays show certificates of %q, which is %s, and %s.", issuer, names, how)
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

// stated is what the relay at the far end of w said of the certificate that was shown;
// nil: nothing.
func (w *way) stated() *bool {
	if rec := w.step(Identify); rec != nil {
		return rec.Facts.Stated
	}
	return nil
}

// foreign tells whether the certificate that w met is somebody else's: the relay
// says so, inside Noise, or others meet another one there.
func (l *look) foreign(w *way, rec Record) bool {
	if len(rec.Facts.Chain) == 0 {
		return false
	}
	if s := w.stated(); s != nil {
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

// refusedByProxy tells whether a way through a proxy ended at an answer to its upgrade,
// where the proxy alone looks up the name: nobody else can have tried that, but other
// relays are upgraded to elsewhere.
func (l *look) refusedByProxy(w *way, rec Record) bool {
	if w.route == "" || rec.Facts.Status == 0 || l.elsewhere(w) != untried {
		return false
	}
	for k, others := range l.ctrl {
		if k.transport == w.transport && slices.ContainsFunc(others, func(o *way) bool { return o.passed(Upgrade) }) {
			return true
		}
	}
	return false
}

func upgradeStripped(l *look, _ []obstacle) *obstacle {
	var lost []*way
	for _, w := range l.ways {
		rec := w.failed()
		if rec != nil && rec.Operation == Upgrade && (l.elsewhere(w) == works || l.refusedByProxy(w, *rec)) {
			lost = append(lost, w)
		}
	}
	if len(lost) == 0 || l.anyWay(func(w *way) bool { return w.passed(Upgrade) && w.transport == lost[0].transport }) {
		return nil
	}
	answer := "an upgrade gets no answer"
	if status := lost[0].failed().Facts.Status; status != 0 {
		answer = fmt.Sprintf("the answer to an upgrade was %d", status)
	}
	if !slices.ContainsFunc(lost, func(w *way) bool { return w.passed(TLS) || w.transport != "ws" }) {
		return shown(HTTPIntercepted, Likely, lost, nil, "Plain HTTP is taken by somebody in between: %s.", answer)
	}
	return shown(UpgradeStripped, Likely, lost, nil, "HTTP passes, and nothing may become WebSocket: %s.", answer)
}
