//go:build linux

package lab

import "slices"

const open = "open"

// build is how a profile is made.
type build struct {
	public bool   // no router: hosts have addresses on the core
	rules  []rule // of the router, in order
	// services run on the router.
	services []service
}

// catalogue is in the order in which a reader learns them.
var catalogue = []Profile{
	{open, "a VPS: public addresses, nothing in between", build{public: true}},
	{"home", "most homes: NAT that keeps a port's mapping for all destinations, unsolicited packets dropped",
		build{rules: []rule{masquerade}}},
	{"symmetric", "pfSense and enterprise NAT: another port for every destination, unsolicited packets dropped",
		build{rules: []rule{masqueradeRandom}}},
	{"udp-blocked", "companies: NAT, nothing but TCP out, unsolicited packets dropped",
		build{rules: []rule{masquerade, dropUDP}}},
	{"institutional", "a university: default-deny inbound, UDP dropped, TCP dropped silently but to ports 80 and 443",
		build{rules: []rule{masquerade, dropUDP, onlyTCP(80, 443)}}},
	{"dartmouth", "what tensor02's report describes: any TCP port connects, the plain libp2p handshake is then swallowed, UDP dropped, inbound denied",
		build{rules: []rule{masquerade, dropUDP, swallow(multistreamHeader)}}},
	{"blocked", "nothing gets out, and nobody is told",
		build{rules: []rule{masquerade, dropAll}}},
	{"proxy-only", "an office: nothing gets out but through the HTTP proxy that the environment names, and public names are unknown",
		build{rules: []rule{dropAll}, services: []service{httpProxy{}.service(), httpAnnounced, internal}}},
	{"proxy-auth", "an office whose HTTP proxy wants a user and a password (Basic), which are in a file on the host",
		build{rules: []rule{dropAll}, services: []service{httpProxy{password: true}.service(), httpAnnounced, credentials, internal}}},
	{"proxy-443", "an office whose HTTP proxy lets CONNECT reach port 443 only",
		build{rules: []rule{dropAll}, services: []service{httpProxy{ports: []uint16{443}}.service(), httpAnnounced, internal}}},
	{"proxy-wpad", "an office whose HTTP proxy is announced by a PAC file at http://wpad.corp.lan/wpad.dat, and nowhere else",
		build{rules: []rule{dropAll}, services: []service{httpProxy{}.service(), wpad, internal}}},
	{"proxy-socks", "an office with a SOCKS5 proxy instead",
		build{rules: []rule{dropAll}, services: []service{socksProxy, socksAnnounced, internal}}},
	{"tls-intercept", "an office that reads TLS on 443 with an authority of its own, which its machines trust; but for HTTP on 80, all else is dropped",
		build{rules: []rule{masquerade, redirectTLS, dropUDP, onlyTCP(80)}, services: []service{interception{}.service(), trusted}}},
	{"tls-intercept-untrusted", "the same, seen from a machine that does not trust that authority",
		build{rules: []rule{masquerade, redirectTLS, dropUDP, onlyTCP(80)}, services: []service{interception{}.service()}}},
	{"tls-intercept-strict", "the same, trusted, and servers need a certificate of a public authority",
		build{rules: []rule{masquerade, redirectTLS, dropUDP, onlyTCP(80)}, services: []service{interception{verify: true}.service(), trusted}}},
	{"proxy-no-upgrade", "an office that reads TLS on 443, lets nothing upgrade to WebSocket, and holds requests back until they are whole; all else is dropped",
		build{rules: []rule{redirectTLS, dropAll}, services: []service{interception{stripUpgrade: true}.service(), trusted}}},
	{"transparent-80", "a provider that puts a proxy into the way of plain HTTP, unasked; it lets nothing upgrade",
		build{rules: []rule{masquerade, redirectPlain}, services: []service{interception{plain: true, stripUpgrade: true}.service()}}},
	{"dns-no-txt", "a resolver that denies the text records of /dnsaddr names",
		build{rules: []rule{masquerade}, services: []service{withoutDNSAddr}}},
	{"dns-hijack", "whatever server is asked, over UDP or TCP, every name is the router's address",
		build{rules: []rule{masquerade, redirectDNS}, services: []service{lies}}},
	{"captive-portal", "a hotel: until somebody has logged in at the page to which HTTP is sent, all else is refused",
		build{rules: []rule{masquerade, untilLogin}, services: []service{portal}}},
}

// Profiles are those that inventories may name.
func Profiles() []Profile { return slices.Clone(catalogue) }

func profileNamed(name string) (Profile, bool) {
	i := slices.IndexFunc(catalogue, func(p Profile) bool { return p.Name == name })
	if i < 0 {
		return Profile{}, false
	}
	return catalogue[i], true
}

func profileNames() []string {
	var names []string
	for _, p := range catalogue {
		names = append(names, p.Name)
	}
	return names
}
