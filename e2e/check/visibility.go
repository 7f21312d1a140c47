package check

import (
	"slices"
	"strings"
	"time"

	"github.com/worldcompute/wce2e/node/netcheck"
	"github.com/worldcompute/wce2e/node/wire"
)

// longestDial is how long a dial may be under way: the library's own bound on
// dialling a peer (go-libp2p core/network, DialPeerTimeout, 60 s). A node that is
// killed leaves its younger dials without an outcome; an older one was silent
// before.
const longestDial = 60 * time.Second

// visibility judges that no dial is silent, in the events and in the log.
func visibility(h *history, f *finding) {
	v := &dials{h: h, f: f}
	for _, x := range h.hosts {
		v.host(x)
	}
	if v.ended == 0 {
		f.lack("No dial was seen at all.")
		return
	}
	f.see("%d dials of %d nodes have one outcome each: %d ok, %d failed with a reason, %d given up; the logs tell of %d of them.",
		v.ended, v.nodes, v.outcomes[wire.OK], v.outcomes[wire.Failed], v.outcomes[wire.Aborted], v.logged)
	if v.excused > 0 {
		f.see("Under way when their node was killed, and so without an outcome: %d.", v.excused)
	}
	if len(v.cut) > 0 {
		f.see("The log of %s is longer than the bundle's budget and was not compared.", strings.Join(v.cut, ", "))
	}
}

// dials counts what was seen on all hosts.
type dials struct {
	h        *history
	f        *finding
	outcomes map[wire.Outcome]int

	ended, excused, logged, nodes int
	cut                           []string // hosts whose logs are not all there
}

func (v *dials) host(x *host) {
	if len(x.events) == 0 {
		v.f.lack("There are no events of %s.", x.Name)
		return
	}
	for _, u := range x.ups {
		if u.Boot != "" && x.boot(u.Boot) == nil {
			v.f.lack("There are no events of the start %s of %s.", u.Boot, x.Name)
		}
	}
	v.nodes++
	for _, b := range x.boots {
		v.gapless(x, b)
		v.boot(x, b)
	}
	v.log(x)
}

func (x *host) boot(id string) *boot {
	for _, b := range x.boots {
		if b.id == id {
			return b
		}
	}
	return nil
}

// gapless makes sure that no event is missing: a dial could hide in the gap.
func (v *dials) gapless(x *host, b *boot) {
	want := uint64(1)
	for _, e := range b.events {
		if e.Seq != want {
			v.f.fail("%s: event %d follows event %d: what came between is not on record.", x.Name, e.Seq, want-1)
			v.f.cite(e.line)
			return
		}
		want++
	}
}

// boot pairs every start of a dial with its end.
func (v *dials) boot(x *host, b *boot) {
	open := map[string]said{}
	ended := map[string]bool{}
	for _, e := range b.events {
		switch e.Kind {
		case wire.DialStarted:
			if _, twice := open[e.Dial]; twice || ended[e.Dial] || e.Dial == "" {
				v.f.fail("%s: the dial %q to %s starts a second time.", x.Name, e.Dial, e.Addr)
				v.f.cite(e.line)
			}
			open[e.Dial] = e
		case wire.DialEnded:
			_, started := open[e.Dial]
			v.end(x, e, started, ended[e.Dial])
			ended[e.Dial] = true
			delete(open, e.Dial)
		case wire.NodeStopped:
			v.silent(x, b, open)
			clear(open)
		}
	}
	v.silent(x, b, open)
}

// end judges one dial.ended.
func (v *dials) end(x *host, e said, started, before bool) {
	what := ""
	switch {
	case before:
		what = "has a second outcome"
	case !started:
		what = "ended without having started"
	case e.Outcome != wire.OK && e.Outcome != wire.Failed && e.Outcome != wire.Aborted:
		what = "ended with no known outcome"
	case e.Outcome != wire.OK && e.Failure == "":
		what = "ended without a word for why (" + word(e.Err, "no error either") + ")"
	case e.Outcome != wire.OK && !slices.Contains(vocabulary, netcheck.Failure(e.Failure)):
		what = "ended with a word of no vocabulary, " + e.Failure
	case e.Outcome != wire.OK && e.Err == "":
		what = "ended as " + e.Failure + " without an error"
	}
	if what != "" {
		v.f.fail("%s: the dial %s to %s %s.", x.Name, e.Dial, e.Addr, what)
		v.f.cite(e.line)
		return
	}
	if v.outcomes == nil {
		v.outcomes = map[wire.Outcome]int{}
	}
	v.ended++
	v.outcomes[e.Outcome]++
}

// vocabulary is closed: a reason in other words is none that could be counted.
var vocabulary = netcheck.Vocabulary()

// silent judges the dials that have no outcome at the end of a boot.
func (v *dials) silent(x *host, b *boot, open map[string]said) {
	for _, e := range b.of(wire.DialStarted) {
		if o, ok := open[e.Dial]; !ok || o.line != e.line {
			continue
		}
		age := v.h.endOf(x, b).Sub(x.suiteTime(e.Time))
		switch {
		case b.stopped():
			v.f.fail("%s: the dial %s to %s has no outcome, though the node stopped in good order.", x.Name, e.Dial, e.Addr)
		case age >= longestDial:
			v.f.fail("%s: the dial %s to %s had no outcome after %v.", x.Name, e.Dial, e.Addr, age.Round(time.Second))
		case v.h.killed(x, b):
			v.excused++
			continue
		default:
			v.f.lack("%s: the record ends %v after the start of the dial %s to %s.", x.Name, age.Round(time.Millisecond), e.Dial, e.Addr)
		}
		v.f.cite(e.line)
	}
}

// log makes sure that the readable log told of every outcome too.
func (v *dials) log(x *host) {
	text, ok := v.h.in.Logs[x.Name]
	switch {
	case !ok || x.log == nil:
		v.f.lack("There is no log of %s.", x.Name)
		return
	case x.log.Kept != x.log.Size:
		v.cut = append(v.cut, x.Name)
		return
	}
	told := outcomesInLog(string(text))
	for _, b := range x.boots {
		for _, e := range b.of(wire.DialEnded) {
			key := outcomeLine{e.Dial, e.Addr, string(e.Outcome)}
			switch {
			case told[key] > 0:
				told[key]--
				v.logged++
			case e.line == b.last().line && v.h.killed(x, b):
				// killed between the event and its line
			default:
				v.f.fail("%s: the log does not tell how the dial %s to %s ended.", x.Name, e.Dial, e.Addr)
				v.f.cite(e.line)
			}
		}
	}
}

// outcomeLine is what a log line about the end of a dial must say.
type outcomeLine struct{ dial, addr, outcome string }

// outcomesInLog counts the lines of a log that tell how a dial ended. A line is
// log/slog's text form: key=value pairs. The first value of a key counts: errors,
// which others may have a say in, come last.
func outcomesInLog(text string) map[outcomeLine]int {
	told := map[outcomeLine]int{}
	for l := range strings.Lines(text) {
		if strings.Contains(l, " level=DEBUG ") {
			continue // not at the default level
		}
		var o outcomeLine
		for pair := range strings.FieldsSeq(l) {
			key, value, _ := strings.Cut(pair, "=")
			value = strings.Trim(value, `"`)
			switch {
			case key == "dial" && o.dial == "":
				o.dial = value
			case key == "addr" && o.addr == "":
				o.addr = value
			case key == "outcome" && o.outcome == "":
				o.outcome = value
			}
		}
		if o.dial != "" && o.outcome != "" {
			told[o]++
		}
	}
	return told
}
