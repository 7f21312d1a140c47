package netcheck

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/quic-go/quic-go"
)

// The errors that can be had without a network, as the library makes them. Those
// that can be provoked are provoked in provoke_test.go.
func TestErrorsAreNamed(t *testing.T) {
	op := func(op string, err error) error {
		return &net.OpError{Op: op, Net: "tcp", Err: os.NewSyscallError("connect", err)}
	}
	dial := func(causes ...error) error {
		e := &swarm.DialError{Cause: swarm.ErrAllDialsFailed}
		for _, c := range causes {
			e.DialErrors = append(e.DialErrors, swarm.TransportError{Cause: c})
		}
		return e
	}
	upgrade := func(err error) error { return fmt.Errorf("failed to negotiate security protocol: %w", err) }
	refusal := func(s pb.Status) error {
		return fmt.Errorf("reservation on X: %w", &client.ReservationError{Status: s})
	}
	for name, c := range map[string]struct {
		err  error
		want Failure
	}{
		"nothing":                                    {nil, ""},
		"an error nobody has seen":                   {errors.New("the cat"), Unknown},
		"no route to the host":                       {op("dial", syscall.EHOSTUNREACH), HostUnreachable},
		"no route to the network":                    {op("dial", syscall.ENETUNREACH), NetworkUnreachable},
		"interface down":                             {op("dial", syscall.ENETDOWN), NetworkDown},
		"a local firewall that refuses":              {op("dial", syscall.EPERM), PermissionDenied},
		"the kernel's own connect timeout":           {op("dial", syscall.ETIMEDOUT), Timeout},
		"a write into a closed connection":           {op("write", syscall.EPIPE), Reset},
		"no free port":                               {op("dial", syscall.EADDRNOTAVAIL), AddressUnavailable},
		"no file descriptor":                         {op("dial", syscall.EMFILE), TooManyOpenFiles},
		"a reset of a standing connection":           {op("read", syscall.ECONNRESET), Reset},
		"the same within the handshake":              {upgrade(op("read", syscall.ECONNRESET)), SecurityReset},
		"an end within a frame":                      {upgrade(io.ErrUnexpectedEOF), SecurityEOF},
		"anything else within the handshake":         {upgrade(errors.New("the cat")), SecurityFailed},
		"a handshake that we gave up":                {upgrade(context.Canceled), Aborted},
		"a muxer that cannot be agreed on":           {fmt.Errorf("failed to negotiate stream multiplexer: %w", io.EOF), MuxerFailed},
		"a muxer that we wait for in vain":           {fmt.Errorf("failed to negotiate stream multiplexer: %w", os.ErrDeadlineExceeded), MuxerTimeout},
		"a closed socket":                            {net.ErrClosed, AlreadyClosed},
		"our own limits":                             {fmt.Errorf("x: %w", network.ErrResourceLimitExceeded), ResourceLimit},
		"a stream that was reset":                    {network.ErrReset, StreamReset},
		"a stream of a protocol nobody there speaks": {&network.StreamError{ErrorCode: network.StreamProtocolNegotiationFailed, Remote: true}, NoProtocol},
		"a dial not made for a failure just before":  {dial(swarm.ErrDialBackoff), DialBackoff},
		"a dial not made for the black hole counter": {dial(swarm.ErrDialRefusedBlackHole), BlackHole},
		"no address to dial":                         {&swarm.DialError{Cause: swarm.ErrNoGoodAddresses}, NoAddress},
		"no transport":                               {swarm.ErrNoTransport, NoTransport},
		"a draft of QUIC that nobody speaks":         {swarm.ErrQUICDraft29, NoTransport},
		"ourselves":                                  {swarm.ErrDialToSelf, DialToSelf},
		"a gater":                                    {swarm.ErrGaterDisallowedConnection, Gated},
		"all addresses alike":                        {dial(op("dial", syscall.ECONNREFUSED), op("dial", syscall.ECONNREFUSED)), Refused},
		"addresses that failed differently":          {dial(op("dial", syscall.ECONNREFUSED), io.EOF), SeveralFailed},
		"an abort among several":                     {dial(context.Canceled, io.EOF), SeveralFailed},
		"a version of QUIC we do not speak":          {&quic.VersionNegotiationError{}, QUICVersion},
		"a peer that restarted":                      {&quic.StatelessResetError{}, QUICReset},
		"a peer that closed":                         {&quic.ApplicationError{Remote: true}, QUICApplication},
		"a QUIC server that refuses":                 {&quic.TransportError{ErrorCode: quic.ConnectionRefused}, Refused},
		"a QUIC protocol violation":                  {&quic.TransportError{ErrorCode: quic.ProtocolViolation}, QUICTransport},
		"a TLS alert in QUIC":                        {&quic.TransportError{ErrorCode: 0x128}, TLSHandshake},
		"a handshake of QUIC that stalls":            {&quic.HandshakeTimeoutError{}, QUICHandshakeTimeout},
		"no QUIC answer at all":                      {&quic.IdleTimeoutError{}, QUICIdleTimeout},
		"a name without an address":                  {fmt.Errorf("resolve x: %w", ErrNoAnswer), DNSNoAnswer},
		"a resolver that fails somehow":              {&net.DNSError{Err: "odd"}, DNSFailure},
		"a full relay":                               {refusal(pb.Status_RESERVATION_REFUSED), ReservationRefused},
		"a busy relay":                               {refusal(pb.Status_RESOURCE_LIMIT_EXCEEDED), ReservationLimit},
		"a relay that knows us":                      {refusal(pb.Status_PERMISSION_DENIED), ReservationDenied},
		"a relay that talks nonsense":                {refusal(pb.Status_MALFORMED_MESSAGE), ReservationMalformed},
		"a relay with a new word":                    {refusal(pb.Status_NO_RESERVATION), ReservationOther},
		"the library's refusal, by value":            {client.ReservationError{Status: pb.Status_PERMISSION_DENIED}, ReservationDenied},
		"a relay full of circuits":                   {errors.New("error opening relay circuit: RESOURCE_LIMIT_EXCEEDED (201)"), RelayLimit},
		"a relay that cannot reach the target":       {errors.New("error opening relay circuit: CONNECTION_FAILED (203)"), RelayConnectionFailed},
		"a relay that refuses otherwise":             {errors.New("error opening relay circuit: UNEXPECTED_MESSAGE (401)"), RelayRefused},
		"a circuit that fell with another":           {errors.New("concurrent active dial through the same relay failed with a protocol error"), RelayRefused},
		"a circuit among several dials":              {dial(errors.New("error opening relay circuit: NO_RESERVATION (204)"), io.EOF), SeveralFailed},
		"the second circuit to one peer":             {errors.New("concurrent active dial succeeded"), Aborted},
		"a proxy that wants to know who we are":      {fmt.Errorf("dial x: %w", proxyError(http.StatusProxyAuthRequired)), ProxyAuthRequired},
		"a proxy that does not believe us":           {proxyError(http.StatusUnauthorized), ProxyAuthRequired},
		"a proxy that does not like the port":        {proxyError(http.StatusForbidden), ProxyForbidden},
		"a proxy that cannot reach the address":      {proxyError(http.StatusServiceUnavailable), ProxyFailed},
		"a proxy that cannot be reached":             {fmt.Errorf("%w: %w", proxyError(0), syscall.ECONNREFUSED), ProxyFailed},
		"a proxy beside a direct way":                {errors.Join(op("dial", syscall.ENETUNREACH), proxyError(http.StatusForbidden)), ProxyForbidden},
		"a proxy beside a dial that we gave up":      {errors.Join(proxyError(http.StatusForbidden), context.Canceled), Aborted},
	} {
		if got := Classify(c.err); got != c.want {
			t.Errorf("%s: %q, not %q (%v)", name, got, c.want, c.err)
		}
	}
}

// proxyError says of itself what a proxy answered.
type proxyError int

func (e proxyError) Error() string    { return fmt.Sprintf("the proxy answers %d", int(e)) }
func (e proxyError) ProxyStatus() int { return int(e) }

func TestVocabularyHasEveryWordOnce(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "failure.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var declared []Failure
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "Failure" {
			word, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			declared = append(declared, Failure(word))
		}
		return true
	})
	slices.Sort(declared)
	if len(slices.Compact(slices.Clone(declared))) != len(declared) {
		t.Error("a word is declared twice")
	}
	if !slices.Equal(declared, Vocabulary()) {
		t.Errorf("declared and listed words differ:\n%q\n%q", declared, Vocabulary())
	}
}
