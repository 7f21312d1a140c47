// Package netcheck puts names to what a network did to us. It is pure: it dials
// nothing and reads no clock.
//
// The names are those of OONI's measurements where OONI has one
// (https://github.com/ooni/spec/blob/master/data-formats/df-007-errors.md), and
// ours where libp2p fails in ways a web browser does not.
package netcheck

import "slices"

// Failure is a word of the closed vocabulary below; empty means no failure.
type Failure string

// Reaching an address, in OONI's words.
const (
	Timeout            Failure = "generic_timeout_error" // nothing came back; also of a DNS server
	Refused            Failure = "connection_refused"    // RST to a SYN, or QUIC's CONNECTION_REFUSED
	Reset              Failure = "connection_reset"      // RST on a connection that stood, outside of a libp2p handshake
	ConnAborted        Failure = "connection_aborted"
	EOF                Failure = "eof_error"        // FIN where more was expected
	HostUnreachable    Failure = "host_unreachable" // ICMP, or no answer to ARP
	NetworkUnreachable Failure = "network_unreachable"
	NetworkDown        Failure = "network_down"
	PermissionDenied   Failure = "permission_denied" // the local firewall said no
	AddressUnavailable Failure = "address_not_available"
	AddressInUse       Failure = "address_in_use"
	AlreadyClosed      Failure = "connection_already_closed"
	TooManyOpenFiles   Failure = "too_many_open_files"
)

// Names, in OONI's words.
const (
	NXDomain       Failure = "dns_nxdomain_error"     // the name does not exist, or has no record of the kind
	DNSMisbehaving Failure = "dns_server_misbehaving" // SERVFAIL, REFUSED, or nonsense
	DNSFailure     Failure = "dns_server_failure"     // any other failure of DNS
	DNSNoAnswer    Failure = "dns_no_answer"          // an answer without an address we can use
)

// TLS outside of libp2p's own (WebSocket over TLS), and certificates, in OONI's
// words.
const (
	TLSHandshake   Failure = "ssl_failed_handshake"
	TLSCertificate Failure = "ssl_invalid_certificate"
	TLSHostname    Failure = "ssl_invalid_hostname"
	TLSAuthority   Failure = "ssl_unknown_authority"
)

// libp2p's handshake on a connection that stands: hypothesis "the connection is
// established and dies at the security handshake".
const (
	SecurityTimeout Failure = "security_negotiation_timeout"
	SecurityReset   Failure = "security_negotiation_reset"
	SecurityEOF     Failure = "security_negotiation_eof"
	SecurityFailed  Failure = "security_negotiation_error" // any other
	Garbage         Failure = "multistream_garbage"        // the far side does not speak libp2p
	NoProtocol      Failure = "protocol_not_supported"     // it does, but none of the protocols asked for
	NoiseFailed     Failure = "noise_handshake_error"
	NoiseSignature  Failure = "noise_signature_invalid"
	PeerMismatch    Failure = "peer_id_mismatch" // somebody else answered
	MuxerTimeout    Failure = "muxer_negotiation_timeout"
	MuxerFailed     Failure = "muxer_negotiation_error" // any other
	StreamReset     Failure = "stream_reset"            // a stream of a connection that stands
)

// WebSocket and QUIC.
const (
	WebSocketHandshake   Failure = "websocket_bad_handshake" // HTTP, but no upgrade
	ProxyFailed          Failure = "proxy_error"             // the proxy did not let us through
	ProxyAuthRequired    Failure = "proxy_auth_required"     // without credentials, or with these
	ProxyForbidden       Failure = "proxy_forbidden"         // to this address or port
	QUICIdleTimeout      Failure = "quic_idle_timeout"       // dropped, or refused by ICMP: QUIC cannot tell
	QUICHandshakeTimeout Failure = "quic_handshake_timeout"  // something came back, and then too little
	QUICVersion          Failure = "quic_incompatible_version"
	QUICReset            Failure = "quic_stateless_reset"
	QUICApplication      Failure = "quic_application_error"
	QUICTransport        Failure = "quic_transport_error"
)

// Relays.
const (
	ReservationRefused    Failure = "reservation_refused"                   // full, or too many of our address
	ReservationLimit      Failure = "reservation_refused_resource_limit"    //
	ReservationDenied     Failure = "reservation_refused_permission_denied" //
	ReservationMalformed  Failure = "reservation_refused_malformed"         // the answer made no sense
	ReservationOther      Failure = "reservation_refused_other"             //
	RelayUnreachable      Failure = "relay_unreachable"                     // a circuit's relay could not be asked
	RelayNoReservation    Failure = "relay_no_reservation"                  // the target has none there
	RelayConnectionFailed Failure = "relay_connection_failed"               // the relay could not reach the target
	RelayDenied           Failure = "relay_permission_denied"               //
	RelayLimit            Failure = "relay_resource_limit_exceeded"         //
	RelayRefused          Failure = "relay_refused"                         // with any other status
)

// Attempts that were not made, or not by the network's fault.
const (
	DialBackoff   Failure = "dial_backoff" // failed a moment ago
	BlackHole     Failure = "dial_refused_black_hole"
	NoAddress     Failure = "no_good_addresses"
	NoTransport   Failure = "no_transport"
	DialToSelf    Failure = "dial_to_self"
	Gated         Failure = "connection_gated"
	ResourceLimit Failure = "resource_limit_exceeded" // our own
	SeveralFailed Failure = "all_dials_failed"        // of several addresses, for different reasons
	Aborted       Failure = "aborted"                 // given up by us: another way won, or the node stops
	Unknown       Failure = "unknown_failure"
)

// Answered tells of failures that are somebody's answer: another peer's, or of a server
// that speaks something else. What was sent got through, and so did what came back.
func (f Failure) Answered() bool {
	return slices.Contains([]Failure{PeerMismatch, Garbage, NoProtocol}, f)
}

// Vocabulary is every word there is, sorted.
func Vocabulary() []Failure {
	words := []Failure{
		Timeout, Refused, Reset, ConnAborted, EOF, HostUnreachable, NetworkUnreachable, NetworkDown, PermissionDenied,
		AddressUnavailable, AddressInUse, AlreadyClosed, TooManyOpenFiles,
		NXDomain, DNSMisbehaving, DNSFailure, DNSNoAnswer,
		TLSHandshake, TLSCertificate, TLSHostname, TLSAuthority,
		SecurityTimeout, SecurityReset, SecurityEOF, SecurityFailed, Garbage, NoProtocol, NoiseFailed, NoiseSignature,
		PeerMismatch, MuxerTimeout, MuxerFailed, StreamReset,
		WebSocketHandshake, ProxyFailed, ProxyAuthRequired, ProxyForbidden, QUICIdleTimeout, QUICHandshakeTimeout, QUICVersion, QUICReset, QUICApplication, QUICTransport,
		ReservationRefused, ReservationLimit, ReservationDenied, ReservationMalformed, ReservationOther,
		RelayUnreachable, RelayNoReservation, RelayConnectionFailed, RelayDenied, RelayLimit, RelayRefused,
		DialBackoff, BlackHole, NoAddress, NoTransport, DialToSelf, Gated, ResourceLimit, SeveralFailed, Aborted, Unknown,
	}
	slices.Sort(words)
	return words
}
