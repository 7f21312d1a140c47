package names

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

const (
	// serverTimeout bounds one question to one server, connecting included: four
	// round trips by satellite and a slow proxy.
	serverTimeout = 5 * time.Second
	// idleTimeout is how long a connection waits for the next question. Names lead
	// to names, so the next one comes at once or not for minutes.
	idleTimeout = 20 * time.Second
	// maxConns bounds the connections to one server: some firewalls count them.
	maxConns = 2
)

// Protocol is how a server is asked.
type Protocol string

const (
	DoH Protocol = "doh" // RFC 8484, over HTTP/2 or HTTP/1.1
	DoT Protocol = "dot" // RFC 7858
	// UDP and TCP are plain DNS, which proves nothing. A Resolver does not use them:
	// the system's resolver does.
	UDP Protocol = "udp" // RFC 1035
	TCP Protocol = "tcp" // RFC 7766
)

// Server is a DNS server that is reached by address and proves who it is.
type Server struct {
	Protocol Protocol
	Addr     netip.AddrPort
	// Name is what its certificate has to be for, and what is sent as SNI and
	// Host. Without one the certificate has to be for the address, and no SNI is
	// sent: networks that block such servers often go by the name.
	Name string
}

// String is the protocol and the address, with the port where it is unusual.
func (s Server) String() string {
	usual := map[Protocol]uint16{DoH: 443, DoT: 853, UDP: 53, TCP: 53}
	switch ip := s.Addr.Addr(); {
	case s.Addr.Port() != usual[s.Protocol]:
		return string(s.Protocol) + " " + s.Addr.String()
	case ip.Is6():
		return string(s.Protocol) + " [" + ip.String() + "]"
	default:
		return string(s.Protocol) + " " + ip.String()
	}
}

// Builtin are the public servers of three operators, each by DoH and DoT, over
// IPv4 and IPv6, and by DoH without a name.
func Builtin() []Server {
	const cloudflare, google, quad9 = "cloudflare-dns.com", "dns.google", "dns.quad9.net"
	at := func(p Protocol, addrPort, name string) Server {
		return Server{Protocol: p, Addr: netip.MustParseAddrPort(addrPort), Name: name}
	}
	return []Server{
		at(DoH, "1.1.1.1:443", cloudflare),
		at(DoH, "8.8.8.8:443", google),
		at(DoT, "9.9.9.9:853", quad9),

		at(DoH, "[2606:4700:4700::1111]:443", cloudflare),
		at(DoH, "[2001:4860:4860::8888]:443", google),
		at(DoH, "[2620:fe::fe]:443", quad9),
		at(DoH, "9.9.9.9:443", quad9),
		at(DoT, "1.1.1.1:853", cloudflare),
		at(DoT, "8.8.8.8:853", google),
		at(DoT, "[2606:4700:4700::1111]:853", cloudflare),
		at(DoT, "[2001:4860:4860::8888]:853", google),
		at(DoT, "[2620:fe::fe]:853", quad9),

		at(DoH, "1.0.0.1:443", ""),
		at(DoH, "8.8.4.4:443", ""),
		at(DoH, "149.112.112.112:443", ""),
	}
}

// split chooses whom to ask first: two by DoH, which looks like any HTTPS, and
// one by DoT, for networks that intercept HTTPS only.
func split(servers []Server) (first, rest []Server) {
	left := map[Protocol]int{DoH: 2, DoT: 1}
	for _, s := range servers {
		if left[s.Protocol] > 0 {
			left[s.Protocol]--
			first = append(first, s)
		} else {
			rest = append(rest, s)
		}
	}
	return first, rest
}

// InterceptedError tells that whoever answers at a server's address cannot prove
// to be that server: an inspecting firewall, a captive portal, a box that has
// taken the address. (A wrong clock on this machine looks the same; Err tells.)
// Nothing was asked.
type InterceptedError struct {
	Server Server
	Shown  string // whom the certificate is for and who issued it
	Err    error  // a *tls.CertificateVerificationError
}

func (e *InterceptedError) Error() string {
	return fmt.Sprintf("intercepted: shown a certificate of %s: %v", e.Shown, e.Err)
}

func (e *InterceptedError) Unwrap() error { return e.Err }

// exchanger asks one server. Its error is about queries that have no reply; the
// replies to the others are returned all the same.
type exchanger interface {
	exchange(context.Context, []*dns.Msg) ([]*dns.Msg, error)
	closeIdle()
}

// dialFunc opens a TCP connection.
type dialFunc func(ctx context.Context, hostport string) (net.Conn, error)

func (r *Resolver) sources(servers []Server) []source {
	var out []source
	for _, s := range servers {
		x := newExchanger(s, r.connect, tlsConfig(s, r.Roots))
		out = append(out, source{
			name:   s.String(),
			proven: true,
			ask: func(ctx context.Context, q question) ([]string, error) {
				return ask(ctx, s, x, q)
			},
			closeIdle: x.closeIdle,
		})
	}
	return out
}

func newExchanger(s Server, dial dialFunc, config *tls.Config) exchanger {
	switch s.Protocol {
	case UDP, TCP:
		return plain{s}
	case DoT:
		return newDoT(s, dial, config)
	}
	return newDoH(s, dial, config)
}

// ask puts a question to a server.
func ask(ctx context.Context, s Server, x exchanger, q question) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	queries, err := q.messages()
	if err != nil {
		return nil, err
	}
	replies, failed := x.exchange(ctx, queries)
	if shown, ok := errors.AsType[*tls.CertificateVerificationError](failed); ok {
		return nil, &InterceptedError{s, describe(shown), shown}
	}
	values, err := q.values(replies, s.String())
	if len(values) == 0 && failed != nil {
		return nil, failed
	}
	return values, err
}

// describe says whose certificate it was.
func describe(e *tls.CertificateVerificationError) string {
	if len(e.UnverifiedCertificates) == 0 {
		return "nobody"
	}
	c := e.UnverifiedCertificates[0]
	return fmt.Sprintf("%q, issued by %q", c.Subject, c.Issuer)
}

func (r *Resolver) connect(ctx context.Context, hostport string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout) // http.Transport's has no deadline
	defer cancel()
	if r.Dial != nil {
		return r.Dial(ctx, hostport)
	}
	return new(net.Dialer).DialContext(ctx, "tcp", hostport)
}

func tlsConfig(s Server, roots *x509.CertPool) *tls.Config {
	name := s.Name
	if name == "" {
		name = s.Addr.Addr().String()
	}
	return &tls.Config{
		ServerName: name,
		RootCAs:    roots,
		// Without the post-quantum share a ClientHello fits into one packet of any
		// size that occurs; with it, some paths lose it (measured: 1481 bytes).
		CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384},
	}
}
