package netcheck

import (
	"errors"
	"net"
	"net/http"
	"strings"

	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
)

// The library has no types for the failures below, or has lost them on the way
// (fmt.Errorf with %s). This is the one place where the text of an error is
// read; the table test provokes each of them, so that a changed text is noticed.

// handshakePhase tells in which of the upgrader's phases the connection died: a
// stand-in for "security" is SecurityFailed, for "muxer" MuxerFailed, and empty
// for neither.
func handshakePhase(err error) Failure {
	text := err.Error()
	switch {
	case strings.Contains(text, "failed to negotiate security protocol"):
		return SecurityFailed
	case strings.Contains(text, "failed to negotiate stream multiplexer"):
		return MuxerFailed
	}
	return ""
}

// hopStream begins the library's error of a circuit whose relay was not reached.
const hopStream = "error opening hop stream to relay"

// ofCircuit is about the dial of a circuit: what the relay answered to CONNECT.
func ofCircuit(err error) Failure {
	text := err.Error()
	if strings.Contains(text, "failed to dial ") && !strings.HasPrefix(text, hopStream) {
		return "" // several dials, among them circuits: each is named by itself
	}
	if strings.Contains(text, hopStream) {
		return RelayUnreachable
	}
	// Two circuits to one peer are not dialled side by side: the library's client
	// gives up the second, or fails it together with the first.
	if strings.Contains(text, "concurrent active dial succeeded") {
		return Aborted
	}
	if strings.Contains(text, "concurrent active dial through the same relay failed") {
		return RelayRefused
	}
	_, status, found := strings.Cut(text, "error opening relay circuit: ")
	if !found {
		return ""
	}
	status, _, _ = strings.Cut(status, " ")
	switch pb.Status(pb.Status_value[status]) {
	case pb.Status_NO_RESERVATION:
		return RelayNoReservation
	case pb.Status_CONNECTION_FAILED:
		return RelayConnectionFailed
	case pb.Status_PERMISSION_DENIED:
		return RelayDenied
	case pb.Status_RESOURCE_LIMIT_EXCEEDED:
		return RelayLimit
	}
	return RelayRefused
}

// ofNoise is about the Noise handshake proper.
func ofNoise(err error) Failure {
	text := lower(err)
	switch {
	case strings.Contains(text, "handshake signature invalid"), strings.Contains(text, "error verifying signature"):
		return NoiseSignature
	case strings.Contains(text, "message authentication failed"), strings.Contains(text, "panic in noise handshake"),
		strings.Contains(text, "noise: "), strings.Contains(text, "unmarshaling remote handshake payload"):
		return NoiseFailed
	}
	return ""
}

// saysPeerMismatch: in QUIC the check is done inside TLS, which keeps the text
// of an error and not its type.
func saysPeerMismatch(err error) bool {
	return strings.Contains(lower(err), "peer id mismatch")
}

func saysGarbage(err error) bool {
	text := err.Error()
	return strings.Contains(text, "message did not have trailing newline") ||
		strings.Contains(text, "received mismatch in protocol id") ||
		strings.Contains(text, "protocol mismatch in lazy handshake")
}

// saysProxy: the WebSocket library returns a proxy's status line, and the
// errors of its SOCKS client, as text.
func saysProxy(err error) bool {
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return strings.HasPrefix(err.Error(), "proxy: ") || statusLines[err.Error()]
}

// statusLines are the reasons that a proxy may give for a refusal.
var statusLines = func() map[string]bool {
	lines := map[string]bool{}
	for code := http.StatusBadRequest; code <= http.StatusNetworkAuthenticationRequired; code++ {
		if text := http.StatusText(code); text != "" {
			lines[text] = true
		}
	}
	return lines
}()

// saysMisbehaving: the system's resolver tells a refusal from a name that does
// not exist by text only.
func saysMisbehaving(err *net.DNSError) bool {
	return err.Err == "server misbehaving" || err.Err == "lame referral"
}

// saysEOF: multistream writes out the errors of several protocols with %v.
func saysEOF(err error) bool {
	return strings.HasSuffix(err.Error(), "EOF")
}

func lower(err error) string { return strings.ToLower(err.Error()) }
