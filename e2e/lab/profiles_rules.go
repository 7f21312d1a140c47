//go:build linux

package lab

import "time"

// Profiles that are made of firewall rules, and of the routers they stand in.
var ruleProfiles = []Profile{
	{"nat-pool", "a campus: NAT to a pool of four addresses, the next one for every flow", unhindered.byLuck().because(NATPerDestination),
		build{rules: []rule{addressPool}}},
	{"double-nat", "a home router that is a customer of a carrier-grade NAT: two translations, both as at home", unhindered.behindAnother(),
		build{rules: []rule{masquerade, behindCarrier}}},
	{"cloud-1to1", "a cloud: a public address for each host, translated one to one, and a security group that lets nothing in", unhindered,
		build{rules: []rule{addressEach}}},
	{"cloud-1to1-open", "the same with port 4001 opened in the security group", unhindered.exposed(),
		build{rules: []rule{addressEach, letIn(4001)}}},
	{"port-forward", "a home whose owner has forwarded port 4001 of the router to the first of its machines", unhindered.exposed(),
		build{rules: []rule{masquerade, forwardPort(4001)}}},
	{"no-hairpin", "a home in which two hosts reach each other by their addresses inside only: what they send to the public one is dropped", unhindered,
		build{rules: []rule{masquerade, dropHairpin}}},
	{"hairpin", "a home whose router turns around what its hosts send to each other's public side", unhindered,
		build{rules: []rule{masquerade, hairpin}}},
	{"udp-dns-only", "a hotel: of UDP nothing but port 53, any TCP", through(tcpWays, UDPBlocked),
		build{rules: []rule{masquerade, onlyUDP(53)}}},
	{"tcp-443-only", "a guest network: TCP to port 443 and nothing else", through(webWays, UDPBlocked, TCPPortsBlocked),
		build{rules: []rule{masquerade, dropUDP, onlyTCP(443)}}},
	{"udp-idle-8s", "a router shorter of memory than QUIC is chatty: UDP flows are forgotten after 8 s of silence", unhindered.because(UDPTimeout),
		build{rules: []rule{masquerade, idleUDP(8 * time.Second)}}},
	{"udp-idle-30s", "many home routers: UDP flows are forgotten after 30 s of silence, answered or not", unhindered.because(UDPTimeout),
		build{rules: []rule{masquerade, idleUDP(30 * time.Second)}}},
	{"tcp-idle-60s", "a small office's firewall: TCP flows are forgotten after a minute of silence, and neither end is told", unhindered.because(TCPTimeout),
		build{rules: []rule{masquerade, idleTCP(60 * time.Second)}}},
	{"tcp-idle-300s", "a cloud's NAT or balancer: the same after five minutes", unhindered.because(TCPTimeout),
		build{rules: []rule{masquerade, idleTCP(300 * time.Second)}}},
	{"idle-rst", "a firewall that tells: TCP flows are forgotten after 30 s of silence, and who then still speaks is reset", unhindered.because(TCPTimeout),
		build{rules: []rule{masquerade, idleReset(30 * time.Second)}}},
	{"lifetime-5m", "a firewall that ends every flow after five minutes, however busy it is",
		Truth{Ways: everyWay, Direct: punched, Lifetime: 5 * time.Minute, Causes: []Cause{FlowLifetime}},
		build{rules: []rule{masquerade, lifetime(5 * time.Minute)}}},
	{"conn-limit-8", "a hotel that counts: eight TCP flows and eight UDP flows at a time for each host, and what is beyond is refused", unhindered.because(FlowsLimited),
		build{rules: []rule{masquerade, atMostFlows(8)}}},
	{"mss-clamp", "a tunnel of 1400 bytes that loses what is longer, and has TCP announce shorter segments", unhindered.because(MTUBlackHole),
		build{rules: []rule{masquerade, linkOf(1400), clampMSS(1400)}}},
}
