package inventory

import (
	"math"
	"regexp"
	"strconv"
	"time"

	"gopkg.in/yaml.v3"
)

// Link is what the cable between a network and the internet does to packets,
// in each direction. The zero Link loses nothing and is as fast as the machine.
type Link struct {
	Delay   time.Duration // one way; 0: the lab's latency
	Jitter  time.Duration // the most by which packets come later than that, each by another time; their order stays
	Loss    float64       // percent of the packets that get lost, each by chance
	Rate    int64         // bits per second; 0: no limit
	Reorder float64       // percent of the packets that are overtaken by later ones
	MTU     int           // bytes of the longest IP packet, which both ends know; 0: 1500
}

// Bounds of a link. With less than minMTU there is no IPv6 on it (RFC 8200,
// section 5), and Ethernet ends at maxMTU. Below minRate a handshake takes minutes.
const (
	minMTU  = 1280
	maxMTU  = 1500
	minRate = 8_000
	maxRate = 100_000_000_000
)

func link(v value) Link {
	if !v.set() {
		return Link{}
	}
	m := v.mapping("delay", "jitter", "loss", "rate", "reorder", "mtu")
	l := Link{
		Delay:   lag(m.get("delay")),
		Jitter:  lag(m.get("jitter")),
		Loss:    percent(m.get("loss")),
		Rate:    rate(m.get("rate")),
		Reorder: percent(m.get("reorder")),
	}
	if mtu := m.get("mtu"); mtu.set() {
		l.MTU = mtu.number(minMTU, maxMTU)
	}
	return l
}

// lag reads a time that packets take. None is not one: it stands for the lab's latency.
func lag(v value) time.Duration {
	if !v.set() {
		return 0
	}
	d := v.duration(time.Second)
	if d <= 0 || d > MaxLatency {
		v.bad("%s is not above 0s and at most %s", d, MaxLatency)
	}
	return d
}

var percentShape = regexp.MustCompile(`^(\d{1,3}(?:\.\d{1,6})?)%$`)

func percent(v value) float64 {
	const hint = "a share is a number of percent: 1%, 0.5%"
	if !v.set() {
		return 0
	}
	if v.node.Kind != yaml.ScalarNode || !percentShape.MatchString(v.node.Value) {
		v.badHint(hint, "want a share, got %s", describe(v.node))
		return 0
	}
	p, err := strconv.ParseFloat(percentShape.FindStringSubmatch(v.node.Value)[1], 64)
	if err != nil || p > 100 {
		v.badHint(hint, "%s is not from 0%% to 100%%", v.node.Value)
	}
	return p
}

var rateShape = regexp.MustCompile(`^(\d{1,9}(?:\.\d{1,6})?)(bit|kbit|mbit|gbit)$`)

// rateUnits are those of tc(8), the largest first.
var rateUnits = []struct {
	name string
	bits int64
}{{"gbit", 1e9}, {"mbit", 1e6}, {"kbit", 1e3}, {"bit", 1}}

func rate(v value) int64 {
	const hint = "a rate is a number of bit, kbit, mbit or gbit per second: 512kbit, 10mbit"
	if !v.set() {
		return 0
	}
	if v.node.Kind != yaml.ScalarNode || !rateShape.MatchString(v.node.Value) {
		v.badHint(hint, "want a rate, got %s", describe(v.node))
		return 0
	}
	parts := rateShape.FindStringSubmatch(v.node.Value)
	number, err := strconv.ParseFloat(parts[1], 64)
	for _, unit := range rateUnits {
		if unit.name == parts[2] {
			number *= float64(unit.bits)
		}
	}
	if err != nil || number < minRate || number > maxRate {
		v.badHint(hint, "%s is not from %s to %s", v.node.Value, rateText(minRate), rateText(maxRate))
		return 0
	}
	return int64(math.Round(number))
}

// rateText writes a rate in the largest unit of which it is a whole number.
func rateText(bits int64) string {
	for _, unit := range rateUnits {
		if bits%unit.bits == 0 {
			return strconv.FormatInt(bits/unit.bits, 10) + unit.name
		}
	}
	return "" // unreachable: all are whole numbers of bits
}

func percentText(p float64) string { return strconv.FormatFloat(p, 'f', -1, 64) + "%" }

// scrubLink writes what a link has of its own.
func scrubLink(l Link) *yaml.Node {
	n := fields()
	put := func(name, text string, set bool) {
		if set {
			add(n, name, text)
		}
	}
	put("delay", short(l.Delay), l.Delay > 0)
	put("jitter", short(l.Jitter), l.Jitter > 0)
	put("loss", percentText(l.Loss), l.Loss > 0)
	put("rate", rateText(l.Rate), l.Rate > 0)
	put("reorder", percentText(l.Reorder), l.Reorder > 0)
	if l.MTU > 0 {
		add(n, "mtu", l.MTU)
	}
	n.Style = yaml.FlowStyle
	return n
}
