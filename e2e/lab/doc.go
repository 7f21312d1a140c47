// Package lab is the simulated internet: networks behind routers with firewall
// and NAT rules, links with latency, DNS, public bystanders, and hosts that are
// reached over SSH like real machines. It needs Linux, no root, no package and
// no network.
//
//	          suite ── unix socket per host ──────────┐ (from outside the network)
//	            │                                     │
//	            │ pipe: its end is the lab's end      │
//	        lab init (PID 1 of a PID namespace)       │
//	            │                                     │
//	   ┌────────┴─────────── core ──────────────┐     │
//	   │ routes between sites, public resolvers │     │
//	   └─┬─────────┬──────────┬──────────┬──────┘     │
//	   wire      wire       wire       wire   latency, one access link each
//	     │         │          │          │            │
//	 router     router     relay1    bystander1       │
//	(campus)    (house)    (open: no router)          │
//	     │ bridge  │ bridge   │                       │
//	 tensor02   laptop        └── each host: network, mount, PID, UTS and IPC
//	                              namespaces of its own, an SSH server ─┘
//
// The suite runs itself again as lab init, in new namespaces; lab init runs
// itself again as the PID 1 of every host. Routers, core and wires are
// namespaces without processes. When the pipe from the suite closes, however the
// suite ended, lab init removes the lab's folder and exits, and as PID 1 it takes
// every process along; namespaces go with the last process that holds them.
//
// What networks run beyond rules (proxies, TLS inspection, portals, resolvers
// that lie) are services: lab init serves them on sockets inside the routers'
// namespaces. The core has the public resolvers of the real internet at their
// real addresses, over TLS and HTTPS as well; every host trusts the authority that
// signs for them, which is made anew for each lab. It has signed for the hosts
// with public addresses, too: their certificates are in ~/tls.
//
// A network's profile is a list of firewall rules in its router, and profiles
// compose: "symmetric + udp-blocked" has the rules of both. Some put the router of
// a provider between the network's own and the wire. While the lab stands
// the suite gives it orders through the pipe: another profile for a network, a
// reboot of a router, a dead link. There is IPv6 only where a profile of the lab
// asks for it.
//
// Links also lose, delay and reorder packets, have a rate and an MTU, as their
// network's inventory and profile say; boxes in them follow TCP flows, for what no
// single packet tells. All of it is done in this process, on every kernel alike.
//
// Links have latency because a lab without it lies: with 0 ms, TCP hole
// punching between two ordinary home routers failed 3 of 3 times, with 10 ms it
// went direct. Addresses of the core are ordinary public ones, since libp2p does
// not take the documentation ranges for public.
package lab
