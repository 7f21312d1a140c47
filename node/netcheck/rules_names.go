package netcheck

import (
	"net"
	"slices"
	"strings"
)

// Names: what the network's resolver says, beside what others say.

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

// domain is the end of the name, by which filters know it: its last two labels.
func (a *asked) domain() string {
	labels := strings.Split(strings.TrimSuffix(a.question, "."), ".")
	return strings.Join(labels[max(0, len(labels)-2):], ".")
}

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

// textNamesBlocked looks for text records that the network's resolver does not tell, of
// any name. It is likely at most, since the resolver may filter these names: no text
// record is asked for of a name that nobody would filter.
func textNamesBlocked(l *look, found []obstacle) *obstacle {
	if has(found, DNSBlocked) || has(found, DNSInternalOnly) {
		return nil
	}
	var because []int
	how, domain := Possible, ""
	for _, q := range l.questions() {
		switch {
		case !q.isText():
		case len(succeeded(q.own)) > 0:
			return nil // it is something else about the others
		case q.lost():
			because = append(because, idsOf(q.own)...)
			if domain != "" && q.domain() != domain {
				how = Likely // a filter of names would know both
			}
			domain = q.domain()
		}
	}
	if len(because) == 0 {
		return nil
	}
	return shown(DNSTXTBlocked, how, nil, because, "The network's resolver denies text records that exist, by which /dnsaddr names lead to relays.")
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
