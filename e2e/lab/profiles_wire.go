//go:build linux

package lab

import "time"

// wireProfiles are those whose network is worse than its router: by the link
// outside it, or by a box in that link.
var wireProfiles = []Profile{
	{"loss-5", "Wi-Fi at the edge of its range: one packet in twenty is lost, each way", unhindered.because(Lossy),
		build{rules: []rule{masquerade, lossy(5)}}},
	{"wifi-bad", "Wi-Fi on a train: packets are lost, come late, and out of order", unhindered.because(Lossy),
		build{rules: []rule{masquerade, lossy(2), jittery(30 * time.Millisecond), reordering(2)}}},
	{"satellite", "a geostationary satellite: 300 ms up and down again, each way", unhindered.because(Slow),
		build{rules: []rule{masquerade, slow(300 * time.Millisecond)}}},
	{"throttle", "what a mobile plan is slowed down to when its volume is used up: 512 kbit/s each way", unhindered.because(Throttled),
		build{rules: []rule{masquerade, narrow(512_000)}}},
	{"dpi-reassembled", "a firewall that knows libp2p and puts streams together: TCP that opens with /multistream/1.0.0 is reset, split or not", through(notTCP, MultistreamBlocked),
		build{rules: []rule{masquerade, killStream(multistreamHeader)}}},
	{"dpi-noise", "a firewall that knows how long the messages of libp2p's handshake are: such TCP flows are swallowed in the middle of it", through(notTCP, LibP2PRecognized),
		build{rules: []rule{masquerade, swallowLengths}}},
	{"post-handshake-kill", "a firewall that makes up its mind late: UDP dropped, and TCP that negotiates as libp2p does is reset once it is encrypted", through(webWays, UDPBlocked, LibP2PRecognized),
		build{rules: []rule{masquerade, dropUDP, killAfterHandshake}}},
	{"sni-filter", "a company that reads TLS hellos: servers it does not know are reset, nothing leaves but TCP to ports 80 and 443", through(webWays, UDPBlocked, TCPPortsBlocked, SNIFiltered),
		build{rules: []rule{masquerade, dropUDP, onlyTCP(80, 443), onlyNames(false)}}},
	// The relay of a truth has no name. One with a name in the lab's zone is reached.
	{"sni-filter-strict", "the same, and TLS without a server's name is reset as well", through(nil, UDPBlocked, TCPPortsBlocked, SNIFiltered),
		build{rules: []rule{masquerade, dropUDP, onlyTCP(80, 443), onlyNames(true)}}},
	{"byte-cap", "a censor that freezes TCP flows to port 443 once the server has sent 16 KiB, as Russia's does", through([]string{wayTCP, wayQUIC, wayWebTransport}, BytesCapped),
		build{rules: []rule{masquerade, capBytes(443, 16<<10)}}},
}
