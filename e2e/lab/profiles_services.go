//go:build linux

package lab

// serviceProfiles are networks whose routers do more for their hosts than let
// them out.
var serviceProfiles = []Profile{
	{"upnp", "homes whose router lends ports to whoever asks by UPnP or NAT-PMP; otherwise as at home", unhindered.exposed(),
		build{rules: []rule{masquerade, mappedPorts}, services: []service{gatewayDevice, natPMP}}},
	{"ipv6-only-nat64", "mobile carriers: hosts have IPv6 only, and reach IPv4 through NAT64, by addresses that the resolver makes (DNS64)",
		// Not directly: peers tell a host its IPv4 address, which libp2p takes for none of an IPv6 socket's.
		unhindered.relayed().because(IPv4ByTranslation),
		build{nat64: true, rules: []rule{masquerade, passNAT64}, services: []service{nat64, dns64}}},
}
