package netcheck

import (
	"net"
	"slices"
	"strings"
)

// ladder is what a dial climbs, in this order. A way stands when its relay was
// asked for a reservation and granted one; a peer that is no relay ends at
// Identify.
var ladder = []Operation{ProxyTunnel, Connect, TLS, Upgrade, Multistream, Security, Muxer, QUIC, Identify, Reserve}

// look is a report as the rules see it.
type look struct {
	r      *Report
	ways   []*way // of this host, in the order in which they were first tried
	cut    []*way // the same, as far as tries got that we gave up
	ctrl   map[wayKey][]*way
	ours   []Record // of this host, but for what we gave up
	theirs []Record // of the others, as well
}

// way is one way to one address: all that was tried of it.
type way struct {
	wayKey
	target int
	tries  [][]Record // the steps of each transaction, in order
}

// wayKey names a way so that two hosts that tried it can be compared.
type wayKey struct{ addr, transport, route string }

func newLook(r *Report) *look {
	ours, cut := givenUp(r.Records)
	l := &look{r: r, ours: ours, ways: waysOf(ours), cut: waysOf(cut), ctrl: map[wayKey][]*way{}}
	for _, c := range r.Controls {
		theirs, _ := givenUp(c.Records)
		l.theirs = append(l.theirs, theirs...)
		for _, w := range waysOf(theirs) {
			w.route = "" // elsewhere has proxies of its own, or none
			l.ctrl[w.wayKey] = append(l.ctrl[w.wayKey], w)
		}
	}
	return l
}

// givenUp parts a host's records from those of transactions that we gave up, as when a
// look is cut short: how these would have ended is not known.
func givenUp(records []Record) (ended, cut []Record) {
	gaveUp := map[int]bool{} // by transaction
	for _, rec := range records {
		if failedWith(&rec, Aborted) {
			gaveUp[rec.Transaction] = true
		}
	}
	for _, rec := range records {
		if gaveUp[rec.Transaction] {
			cut = append(cut, rec)
		} else {
			ended = append(ended, rec)
		}
	}
	return ended, cut
}

func waysOf(records []Record) []*way {
	var order []int
	tries := map[int][]Record{} // by transaction
	for _, rec := range records {
		if rec.Lead == "" || !slices.Contains(ladder, rec.Operation) {
			continue
		}
		if tries[rec.Transaction] == nil {
			order = append(order, rec.Transaction)
		}
		tries[rec.Transaction] = append(tries[rec.Transaction], rec)
	}
	var list []*way
	byKey := map[wayKey]*way{}
	for _, t := range order {
		try := tries[t]
		k := wayKey{try[0].Lead, try[0].Transport, routeOf(try)}
		if byKey[k] == nil {
			byKey[k] = &way{wayKey: k, target: try[0].Target}
			list = append(list, byKey[k])
		}
		byKey[k].tries = append(byKey[k].tries, try)
	}
	return list
}

// routeOf is the proxy through which a try went; empty: none.
func routeOf(try []Record) string {
	for _, rec := range try {
		if rec.Operation == ProxyTunnel {
			return rec.Addr
		}
	}
	return ""
}

// best is the try that got furthest.
func (w *way) best() []Record {
	return slices.MaxFunc(w.tries, func(a, b []Record) int { return height(a) - height(b) })
}

// height is how many steps of a try succeeded.
func height(try []Record) int {
	n := 0
	for _, rec := range try {
		if rec.Failure == nil {
			n++
		}
	}
	return n
}

// failed is the step at which the best try ended; nil when it stands.
func (w *way) failed() *Record {
	for _, rec := range w.best() {
		if rec.Failure != nil {
			return &rec
		}
	}
	return nil
}

func (w *way) stands() bool { return w.failed() == nil }

// reached is the last step that succeeded; empty when none did.
func (w *way) reached() (op Operation) {
	for _, rec := range w.best() {
		if rec.Failure == nil {
			op = rec.Operation
		}
	}
	return op
}

// passed tells whether op succeeded on some try.
func (w *way) passed(op Operation) bool {
	return slices.ContainsFunc(w.tries, func(try []Record) bool {
		return slices.ContainsFunc(try, func(r Record) bool { return r.Operation == op && r.Failure == nil })
	})
}

// step is op on the best try; nil when it did not get there.
func (w *way) step(op Operation) *Record {
	for _, rec := range w.best() {
		if rec.Operation == op {
			return &rec
		}
	}
	return nil
}

func (w *way) ids() (ids []int) {
	for _, try := range w.tries {
		for _, rec := range try {
			ids = append(ids, rec.ID)
		}
	}
	return ids
}

// elsewhere is what a way's failing step came to on other hosts.
type elsewhere int

const (
	fails   elsewhere = iota // it fails elsewhere as well
	untried                  // nobody else got as far as trying it
	similar                  // others did the like of it, with another relay, and succeeded
	works                    // it succeeds elsewhere
)

// elsewhere compares where w failed with what others saw of the same way.
func (l *look) elsewhere(w *way) elsewhere {
	rec := w.failed()
	others := l.ctrl[wayKey{w.addr, w.transport, ""}]
	if rec == nil || len(others) == 0 {
		return untried
	}
	seen := untried
	for _, o := range others {
		switch {
		case o.stands(), o.passed(rec.Operation), rec.Operation == ProxyTunnel && o.passed(Connect):
			return works
		case o.step(rec.Operation) != nil:
			seen = fails
		}
	}
	return seen
}

// recordElsewhere compares a record that is no step of a dial with those of other
// hosts: of the same operation over the same transport, as large and as silent.
func (l *look) recordElsewhere(rec Record) elsewhere {
	others := slices.DeleteFunc(l.controls(rec.Operation), func(o Record) bool {
		return o.Transport != rec.Transport || o.Proto != rec.Proto || o.Facts.Question != rec.Facts.Question ||
			o.Facts.Segment != rec.Facts.Segment || o.Facts.Silence < rec.Facts.Silence || 10*o.Facts.Bytes < 9*rec.Facts.Bytes
	})
	return outcome(rec.Addr, others, func(o Record) bool { return o.Failure == nil })
}

// outcome is what others' records come to, of which those at the same address decide.
// Where there are none, they looked at another relay: that it does otherwise may be the
// relay's doing.
func outcome(addr string, others []Record, good func(Record) bool) elsewhere {
	same := slices.DeleteFunc(slices.Clone(others), func(o Record) bool { return o.Addr != addr })
	switch {
	case slices.ContainsFunc(same, good):
		return works
	case len(same) > 0:
		return fails
	case slices.ContainsFunc(others, good):
		return similar
	case len(others) > 0:
		return fails
	}
	return untried
}

// blocked are the ways that fail at op here and not elsewhere.
func (l *look) blocked(op Operation) (list []*way) {
	for _, w := range l.ways {
		if rec := w.failed(); rec != nil && rec.Operation == op && l.elsewhere(w) == works {
			list = append(list, w)
		}
	}
	return list
}

// through are the ways on which op succeeded, whatever came of them.
func (l *look) through(op Operation) (list []*way) {
	for _, w := range slices.Concat(l.ways, l.cut) {
		if w.passed(op) {
			list = append(list, w)
		}
	}
	return list
}

// all are this host's records of an operation that is no step of a dial.
func (l *look) all(op Operation) (list []Record) {
	for _, rec := range l.ours {
		if rec.Operation == op {
			list = append(list, rec)
		}
	}
	return list
}

// controls are the other hosts' records of an operation.
func (l *look) controls(op Operation) (list []Record) {
	for _, rec := range l.theirs {
		if rec.Operation == op {
			list = append(list, rec)
		}
	}
	return list
}

func succeeded(list []Record) (out []Record) {
	return slices.DeleteFunc(slices.Clone(list), func(r Record) bool { return r.Failure != nil })
}

func failing(list []Record) (out []Record) {
	return slices.DeleteFunc(slices.Clone(list), func(r Record) bool { return r.Failure == nil })
}

func failedWith(r *Record, words ...Failure) bool {
	return r != nil && r.Failure != nil && slices.Contains(words, *r.Failure)
}

func port(addr string) string {
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	return p
}

// portOf is the TCP or UDP port of a multiaddr.
func portOf(addr string) string {
	parts := strings.Split(addr, "/")
	for i, p := range parts {
		if (p == "tcp" || p == "udp") && i+1 < len(parts) {
			return parts[i+1]
		}
	}
	return ""
}

func isIPv6(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && strings.Contains(host, ":")
}

func idsOf(list []Record) (ids []int) {
	for _, r := range list {
		ids = append(ids, r.ID)
	}
	return ids
}

func idsOfWays(list []*way) (ids []int) {
	for _, w := range list {
		ids = append(ids, w.ids()...)
	}
	return ids
}
