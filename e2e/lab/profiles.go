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
