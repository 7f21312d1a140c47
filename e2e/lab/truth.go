package lab

import (
	"maps"
	"slices"
	"time"
)

// Truth is what a profile does to a donor behind it: what runs and diagnoses are
// graded against. It follows from how the profile is built, not from what a donor
// was seen to do there. The submitter is at home (profile home), and the relay
// listens on TCP, QUIC and WebTransport 4001, and for WebSocket over TLS and HTTPS
// on 443, with a certificate that it signed itself.
type Truth struct {
	// Ways are the transports by which a donor reaches a relay, as
	// node/wire.TransportOf names them. None: it cannot join.
	Ways []string `json:"ways"`
	// Direct are those by which the relayed connection can be upgraded to a direct
	// one. None: it stays relayed.
	Direct []string `json:"direct"`
	// Luck are those by which it is upgraded only by luck: mappings are drawn from so
	// few that one may be hit.
	Luck []string `json:"luck,omitempty"`
	// Verdicts are those of the claims that do not pass, by claim: fail or
	// inconclusive.
	Verdicts map[string]string `json:"verdicts,omitempty"`
	// Lifetime is how long a connection lasts at most. A longer hold fails. 0: for
	// ever.
	Lifetime time.Duration `json:"lifetime_ns,omitempty"`
	// Events happen to the network during a run, at its hold.
	Events []Event `json:"events,omitempty"`
	// Severs are the transports whose connections do not outlive the events. A hold
	// over one of them fails.
	Severs []string `json:"severs,omitempty"`
	// Causes are what a diagnosis finds, none of them where nothing is in the way.
	Causes []Cause `json:"causes,omitempty"`

	// holes are the transports by which strangers reach a donor directly, once it
	// has used them.
	holes []string
	// inner networks are behind another one, which stops strangers whatever this one
	// lets in.
	inner bool
}

// Event is something that a network does by itself.
type Event struct {
	// After is since the start of the run's hold; before a login there is none, so
	// that this one's is since the donor's start.
	After time.Duration `json:"after_ns"`
	Do    string        `json:"do"` // a fault's name, as inventories write it
}

// Cause is an obstacle. The list is closed: whoever diagnoses a network chooses
// from it.
type Cause = string

// What stands in the way, a word for each kind of obstacle.
const (
	AllBlocked         Cause = "all_blocked"          // nothing gets out
	UDPBlocked         Cause = "udp_blocked"          // no UDP at all, but perhaps for names
	UDPPortsBlocked    Cause = "udp_ports_blocked"    // to some ports
	QUICBlocked        Cause = "quic_blocked"         // UDP passes, QUIC does not
	TCPPortsBlocked    Cause = "tcp_ports_blocked"    // to all but a few ports
	MultistreamBlocked Cause = "multistream_blocked"  // libp2p's plain handshake is recognized
	ALPNBlocked        Cause = "alpn_blocked"         // so is its offer in TLS
	ProxyRequired      Cause = "proxy_required"       // the way out is a proxy
	ProxyAuthRequired  Cause = "proxy_auth_required"  // which wants a password
	ProxyPortsLimited  Cause = "proxy_ports_limited"  // which connects to some ports only
	TLSIntercepted     Cause = "tls_intercepted"      // somebody reads TLS
	TLSUntrusted       Cause = "tls_untrusted"        // and the host does not trust them
	TLSServersRefused  Cause = "tls_servers_refused"  // and they do not trust servers that sign for themselves
	UpgradeStripped    Cause = "upgrade_stripped"     // WebSocket does not pass where HTTP does
	NATPerDestination  Cause = "nat_per_destination"  // another port for everybody: no hole can be punched
	DNSBlocked         Cause = "dns_blocked"          // no resolver answers
	DNSInternalOnly    Cause = "dns_internal_only"    // none knows public names
	DNSTXTBlocked      Cause = "dns_txt_blocked"      // none tells TXT records
	DNSLies            Cause = "dns_lies"             // answers are invented
	CaptivePortal      Cause = "captive_portal"       // somebody has to log in first
	MTUBlackHole       Cause = "mtu_black_hole"       // long packets vanish
	SYNProxy           Cause = "syn_proxy"            // everybody seems to connect
	UDPTimeout         Cause = "udp_timeout"          // silent UDP flows die early
	TCPTimeout         Cause = "tcp_timeout"          // silent TCP flows do
	FlowLifetime       Cause = "flow_lifetime"        // every flow is cut, silent or not
	NATRebinds         Cause = "nat_rebinds"          // flows are forgotten at once
	IPv6Broken         Cause = "ipv6_broken"          // IPv6 seems to be there
	HTTPIntercepted    Cause = "http_intercepted"     // somebody reads plain HTTP
	FlowsLimited       Cause = "flows_limited"        // few flows at a time
	BytesCapped        Cause = "bytes_capped"         // flows freeze when so much has come
	Throttled          Cause = "throttled"            // little goes through
	Lossy              Cause = "lossy"                // packets get lost
	Slow               Cause = "slow"                 // round trips are long
	LibP2PRecognized   Cause = "handshake_recognized" // by the lengths of encrypted messages, say
	SNIFiltered        Cause = "sni_filtered"         // servers of unknown names are blocked
	NATNoHairpin       Cause = "nat_no_hairpin"       // neighbours do not reach each other by the outside
	IPv4ByTranslation  Cause = "ipv4_by_translation"  // IPv6 only, with NAT64
)

// The transports by which a relay may be reached, the fastest first.
const (
	wayTCP          = "tcp"
	wayQUIC         = "quic-v1"
	wayWebTransport = "webtransport"
	wayWSS          = "wss"
	wayHTTPS        = "https"
)

var (
	everyWay = []string{wayTCP, wayQUIC, wayWebTransport, wayWSS, wayHTTPS}
	webWays  = []string{wayWSS, wayHTTPS}
	notTCP   = []string{wayQUIC, wayWebTransport, wayWSS, wayHTTPS}
	tcpWays  = []string{wayTCP, wayWSS, wayHTTPS}
	// punched are those by which go-libp2p punches holes (DCUtR).
	punched = []string{wayTCP, wayQUIC}
)

const (
	failed       = "fail"
	inconclusive = "inconclusive"
)

// isolated are the verdicts on a donor that reaches no relay: nobody sees its
// address, so that nothing is known about its firewall.
var isolated = map[string]string{"firewall": inconclusive, "hold": failed, "reservation": failed, "circuit": failed, "job": failed}

// unhindered is the truth of a network that only hides what is in it.
var unhindered = Truth{Ways: everyWay, Direct: punched}

// through is a network that lets relays be reached in these ways, because of what is
// in the way of the others. Holes are punched by those that are left.
func through(ways []string, causes ...Cause) Truth {
	return Truth{Ways: ways, Direct: both(punched, ways), Causes: causes}
}

// because is t with causes that change neither ways nor verdicts.
func (t Truth) because(causes ...Cause) Truth {
	t.Causes = causes
	return t
}

// byLuck is relayed for a NAT that draws its mappings from a few.
func (t Truth) byLuck() Truth {
	t.Luck, t.Direct = t.Direct, nil
	return t
}

// relayed is t where no hole can be punched.
func (t Truth) relayed() Truth {
	t.Direct = nil
	return t
}

// exposed is t where everybody reaches a port that a donor has used.
func (t Truth) exposed() Truth {
	t.holes = punched
	return t
}

// behindAnother is t where a provider's router stops strangers on their way.
func (t Truth) behindAnother() Truth {
	t.inner = true
	return t
}

// settled adds the verdicts that follow from the rest.
func (t Truth) settled() Truth {
	switch {
	case len(t.Ways) == 0:
		t.Verdicts = worse(t.Verdicts, isolated)
	case len(both(t.holes, t.Ways)) > 0 && !t.inner:
		t.Verdicts = worse(t.Verdicts, map[string]string{"firewall": inconclusive})
	}
	return t
}

// with is the truth about a network that does all that both do: what either of
// them stops is stopped, the worse verdict holds, and events and causes add up.
func (t Truth) with(other Truth) Truth {
	sum := Truth{
		Ways:     both(t.Ways, other.Ways),
		Direct:   both(t.Direct, other.Direct),
		Luck:     luck(t, other),
		Verdicts: worse(t.Verdicts, other.Verdicts),
		Lifetime: t.Lifetime,
		Events:   slices.Concat(t.Events, other.Events),
		Causes:   slices.Concat(t.Causes, other.Causes),
		inner:    t.inner || other.inner,
	}
	if sum.Lifetime == 0 || other.Lifetime != 0 && other.Lifetime < sum.Lifetime {
		sum.Lifetime = other.Lifetime
	}
	for _, w := range slices.Concat(t.holes, other.holes) {
		if !slices.Contains(sum.holes, w) {
			sum.holes = append(sum.holes, w)
		}
	}
	for _, w := range slices.Concat(t.Severs, other.Severs) {
		if !slices.Contains(sum.Severs, w) {
			sum.Severs = append(sum.Severs, w)
		}
	}
	slices.SortStableFunc(sum.Events, func(a, b Event) int { return int(a.After - b.After) })
	sum.Events = slices.Compact(sum.Events)
	slices.Sort(sum.Causes)
	sum.Causes = slices.Compact(sum.Causes)
	return sum
}

// luck is of a network that is both: one that never, or always, upgrades leaves
// nothing to it.
func luck(t, other Truth) []string {
	sure := both(t.Direct, other.Direct)
	var may []string
	for _, w := range both(slices.Concat(t.Direct, t.Luck), slices.Concat(other.Direct, other.Luck)) {
		if !slices.Contains(sure, w) {
			may = append(may, w)
		}
	}
	return may
}

// both are the words of a that b has as well.
func both(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return !slices.Contains(b, s) })
}

// worse takes of two verdicts on one claim the one that is further from pass.
func worse(a, b map[string]string) map[string]string {
	if len(a) == 0 {
		return maps.Clone(b)
	}
	sum := maps.Clone(a)
	for claim, v := range b {
		if sum[claim] != failed {
			sum[claim] = v
		}
	}
	return sum
}
