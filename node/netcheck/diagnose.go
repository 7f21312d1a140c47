package netcheck

import (
	"fmt"
	"slices"
)

// Diagnose tells what a report means. It is a pure function: the same report
// gives the same diagnosis, anywhere and at any time. What others have not tried
// is unexplained, never blocked.
func Diagnose(r Report) Diagnosis {
	l := newLook(&r)
	var found []obstacle
	for _, rule := range rules {
		o := rule.find(l, found)
		if o == nil {
			continue
		}
		found = append(found, *o)
		if rule.lastWord {
			break
		}
	}
	l.askRelays(found)
	if o := daemonDied(r.Daemon); o != nil { // whatever is wrong with the network
		found = append(found, *o)
	}
	d := Diagnosis{Causes: []Finding{}, Ways: l.standing(), Hypothesis: hypothesis(r.Daemon, found)}
	d.Targets = l.explain(found)
	if o := unexplainedRest(d.Targets); o != nil {
		found = append(found, *o)
	}
	for _, o := range found {
		d.Causes = append(d.Causes, o.Finding)
	}
	d.Donor, d.Operator, d.Administrator = advice(l, d)
	return d
}

// preference is the order in which a donor likes transports.
var preference = []string{"quic-v1", "tcp", "webtransport", "wss", "ws", "https", "http"}

// standing are the transports by which a relay granted a reservation, in small packets
// if need be.
func (l *look) standing() []string {
	ways := []string{}
	narrow := slices.DeleteFunc(l.all(Size), func(r Record) bool { return r.Facts.Expires == nil })
	for _, t := range preference {
		if l.anyWay(func(w *way) bool { return w.transport == t && w.stands() && w.passed(Reserve) }) ||
			slices.ContainsFunc(narrow, func(r Record) bool { return r.Transport == t }) {
			ways = append(ways, t)
		}
	}
	return ways
}

// hypothesis tells which of the three held, of a node that was watched. H2 is told
// of any whose dials failed before a handshake began: of ours the reasons are in
// its events, of another one they may be swallowed.
func hypothesis(d *Daemon, found []obstacle) Hypothesis {
	switch {
	case d == nil:
		return NoHypothesis
	case daemonDied(d) != nil:
		return H1
	case d.Joined && d.Stalled == 0:
		return NoHypothesis
	case d.Stalled > 0 || killsHandshakes(found):
		return H3
	case d.Silent > 0, d.Dials > 0 && !d.Joined:
		return H2
	}
	return NoHypothesis
}

// daemonDied is of a daemon that ended without being asked to.
func daemonDied(d *Daemon) *obstacle {
	if d == nil || !d.Ended || d.Exit == 0 && d.Joined {
		return nil
	}
	words := "it said nothing"
	if d.Said != "" {
		words = fmt.Sprintf("its last words: %q", d.Said)
	}
	return shown(DaemonDied, Certain, nil, nil, "The daemon ended by itself after %.0f s, with exit status %d; %s.", d.Lived, d.Exit, words)
}

func killsHandshakes(found []obstacle) bool {
	return has(found, MultistreamKilled) || has(found, HandshakeKilled) || has(found, ALPNKilled) || has(found, MTUBlackHole)
}

// explain says of every address of the list what became of it.
func (l *look) explain(found []obstacle) (list []Explanation) {
	for i, t := range l.r.Targets {
		before := len(list)
		for _, w := range l.ways {
			if w.target == i {
				list = append(list, l.explainWay(w, found))
			}
		}
		switch {
		case len(list) > before:
		case len(t.Leads) > 0:
			list = append(list, l.explainLeads(i, t))
		default:
			list = append(list, l.explainName(i, t, found))
		}
	}
	return list
}

func (l *look) explainWay(w *way, found []obstacle) Explanation {
	e := Explanation{Target: w.target, Addr: w.addr, Transport: w.transport, Reached: w.reached(), Because: w.ids()}
	rec := w.failed()
	if rec == nil {
		e.Sentence = standsBy(w)
		return e
	}
	e.Failed, e.Failure = rec.Operation, *rec.Failure
	e.Cause = l.causeOf(w, rec, found)
	e.Sentence = fmt.Sprintf("%s: %s (%s).", reachedWords(e.Reached), failedWords(rec), causeWords[e.Cause].short)
	return e
}

func standsBy(w *way) string {
	if w.passed(Reserve) {
		return "A relay, reached and willing: it granted a reservation."
	}
	return "Reached, and it proved to be who it should be."
}

// causeOf is the obstacle that explains a way, or what is wrong with the far end.
func (l *look) causeOf(w *way, rec *Record, found []obstacle) Cause {
	for _, o := range found {
		if slices.Contains(o.ways, w) {
			return o.Cause
		}
	}
	switch {
	case isIPv6(rec.Addr) && w.route == "" && !l.hasIPv6():
		return NoIPv6
	case failedWith(rec, ProxyFailed):
		return ProxyCannotReach
	case rec.Operation == Reserve && *rec.Failure != Timeout:
		return RelayRefuses
	case failedWith(rec, NoProtocol):
		return RelayRefuses
	case failedWith(rec, PermissionDenied) && !prohibited6(rec):
		return LocalFirewall
	case l.elsewhere(w) == fails && failedWith(rec, PeerMismatch):
		return WrongPeer
	case l.elsewhere(w) == fails && failedWith(rec, TLSCertificate, TLSHostname, TLSAuthority):
		return CertificateInvalid
	case l.elsewhere(w) == fails:
		return TargetDead
	}
	return NoControl
}

// prohibited6 tells of the errno that Linux makes of ICMPv6's "administratively
// prohibited", which any firewall on the way may have sent. Of IPv4's it makes
// EHOSTUNREACH.
func prohibited6(rec *Record) bool {
	return rec.Operation == Connect && isIPv6(rec.Addr) && rec.Errno == "EACCES"
}

// explainLeads is of a name whose addresses were tried for another target: each is
// explained there, unless the look ended first.
func (l *look) explainLeads(i int, t Target) Explanation {
	tried, reached := false, map[string]bool{}
	for _, w := range l.ways {
		if slices.Contains(t.Leads, w.addr) {
			tried = true
			if w.stands() {
				reached[w.addr] = true
			}
		}
	}
	if !tried {
		return Explanation{Target: i, Reached: Resolve, Cause: NoControl, Sentence: "The look ended before it was known."}
	}
	return Explanation{Target: i, Reached: Resolve,
		Sentence: fmt.Sprintf("It leads to %d addresses of which %d were reached; each is explained by itself.", len(t.Leads), len(reached))}
}

// explainName is of a target whose name led nowhere.
func (l *look) explainName(i int, t Target, found []obstacle) Explanation {
	e := Explanation{Target: i, Failed: Resolve, Cause: NoControl}
	exists, denied := false, false
	for _, q := range l.questions() {
		for _, rec := range q.own {
			if rec.Target != i {
				continue
			}
			e.Because = append(e.Because, rec.ID)
			if rec.Failure != nil && e.Failure == "" {
				e.Failure = *rec.Failure
			}
			exists = exists || q.known()
			denied = denied || deniedByAll(q)
		}
	}
	switch {
	case exists:
		for _, c := range []Cause{DNSBlocked, DNSInternalOnly, DNSTXTBlocked, DNSLies, PortalClosed, ProxyRequired, ProxyAuth, AllBlocked} {
			if has(found, c) {
				e.Cause = c
				break
			}
		}
	case denied:
		e.Cause = NameUnknown
	case has(found, PortalClosed):
		e.Cause = PortalClosed
	}
	e.Sentence = fmt.Sprintf("The name of %s led nowhere: %s (%s).", t.Addr, e.Failure, causeWords[e.Cause].short)
	return e
}

// unexplainedRest is of ways that failed for none of the reasons found, and not
// by the far end's fault.
func unexplainedRest(list []Explanation) *obstacle {
	var because []int
	for _, e := range list {
		if e.Cause == NoControl {
			because = append(because, e.Because...)
		}
	}
	if len(because) == 0 {
		return nil
	}
	return shown(NoControl, Possible, nil, because, "Some addresses failed in ways that cannot be told from faults of the far end, since nobody else has tried them or they fail differently elsewhere.")
}

func reachedWords(op Operation) string {
	switch op {
	case "":
		return "Nothing stood"
	case Identify:
		return "All of libp2p's layers stood"
	}
	return "It got as far as " + operationWords[op]
}

func failedWords(rec *Record) string {
	return fmt.Sprintf("then %s failed with %s after %.1f s", operationWords[rec.Operation], *rec.Failure, rec.T)
}
