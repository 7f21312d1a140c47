package netcheck

// Cause is what is in the way, in a word of the closed vocabulary below. It is
// also what the lab's profiles are graded against.
type Cause string

const (
	// Of the way out.
	AllBlocked        Cause = "all_blocked"          // nothing gets out at all
	UDPBlocked        Cause = "udp_blocked"          // no UDP gets out, or none but to DNS
	UDPPortBlocked    Cause = "udp_ports_blocked"    // UDP to some ports only is dropped
	QUICBlocked       Cause = "quic_blocked"         // UDP passes, QUIC does not
	TCPPortsBlocked   Cause = "tcp_ports_blocked"    // TCP passes to some ports only
	MultistreamKilled Cause = "multistream_blocked"  // flows that open like libp2p's are killed
	HandshakeKilled   Cause = "handshake_recognized" // they open, and die at what follows
	ALPNKilled        Cause = "alpn_blocked"         // TLS that offers libp2p is killed
	NameKilled        Cause = "sni_filtered"         // TLS to names that are not permitted is killed
	LargeHelloKilled  Cause = "large_hello_blocked"  // large ClientHellos are dropped, whatever the packets' size
	BytesCapped       Cause = "bytes_capped"         // flows freeze after so many bytes
	FlowsLimited      Cause = "flows_limited"        // no more than a few flows at once
	IPv6Broken        Cause = "ipv6_broken"          // addresses and a route, and nothing comes back

	NATPerDestination Cause = "nat_per_destination" // another port for everybody: no hole can be punched
	NATRebinds        Cause = "nat_rebinds"         // flows are forgotten all at once
	NATNoHairpin      Cause = "nat_no_hairpin"      // neighbours do not reach each other by the outside
	IPv4ByTranslation Cause = "ipv4_by_translation" // IPv6 only, with NAT64

	// Of who stands in between.
	ProxyRequired      Cause = "proxy_required"      // nothing gets out but through a proxy
	ProxyAuth          Cause = "proxy_auth_required" // and it wants credentials that we do not have
	ProxyCannotReach   Cause = "proxy_cannot_reach"  // the proxy tried, and did not get there
	ProxyPorts         Cause = "proxy_ports_limited" // and it lets through to some ports only
	TLSIntercepted     Cause = "tls_intercepted"     // somebody else's certificate
	TLSUntrusted       Cause = "tls_untrusted"       // and this machine does not trust who does it
	TLSServersRefused  Cause = "tls_servers_refused" // and they refuse servers that sign for themselves
	HTTPIntercepted    Cause = "http_intercepted"    // somebody reads plain HTTP
	UpgradeStripped    Cause = "upgrade_stripped"    // HTTP passes, and nothing may become WebSocket
	SYNAnswered        Cause = "syn_proxy"           // every SYN is answered, so dead hosts seem to connect
	PortalClosed       Cause = "captive_portal"      // until somebody logs in
	DNSBlocked         Cause = "dns_blocked"         // no resolver answers
	DNSInternalOnly    Cause = "dns_internal_only"   // public names are unknown
	DNSTXTBlocked      Cause = "dns_txt_blocked"     // addresses are answered, text records are not
	DNSLies            Cause = "dns_lies"            // answers that others do not give
	UDPTimeout         Cause = "udp_timeout"         // silent UDP flows are forgotten soon
	TCPTimeout         Cause = "tcp_timeout"         // silent TCP flows are forgotten soon
	LifetimeLimited    Cause = "flow_lifetime"       // flows are cut at some age
	MTUBlackHole       Cause = "mtu_black_hole"      // full-size packets vanish, and nobody is told
	Slow               Cause = "slow"                // round trips are long: not blocked
	Lossy              Cause = "lossy"               // packets get lost: not blocked
	Throttled          Cause = "throttled"           // little goes through: not blocked
	NoControl          Cause = "unexplained"         // what failed here may fail everywhere: nobody else has tried
	NameUnknown        Cause = "name_unknown"        // the name has no such record anywhere
	TargetDead         Cause = "target_dead"         // it fails from everywhere
	RelayRefuses       Cause = "relay_refuses"       // it answers, and says no
	WrongPeer          Cause = "wrong_peer"          // somebody else answers there, without an interceptor
	ClockSkewed        Cause = "clock_skew"          // certificates seem not yet or no longer valid
	DaemonDied         Cause = "daemon_died"         // H1
	LocalFirewall      Cause = "local_firewall"      // this machine's own
	NoIPv6             Cause = "no_ipv6"             // this machine has none
	NoNetwork          Cause = "no_network"          // no address, or no route
	CertificateInvalid Cause = "certificate_invalid" // the server's own is bad, from everywhere
)

// PeersOnly tells of a cause that is in the way of other peers, and never of the way
// to a relay.
func (c Cause) PeersOnly() bool { return c == NATPerDestination || c == NATNoHairpin }

// Causes is every cause there is, in the order above.
func Causes() []Cause {
	return []Cause{
		AllBlocked, UDPBlocked, UDPPortBlocked, QUICBlocked, TCPPortsBlocked, MultistreamKilled, HandshakeKilled, ALPNKilled, NameKilled,
		LargeHelloKilled, BytesCapped, FlowsLimited, IPv6Broken, NATPerDestination, NATRebinds, NATNoHairpin, IPv4ByTranslation, ProxyRequired, ProxyAuth, ProxyCannotReach, ProxyPorts, TLSIntercepted, TLSUntrusted, TLSServersRefused, HTTPIntercepted, UpgradeStripped,
		SYNAnswered, PortalClosed, DNSBlocked, DNSInternalOnly, DNSTXTBlocked, DNSLies, UDPTimeout, TCPTimeout, LifetimeLimited, MTUBlackHole, Slow, Lossy, Throttled,
		NoControl, NameUnknown, TargetDead, RelayRefuses, WrongPeer, ClockSkewed, DaemonDied, LocalFirewall, NoIPv6, NoNetwork,
		CertificateInvalid,
	}
}
