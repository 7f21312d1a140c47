package netcheck

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"

	"github.com/gorilla/websocket"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/multiformats/go-multistream"
	"github.com/multiformats/go-varint"
	"github.com/quic-go/quic-go"
)

// ErrNoAnswer is a DNS answer in which there is no address that we can use.
var ErrNoAnswer = errors.New("the name has no address for us")

// Classify names err; a nil error is no failure. The outermost layer that says
// something definite decides: a circuit that failed because its relay could not
// be reached is relay_unreachable, whatever kept us from the relay.
func Classify(err error) Failure {
	if err == nil {
		return ""
	}
	for _, layer := range []func(error) Failure{ofCircuit, ofSwarm, ofAbort, ofProxy, ofReservation, ofPeer, ofQUIC, ofDNS,
		ofSecurity, ofWebSocket, ofTLS, ofMultistream, ofSocket} {
		if f := layer(err); f != "" {
			return f
		}
	}
	return Unknown
}

// ofSwarm is about dials that the swarm did not make, and about several at once.
func ofSwarm(err error) Failure {
	var several *swarm.DialError
	if errors.As(err, &several) && len(several.DialErrors) > 0 {
		return common(several.DialErrors)
	}
	switch {
	case errors.Is(err, swarm.ErrDialBackoff):
		return DialBackoff
	case errors.Is(err, swarm.ErrDialRefusedBlackHole):
		return BlackHole
	case errors.Is(err, swarm.ErrNoTransport):
		return NoTransport
	case errors.Is(err, swarm.ErrNoAddresses), errors.Is(err, swarm.ErrNoGoodAddresses):
		return NoAddress
	case errors.Is(err, swarm.ErrDialToSelf):
		return DialToSelf
	case errors.Is(err, swarm.ErrGaterDisallowedConnection):
		return Gated
	case errors.Is(err, network.ErrResourceLimitExceeded):
		return ResourceLimit
	}
	return ""
}

// common is the failure that all dials of one peer share.
func common(dials []swarm.TransportError) Failure {
	first := Classify(dials[0].Cause)
	for _, d := range dials[1:] {
		if Classify(d.Cause) != first {
			return SeveralFailed
		}
	}
	return first
}

// Stalled tells whether a dial got its connection and then waited in vain for the
// handshake on it; of several dials, whether one did.
func Stalled(err error) bool {
	var several *swarm.DialError
	if errors.As(err, &several) {
		for _, d := range several.DialErrors {
			if Stalled(d.Cause) {
				return true
			}
		}
		return false
	}
	return Classify(err) == SecurityTimeout
}

func ofAbort(err error) Failure {
	if errors.Is(err, context.Canceled) {
		return Aborted
	}
	return ""
}

// ofProxy is about a proxy that was dialled through, by its own word: the status
// with which it refused, or 0 when there was none.
func ofProxy(err error) Failure {
	var proxy interface {
		error
		ProxyStatus() int
	}
	if !errors.As(err, &proxy) {
		return ""
	}
	switch proxy.ProxyStatus() {
	// The second is what tinyproxy answers to wrong credentials.
	case http.StatusProxyAuthRequired, http.StatusUnauthorized:
		return ProxyAuthRequired
	case http.StatusForbidden, http.StatusMethodNotAllowed:
		return ProxyForbidden
	}
	return ProxyFailed
}

// ofReservation is about a relay's answer to RESERVE.
func ofReservation(err error) Failure {
	var re client.ReservationError
	if p := new(client.ReservationError); errors.As(err, &p) {
		re = *p
	} else if !errors.As(err, &re) {
		return ""
	}
	switch re.Status {
	case pb.Status_RESERVATION_REFUSED:
		return ReservationRefused
	case pb.Status_RESOURCE_LIMIT_EXCEEDED:
		return ReservationLimit
	case pb.Status_PERMISSION_DENIED:
		return ReservationDenied
	case pb.Status_MALFORMED_MESSAGE, pb.Status_UNEXPECTED_MESSAGE:
		return ReservationMalformed
	case pb.Status_CONNECTION_FAILED:
		return "" // the network, not the relay: a deeper layer knows
	}
	return ReservationOther
}

func ofPeer(err error) Failure {
	if mismatch := new(sec.ErrPeerIDMismatch); errors.As(err, mismatch) || errors.As(err, &mismatch) {
		return PeerMismatch
	}
	return ""
}

// cryptoError is the range of QUIC's transport errors that are TLS alerts
// (RFC 9001, section 4.8).
const cryptoError, cryptoErrorEnd = 0x100, 0x200

func ofQUIC(err error) Failure {
	var (
		idle      *quic.IdleTimeoutError
		handshake *quic.HandshakeTimeoutError
		version   *quic.VersionNegotiationError
		reset     *quic.StatelessResetError
		app       *quic.ApplicationError
		transport *quic.TransportError
	)
	switch {
	case errors.As(err, &idle):
		return QUICIdleTimeout
	case errors.As(err, &handshake):
		return QUICHandshakeTimeout
	case errors.As(err, &version):
		return QUICVersion
	case errors.As(err, &reset):
		return QUICReset
	case errors.As(err, &app):
		return QUICApplication
	case errors.As(err, &transport):
		return ofQUICTransport(transport)
	}
	return ""
}

func ofQUICTransport(err *quic.TransportError) Failure {
	switch {
	case err.ErrorCode == quic.ConnectionRefused:
		return Refused
	case saysPeerMismatch(err):
		return PeerMismatch
	case err.ErrorCode >= cryptoError && err.ErrorCode < cryptoErrorEnd:
		return TLSHandshake
	}
	return QUICTransport
}

func ofDNS(err error) Failure {
	if errors.Is(err, ErrNoAnswer) {
		return DNSNoAnswer
	}
	var dns *net.DNSError
	switch {
	case !errors.As(err, &dns):
		return ""
	case dns.IsTimeout:
		return Timeout
	case dns.IsNotFound:
		return NXDomain
	case dns.IsTemporary, saysMisbehaving(dns):
		return DNSMisbehaving
	}
	return DNSFailure
}

// ofSecurity is about libp2p's handshake on a connection that stands.
func ofSecurity(err error) Failure {
	phase := handshakePhase(err)
	if phase == "" {
		return ""
	}
	for _, layer := range []func(error) Failure{ofNoise, ofTLS, ofMultistream} {
		if f := layer(err); f != "" {
			return f
		}
	}
	if phase == MuxerFailed {
		if ofSocket(err) == Timeout {
			return MuxerTimeout
		}
		return MuxerFailed
	}
	switch ofSocket(err) {
	case Timeout:
		return SecurityTimeout
	case Reset, ConnAborted:
		return SecurityReset
	case EOF:
		return SecurityEOF
	}
	return SecurityFailed
}

func ofTLS(err error) Failure {
	var (
		host      x509.HostnameError
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		verify    *tls.CertificateVerificationError
		record    tls.RecordHeaderError
		alert     tls.AlertError
		op        *net.OpError
	)
	switch {
	case errors.As(err, &host):
		return TLSHostname
	case errors.As(err, &authority):
		return TLSAuthority
	case errors.As(err, &invalid), errors.As(err, &verify):
		return TLSCertificate
	case errors.As(err, &record), errors.As(err, &alert):
		return TLSHandshake
	// crypto/tls wraps an alert, sent or received, in an OpError of its own.
	case errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error"):
		return TLSHandshake
	}
	return ""
}

func ofMultistream(err error) Failure {
	var no multistream.ErrNotSupported[protocol.ID]
	var other multistream.ErrUnrecognizedResponse[protocol.ID]
	var reset *network.StreamError
	switch {
	case errors.As(err, &no), errors.As(err, &reset) && reset.ErrorCode == network.StreamProtocolNegotiationFailed:
		return NoProtocol
	case errors.As(err, &other), errors.Is(err, multistream.ErrTooLarge), errors.Is(err, multistream.ErrIncorrectVersion),
		errors.Is(err, varint.ErrOverflow), errors.Is(err, varint.ErrNotMinimal), errors.Is(err, varint.ErrUnderflow),
		saysGarbage(err):
		return Garbage
	case errors.Is(err, network.ErrReset):
		return StreamReset
	}
	return ""
}

func ofWebSocket(err error) Failure {
	if errors.Is(err, websocket.ErrBadHandshake) {
		return WebSocketHandshake
	}
	if saysProxy(err) {
		return ProxyFailed
	}
	return ""
}

// errnos are the system's answers, in the words of the vocabulary.
var errnos = map[syscall.Errno]Failure{
	syscall.ECONNREFUSED:  Refused,
	syscall.ECONNRESET:    Reset,
	syscall.EPIPE:         Reset,
	syscall.ECONNABORTED:  ConnAborted,
	syscall.EHOSTUNREACH:  HostUnreachable,
	syscall.EHOSTDOWN:     HostUnreachable,
	syscall.ENETUNREACH:   NetworkUnreachable,
	syscall.ENETDOWN:      NetworkDown,
	syscall.ETIMEDOUT:     Timeout,
	syscall.EACCES:        PermissionDenied,
	syscall.EPERM:         PermissionDenied,
	syscall.EADDRNOTAVAIL: AddressUnavailable,
	syscall.EADDRINUSE:    AddressInUse,
	syscall.EMFILE:        TooManyOpenFiles,
	syscall.ENFILE:        TooManyOpenFiles,
}

func ofSocket(err error) Failure {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		if f, ok := errnos[errno]; ok {
			return f
		}
	}
	var n net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &n) && n.Timeout():
		return Timeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), saysEOF(err):
		return EOF
	case errors.Is(err, net.ErrClosed):
		return AlreadyClosed
	}
	return ""
}
