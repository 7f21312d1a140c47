package netcheck

import (
	"fmt"
	"slices"
	"strings"
)

// operationWords name the layers for people.
var operationWords = map[Operation]string{
	Resolve: "the name", Connect: "the TCP connection", QUIC: "the QUIC handshake", ProxyTunnel: "the proxy's CONNECT", TLS: "TLS",
	Upgrade: "the upgrade to WebSocket", Multistream: "libp2p's first bytes", Security: "the security handshake", Muxer: "the muxer",
	Identify: "identify", Reserve: "the reservation", Keepalive: "silence", Datagram: "a UDP packet", Portal: "a known page",
	Harmless: "harmless bytes", Size: "a packet's size", Loss: "many datagrams", Flows: "many connections at once", Clock: "the time",
	Mapping: "the NAT's mapping", Hairpin: "a neighbour by the outside",
}

// Advice is what a cause means to people, in sentences.
type Advice struct {
	Means         string // what the network does
	Donor         string // what the donor does about it
	Operator      string // what whoever runs it can do; empty: nothing
	Administrator string // what is asked of the network's administrator; empty: nothing
}

// AdviceOn tells what a cause means. Every one of Causes means something.
func AdviceOn(c Cause) Advice {
	w := causeWords[c]
	return Advice{Means: w.short, Donor: w.donor, Operator: w.operator, Administrator: w.admin}
}

// words are what a cause means to people.
type words struct {
	short    string // in brackets behind a failure
	donor    string // what the donor does about it
	operator string // what whoever runs it can do
	admin    string // what is asked of the network's administrator; empty: nothing
}

var causeWords = map[Cause]words{
	AllBlocked: {"the network lets nothing out", "It keeps trying, at most once a minute to each relay, and joins by itself when something gets out.",
		"Ask the administrator for TCP 443 to the relays, or for the address of a proxy: set it as HTTPS_PROXY.", "allow outgoing TCP to port 443"},
	UDPBlocked:      {"the network drops UDP", "It joins over TCP, or over WebSocket on port 443.", "", ""},
	UDPPortBlocked:  {"the network drops UDP to this port", "It uses other ports, and TCP.", "", ""},
	QUICBlocked:     {"the network drops QUIC", "It joins over TCP, or over WebSocket on port 443.", "", ""},
	TCPPortsBlocked: {"the network stops TCP to this port", "It joins over WebSocket and TLS on port 443, which is what such networks let out.", "", "allow outgoing TCP to the addresses below"},
	MultistreamKilled: {"the network kills what looks like libp2p", "It joins by QUIC, or inside TLS on port 443, where the handshake cannot be seen.", "",
		"stop treating the libp2p handshake as an attack; it is the transport of a volunteer computing project"},
	HandshakeKilled: {"the network kills the handshake", "It joins by QUIC, or inside TLS on port 443.", "", "stop cutting flows that open with /multistream/1.0.0"},
	ALPNKilled:      {"the network kills TLS that names libp2p", "It uses Noise, and inside TLS on port 443.", "", ""},
	NameKilled: {"the network lets TLS through to some names only", "It tries relays of other names, and other transports.", "List a relay whose name the network permits.",
		"permit TLS to the names of the relays"},
	LargeHelloKilled: {"the network drops large TLS hellos", "It begins small: Noise first, whose first message has 34 bytes.", "", "update the firewall: it drops TLS hellos with post-quantum key shares"},
	BytesCapped:      {"the network freezes connections after some bytes", "It uses other transports.", "", ""},
	FlowsLimited:     {"the network limits how many connections one machine has", "It dials few at once.", "", ""},
	IPv6Broken:       {"the network's IPv6 leads nowhere", "It uses IPv4 beside it, without waiting.", "", "mend or switch off IPv6: hosts have addresses and a route, and nothing is answered"},
	ProxyRequired: {"nothing gets out but through the proxy", "It joins by WebSocket through the proxy's CONNECT.", "",
		"let the proxy connect (CONNECT) to port 443 of the relays"},
	ProxyAuth: {"the proxy wants a password", "It joins through the proxy with the credentials that it has been given.",
		"Put user and password into the proxy's URL (HTTPS_PROXY), or into the credentials file; they are never logged.",
		"let the proxy connect (CONNECT) to port 443 of the relays, for a user that this machine is given"},
	ProxyCannotReach: {"the proxy cannot reach it", "It uses the other addresses of its list.", "", ""},
	ProxyPorts:       {"the proxy connects to some ports only", "It uses relays on port 443.", "", ""},
	TLSIntercepted: {"TLS is opened on its way", "It joins all the same where this machine trusts the inspector: Noise inside proves who the relay is, and the connection is marked as inspected.",
		"--refuse-inspection keeps the donor from joining so. Where the inspector is not trusted, install its authority on this machine.", "exempt the relays' names from TLS inspection"},
	TLSUntrusted: {"TLS is opened on its way, by somebody this machine does not trust", "It does not join by TLS; whatever else the network lets out, it tries.",
		"Install the inspector's authority on this machine, if you trust it.", "exempt the relays' names from TLS inspection"},
	TLSServersRefused:  {"the inspector refuses relays that sign their own certificates", "It uses relays with a certificate of a public authority.", "", "exempt the relays' names from TLS inspection"},
	HTTPIntercepted:    {"plain HTTP is read on its way", "It uses TLS.", "", ""},
	UpgradeStripped:    {"nothing may become WebSocket", "It falls back to ordinary HTTPS requests.", "", "allow WebSocket to the relays"},
	SYNAnswered:        {"something answers every SYN itself", "It believes only handshakes, not connections.", "", ""},
	PortalClosed:       {"a captive portal wants somebody to log in", "It waits, and joins by itself within seconds of the login.", "Open any page in a browser on this network, and log in.", ""},
	DNSBlocked:         {"the network's resolver answers nothing", "It asks public resolvers over HTTPS and TLS, and uses addresses that need no name.", "", ""},
	DNSInternalOnly:    {"the network's resolver knows no public names", "It asks public resolvers over HTTPS and TLS, through the proxy where there is one, and uses addresses that need no name.", "", ""},
	DNSTXTBlocked:      {"the network's resolver denies text records", "It asks public resolvers over HTTPS and TLS, and uses addresses that need no name.", "", "let the resolver answer TXT queries"},
	DNSLies:            {"the network's resolver makes up answers", "It believes encrypted resolvers, and peers only when they prove who they are.", "", ""},
	UDPTimeout:         {"silent UDP flows are forgotten", "It says something every 5 seconds.", "", ""},
	TCPTimeout:         {"silent TCP flows are forgotten", "It says something every 5 seconds.", "", ""},
	LifetimeLimited:    {"flows are cut at some age", "It holds two relays at a time, and replaces what is cut within seconds.", "", ""},
	MTUBlackHole:       {"full-size packets vanish", "It uses smaller segments, and keeps to TCP where QUIC's packets do not fit.", "", "let ICMP \"fragmentation needed\" and \"packet too big\" through, or clamp the MSS to the path's MTU"},
	Slow:               {"the network is slow", "It waits longer before it gives up.", "", ""},
	Lossy:              {"the network loses packets", "It tries again.", "", ""},
	Throttled:          {"the network carries little", "Large jobs take longer.", "", ""},
	NATPerDestination:  {"the NAT gives another port to everybody", "Jobs reach it through its relays, since no hole can be punched.", "", ""},
	NATRebinds:         {"the NAT forgets all flows at once", "It reconnects within seconds.", "", ""},
	NATNoHairpin:       {"neighbours do not reach each other by the outside", "Neighbours behind the same NAT reach it by addresses of their own network, or through its relays.", "", ""},
	IPv4ByTranslation:  {"IPv4 is reached by translation only", "It finds the translation's prefix, and dials through it.", "", ""},
	NoControl:          {"it cannot be told why: nobody else has tried", "It tries every other way.", "Run wce2e diagnose with a second host on another network: only then can a network be told from a dead relay.", ""},
	NameUnknown:        {"there is no such name", "It uses the other addresses of its list.", "", ""},
	TargetDead:         {"it does not answer from elsewhere either", "It uses the other addresses of its list.", "", ""},
	RelayRefuses:       {"it answers, and relays for nobody or not for us", "It asks other relays.", "", ""},
	WrongPeer:          {"somebody else answers there", "It uses the other addresses of its list.", "", ""},
	ClockSkewed:        {"this machine's clock is wrong", "It joins by transports that look at no clock.", "Set the clock, or let NTP do it.", ""},
	DaemonDied:         {"the daemon died", "", "Look at its last words, above; its log has more.", ""},
	LocalFirewall:      {"this machine's own firewall says no", "It keeps trying.", "Allow wce2e to go out in this machine's firewall.", ""},
	NoIPv6:             {"this machine has no IPv6", "It uses IPv4.", "", ""},
	NoNetwork:          {"this machine is on no network", "It waits for a network, and joins by itself.", "", ""},
	CertificateInvalid: {"the relay's own certificate is bad", "It uses the other addresses of its list.", "", ""},
}

// letAnythingThrough is asked for where it is not only libp2p that is stopped.
const letAnythingThrough = "let through what is spoken on connections to the addresses below; it is libp2p, the transport of a volunteer computing project"

// advice is what follows from a diagnosis: for the donor, for whoever runs it,
// and a paragraph for the administrator of the network.
func advice(l *look, d Diagnosis) (donor, operator, administrator string) {
	var does, can, wants []string
	for _, f := range d.Causes {
		w := causeWords[f.Cause]
		if f.Cause == MultistreamKilled && l.anythingDies() {
			w.admin = letAnythingThrough
		}
		does, can, wants = appendNew(does, w.donor), appendNew(can, w.operator), appendNew(wants, w.admin)
	}
	if len(d.Ways) > 0 && !slices.ContainsFunc(d.Causes, func(f Finding) bool { return !f.Cause.PeersOnly() }) {
		does = slices.Insert(does, 0, "Nothing is in the way to a relay.")
	}
	if len(d.Ways) > 0 {
		does = append(does, fmt.Sprintf("A relay is reached by %s.", listedInOrder(d.Ways)))
	}
	if len(wants) > 0 {
		administrator = letter(l, d, wants)
	}
	return strings.Join(does, " "), strings.Join(can, " "), administrator
}

// letter is for somebody who has never heard of us: what was seen, what is asked
// for, and with whom the machine wants to talk. Nothing in it is secret.
func letter(l *look, d Diagnosis, wants []string) string {
	var saw []string
	for _, f := range d.Causes {
		if causeWords[f.Cause].admin != "" {
			saw = append(saw, f.Sentence)
		}
	}
	text := fmt.Sprintf("A machine on your network runs a World Compute donor, which computes for volunteer science projects. It opens outgoing connections only. %s ",
		strings.Join(saw, " "))
	text += fmt.Sprintf("Please %s.", strings.Join(wants, "; "))
	if to := l.destinations(); len(to) > 0 {
		text += " The machine wants to reach " + strings.Join(to, ", ") + "."
	}
	return text
}

// most addresses that a letter names: an administrator reads a paragraph.
const lettersAddresses = 6

// destinations are addresses as an administrator writes rules, the same for the
// same network: those at which a relay granted a reservation to anybody come first.
func (l *look) destinations() []string {
	var relays, others []string
	for _, w := range l.ways {
		at := w.hostPort()
		if at == "" || l.elsewhere(w) == fails || isIPv6(at) && !l.hasIPv6() {
			continue
		}
		proto := "TCP "
		if w.transport == "quic-v1" || w.transport == "webtransport" {
			proto = "UDP "
		}
		if l.relays(w) {
			relays = appendNew(relays, proto+at)
		} else {
			others = appendNew(others, proto+at)
		}
	}
	slices.Sort(relays)
	slices.Sort(others)
	list := slices.Concat(relays, others)
	return list[:min(len(list), lettersAddresses)]
}

// relays tells whether a reservation was granted at the far end of a way, to this
// host or to another.
func (l *look) relays(w *way) bool {
	return w.passed(Reserve) || slices.ContainsFunc(l.ctrl[wayKey{w.addr, w.transport, ""}], func(o *way) bool { return o.passed(Reserve) })
}

func appendNew(list []string, s string) []string {
	if s == "" || slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

func listedInOrder(list []string) string {
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:len(list)-1], ", ") + " and " + list[len(list)-1]
}
