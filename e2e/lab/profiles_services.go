//go:build linux

package lab

// serviceProfiles are networks whose routers do more for their hosts than let
// them out.
var serviceProfiles = []Profile{
	{"upnp", "homes whose router lends ports to whoever asks by UPnP or NAT-PMP; otherwise as at home", Truth{
		Ways: []string{"quic-v1", "tcp", "webtransport", "wss"}, Direct: []string{"quic-v1", "tcp"},
		Verdicts: map[string]string{"firewall": "inconclusive"},
	}, build{rules: []rule{masquerade, mappedPorts}, services: []service{gatewayDevice, natPMP}}},
}
