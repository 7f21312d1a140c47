package netcheck

import (
	"fmt"
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
	{find: flowsLimited},
	{find: udpPortBlocked},
	{find: tcpPortsBlocked},
	{find: relayRefuses},
	{find: blackHole},
	{find: quicBlocked},
	{find: largeHelloKilled},
	{find: bytesCapped},
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
	{find: natPerDestination},
	{find: natNoHairpin},
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

// unexplained are the ways that no obstacle found so far explains.
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

func (l *look) anyWay(is func(*way) bool) bool { return slices.ContainsFunc(l.ways, is) }

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
