//go:build linux

package lab

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const open = "open"

// build is how a profile is made.
type build struct {
	public bool   // no router: hosts have addresses on the core
	ipv6   bool   // the network has IPv6 as well, without translation
	nat64  bool   // the network has IPv6 only, whether or not the internet has it
	rules  []rule // of the router, in order
	// services run on the router.
	services []service
	// lacks is the rule or service that was left out, to see its proof fail.
	lacks string
}

// with is both: what either of them stops is stopped.
func (b build) with(other build) build {
	services := slices.Clone(b.services)
	for _, s := range other.services {
		if !slices.ContainsFunc(services, func(o service) bool { return o.name == s.name && o.does == s.does }) {
			services = append(services, s) // two of the same would want one port
		}
	}
	return build{public: b.public || other.public, ipv6: b.ipv6 || other.ipv6, nat64: b.nat64 || other.nat64,
		rules: slices.Concat(b.rules, other.rules), services: services}
}

// rebound comes back from other ports. QUIC moves its connections there (RFC 9000,
// section 9), TCP cannot.
var rebound = Truth{Ways: everyWay, Direct: punched, Severs: tcpWays,
	Events: []Event{{After: 5 * time.Second, Do: "reboot-router"}}, Causes: []Cause{NATRebinds}}

// loggedIn is after somebody has logged in.
var loggedIn = Truth{Ways: everyWay, Direct: punched, Events: []Event{{After: 10 * time.Second, Do: "login"}}, Causes: []Cause{CaptivePortal}}

// needsIPv6 tells whether there is IPv6 in the network.
func (b build) needsIPv6() bool { return b.ipv6 || b.nat64 }

// catalogue is in the order in which a reader learns them.
var catalogue = slices.Concat(baseProfiles, ruleProfiles, wireProfiles, serviceProfiles)

var baseProfiles = []Profile{
	{open, "a VPS: public addresses, nothing in between", unhindered.exposed(), build{public: true}},
	{"home", "most homes: NAT that keeps a port's mapping for all destinations, unsolicited packets dropped", unhindered,
		build{rules: []rule{masquerade}}},
	{"full-cone", "old home routers: NAT whose mapping, once made, lets in whoever sends to it", unhindered.exposed(),
		build{rules: []rule{fullCone}}},
	{"address-restricted", "home routers made for telephony: the mapping lets in those hosts that were sent something, from any port", unhindered,
		build{rules: []rule{addressRestricted}}},
	{"symmetric", "pfSense and enterprise NAT: another port for every destination, unsolicited packets dropped", unhindered.relayed().because(NATPerDestination),
		build{rules: []rule{masqueradeRandom}}},
	{"cgnat-ports", "a mobile ISP: 64 ports for all that a subscriber does, another one for every destination", unhindered.byLuck().because(NATPerDestination),
		build{rules: []rule{toRandomPorts(50000, 50063)}}},
	{"nat-rebind", "a home whose router reboots: NAT as at home, but a port is drawn, and drawn again once flows are forgotten", rebound,
		build{rules: []rule{toPorts(10000, 29999)}}},
	{"udp-blocked", "companies: NAT, nothing but TCP out, unsolicited packets dropped", through(tcpWays, UDPBlocked),
		build{rules: []rule{masquerade, dropUDP}}},
	{"udp-443-blocked", "companies that want browsers to fall back from QUIC, the cheap way: UDP to port 443 dropped", unhindered.because(UDPPortsBlocked),
		build{rules: []rule{masquerade, dropUDPTo(443)}}},
	{"quic-blocked", "companies that want to inspect: packets that begin a QUIC v1 connection dropped, at any port, other UDP passes", through(tcpWays, QUICBlocked),
		build{rules: []rule{masquerade, dropQUIC}}},
	{"institutional", "a university: default-deny inbound, UDP dropped, TCP dropped silently but to ports 80 and 443", through(webWays, UDPBlocked, TCPPortsBlocked),
		build{rules: []rule{masquerade, dropUDP, onlyTCP(80, 443)}}},
	{"institutional-reject", "a university whose firewall says no at once: TCP resets and ICMP errors in place of silence", through(webWays, UDPBlocked, TCPPortsBlocked),
		build{rules: []rule{masquerade, rejectUDP, rejectOtherTCP(80, 443)}}},
	{"port-allow-list", "a hospital: TCP to ports 22, 53, 80 and 443, UDP to port 53, the rest dropped silently", through(webWays, UDPBlocked, TCPPortsBlocked),
		build{rules: []rule{masquerade, onlyTCP(22, 53, 80, 443), onlyUDP(53)}}},
	{"dartmouth", "what tensor02's report describes: any TCP port connects, the plain libp2p handshake is then swallowed, UDP dropped, inbound denied", through(webWays, UDPBlocked, MultistreamBlocked),
		build{rules: []rule{masquerade, dropUDP, swallow(multistreamHeader)}}},
	{"dpi-multistream-rst", "a firewall that knows libp2p: TCP that opens with /multistream/1.0.0 is reset", through(notTCP, MultistreamBlocked),
		build{rules: []rule{masquerade, resetFlow(multistreamHeader)}}},
	{"dpi-multistream-drop", "the same, silently: the flow is swallowed from there on", through(notTCP, MultistreamBlocked),
		build{rules: []rule{masquerade, swallow(multistreamHeader)}}},
	{"dpi-libp2p-alpn", "a firewall that reads TLS hellos: TCP that offers the protocol libp2p is reset", unhindered.because(ALPNBlocked),
		build{rules: []rule{masquerade, resetALPN("libp2p")}}},
	{"doh-only", "a network that wants to see every query: ports 53 and 853 dropped, the router's own resolver included", unhindered.because(DNSBlocked),
		build{rules: []rule{masquerade, dropNames}}},
	{"pmtu-blackhole", "a tunnel behind a firewall that filters ICMP: packets over 1280 bytes vanish, and nobody is told", through(tcpWays, MTUBlackHole),
		build{rules: []rule{masquerade, linkOf(1280)}}},
	{"syn-proxy", "a DDoS box: it answers every SYN itself, so dead hosts seem to connect", Truth{Ways: everyWay, Direct: []string{wayQUIC}, Causes: []Cause{SYNProxy}},
		build{rules: []rule{masquerade, synProxy}}},
	{"udp-idle-15s", "a router short of memory: UDP flows are forgotten after 15 s of silence", unhindered.because(UDPTimeout),
		build{rules: []rule{masquerade, idleUDP(15 * time.Second)}}},
	{"tcp-idle-30s", "the same for TCP after 30 s: what then still comes is dropped, and neither end is told", unhindered.because(TCPTimeout),
		build{rules: []rule{masquerade, idleTCP(30 * time.Second)}}},
	{"ipv6-stateful", "an ISP with IPv6: no translation, unsolicited packets dropped; IPv4 as at home", unhindered,
		build{ipv6: true, rules: []rule{masquerade}}},
	{"ipv6-broken", "an ISP whose IPv6 leads nowhere: hosts have addresses and a route, every packet vanishes behind the router", unhindered.because(IPv6Broken),
		build{ipv6: true, rules: []rule{masquerade, dropIPv6}}},
	{"blocked", "nothing gets out, and nobody is told", through(nil, AllBlocked),
		build{rules: []rule{dropAll}}},
	{"proxy-only", "an office: nothing gets out but through the HTTP proxy that the environment names, and public names are unknown", through(webWays, ProxyRequired, DNSInternalOnly),
		build{rules: []rule{dropAll}, services: []service{httpProxy{}.service(), httpAnnounced, internal}}},
	{"proxy-auth", "an office whose HTTP proxy wants a user and a password (Basic), which are in a file on the host", through(webWays, ProxyRequired, ProxyAuthRequired, DNSInternalOnly),
		build{rules: []rule{dropAll}, services: []service{httpProxy{password: true}.service(), httpAnnounced, credentials, internal}}},
	{"proxy-443", "an office whose HTTP proxy lets CONNECT reach port 443 only", through(webWays, ProxyRequired, ProxyPortsLimited, DNSInternalOnly),
		build{rules: []rule{dropAll}, services: []service{httpProxy{ports: []uint16{443}}.service(), httpAnnounced, internal}}},
	{"proxy-wpad", "an office whose HTTP proxy is announced by a PAC file at http://wpad.corp.lan/wpad.dat, and nowhere else", through(webWays, ProxyRequired, DNSInternalOnly),
		build{rules: []rule{dropAll}, services: []service{httpProxy{}.service(), wpad, internal}}},
	{"proxy-socks", "an office with a SOCKS5 proxy instead", through(tcpWays, ProxyRequired, DNSInternalOnly).relayed(),
		build{rules: []rule{dropAll}, services: []service{socksProxy, socksAnnounced, internal}}},
	{"tls-intercept", "an office that reads TLS on 443 with an authority of its own, which its machines trust; but for HTTP on 80, all else is dropped", through(webWays, TLSIntercepted, UDPBlocked, TCPPortsBlocked),
		build{rules: []rule{masquerade, redirectTLS, dropUDP, onlyTCP(80)}, services: []service{interception{}.service(), trusted}}},
	{"tls-intercept-untrusted", "the same, seen from a machine that does not trust that authority", through(nil, TLSIntercepted, TLSUntrusted, UDPBlocked, TCPPortsBlocked),
		build{rules: []rule{masquerade, redirectTLS, dropUDP, onlyTCP(80)}, services: []service{interception{}.service()}}},
	{"tls-intercept-strict", "the same, trusted, and servers need a certificate of a public authority", through(nil, TLSIntercepted, TLSServersRefused, UDPBlocked, TCPPortsBlocked),
		build{rules: []rule{masquerade, redirectTLS, dropUDP, onlyTCP(80)}, services: []service{interception{verify: true}.service(), trusted}}},
	{"proxy-no-upgrade", "an office that reads TLS on 443, lets nothing upgrade to WebSocket, and holds requests back until they are whole; all else is dropped", through([]string{wayHTTPS}, TLSIntercepted, UpgradeStripped, UDPBlocked, TCPPortsBlocked),
		build{rules: []rule{redirectTLS, dropAll}, services: []service{interception{stripUpgrade: true}.service(), trusted}}},
	{"transparent-80", "a provider that puts a proxy into the way of plain HTTP, unasked; it lets nothing upgrade", unhindered.because(HTTPIntercepted),
		build{rules: []rule{masquerade, redirectPlain}, services: []service{interception{plain: true, stripUpgrade: true}.service()}}},
	{"dns-no-txt", "a resolver that denies the text records of /dnsaddr names", unhindered.because(DNSTXTBlocked),
		build{rules: []rule{masquerade}, services: []service{withoutDNSAddr}}},
	{"dns-hijack", "whatever server is asked, over UDP or TCP, every name is the router's address", unhindered.because(DNSLies),
		build{rules: []rule{masquerade, redirectDNS}, services: []service{lies}}},
	{"captive-portal", "a hotel: until somebody has logged in at the page to which HTTP is sent, all else is refused", loggedIn,
		build{rules: []rule{masquerade, untilLogin}, services: []service{portal}}},
}

// Profiles are those that inventories may name, alone or joined by + as in
// "symmetric + udp-blocked": all that any of them stops is stopped.
func Profiles() []Profile {
	var all []Profile
	for _, name := range profileNames() {
		p, err := profileNamed(name)
		if err != nil {
			panic(err) // a profile that contradicts itself never passed a test
		}
		all = append(all, p)
	}
	return all
}

// ProfileNamed finds a profile by what an inventory says, which may be several
// joined by +.
func ProfileNamed(names string) (Profile, error) { return compose(names) }

// Rules are what p is made of, those first that every network has.
func (p Profile) Rules() []Rule {
	var list []Rule
	for _, c := range p.claims() {
		if c.name != waysName {
			list = append(list, Rule{c.name, c.does})
		}
	}
	return list
}

// profileNamed finds a profile, or composes those that + joins. Their order does
// not matter: rules stand as in the catalogue.
func profileNamed(names string) (Profile, error) {
	names, lacks, mutant := strings.Cut(names, without)
	p, err := compose(names)
	if err != nil || !mutant {
		return p, err
	}
	return p.without(lacks)
}

// without stands between a profile and what is left out of it. Inventories
// and command lines cannot write it: the parts of their names have no blanks.
const without = " without "

// without is p as it would be if what it says of one rule or service were not
// true: the rule is still there, and does nothing.
func (p Profile) without(name string) (Profile, error) {
	p.Name += without + name
	p.lacks = name
	p.rules, p.services = slices.Clone(p.rules), slices.Clone(p.services)
	found := true
	switch name {
	case reachable.name: // it is behind NAT
		p.public, p.rules = false, append(p.rules, masquerade)
	case ownIPv6.name:
		p.ipv6 = false
	default:
		found = false
	}
	for i, r := range p.rules {
		if r.name == name {
			p.rules[i].apply, found = r.instead, true
		}
	}
	for i, s := range p.services {
		if s.name == name {
			p.services[i].start, p.services[i].equip, found = nil, nil, true
		}
	}
	if !found {
		return Profile{}, fmt.Errorf("%s: there is no rule or service %q", p.Name, name)
	}
	return p, nil
}

func compose(names string) (Profile, error) {
	var places []int
	for name := range strings.SplitSeq(names, "+") {
		name = strings.TrimSpace(name)
		i := slices.IndexFunc(catalogue, func(p Profile) bool { return p.Name == name })
		if i < 0 {
			return Profile{}, fmt.Errorf("unknown profile %q", name)
		}
		places = append(places, i)
	}
	slices.Sort(places)
	places = slices.Compact(places)
	whole := catalogue[places[0]]
	for _, i := range places[1:] {
		p := catalogue[i]
		whole = Profile{whole.Name + " + " + p.Name, whole.Sentence + "; " + p.Sentence, whole.Truth.with(p.Truth), whole.build.with(p.build)}
	}
	if err := whole.contradiction(); err != nil {
		return whole, err
	}
	whole.Truth = whole.Truth.settled()
	if whole.turnsNothingAround() {
		whole.Truth.Causes = slices.Concat(whole.Truth.Causes, []Cause{NATNoHairpin})
	}
	whole.rules = slices.Concat(whole.base(), whole.distinct())
	return whole, nil
}

// distinct are the rules of a composed profile that say something of their own:
// not those that stand there twice, nor the NAT that another one takes the place of.
func (b build) distinct() []rule {
	translates := b.draft().nat.kind != ""
	var list []rule
	for _, r := range b.rules {
		replaced := r.name == masquerade.name && translates
		if !replaced && !slices.ContainsFunc(list, func(o rule) bool { return o.name == r.name && o.does == r.does }) {
			list = append(list, r)
		}
	}
	return list
}

// contradiction is what keeps a composed profile from being one network.
func (p Profile) contradiction() error {
	if p.public && len(p.rules) > 0 {
		return fmt.Errorf("%q: %s is a network without a router, so nothing can be added to it", p.Name, open)
	}
	if err := p.draft().err; err != nil {
		return fmt.Errorf("%q: %w", p.Name, err)
	}
	of := map[uint16]string{}
	for i, s := range p.services {
		if j := slices.IndexFunc(p.services[:i], func(o service) bool { return o.name == s.name }); j >= 0 {
			return fmt.Errorf("%q: a network has one %s, not both %q and %q", p.Name, s.name, p.services[j].does, s.does)
		}
		for _, n := range s.ports {
			if other, taken := of[n]; taken {
				return fmt.Errorf("%q: a router has one service on port %d, not both %q and %q", p.Name, n, other, s.does)
			}
			of[n] = s.does
		}
	}
	return nil
}

func profileNames() []string {
	var names []string
	for _, p := range catalogue {
		names = append(names, p.Name)
	}
	return names
}
