//go:build linux

package lab

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// interception is a middlebox that takes every connection to TCP 443 upon
// itself, as offices do that inspect TLS: it shows the client a certificate that
// it makes on the spot, and reads and forwards the HTTP/1.1 inside.
//
//	host ══ TLS, forged certificate ══ router ══ TLS, the server's own ══ server
//	                                     └─ HTTP in the clear
//
// The server's name is the client's (SNI), or none. Whatever inside is not
// HTTP/1.1 gets nowhere. The zero value accepts any server certificate.
type interception struct {
	plain        bool // TCP 80 instead, without TLS
	verify       bool // the server's certificate, against the web's authorities, as most real ones do
	stripUpgrade bool // makes WebSocket handshakes ordinary requests, and holds a request back until its body is whole
}

// The ports that firewalls redirect to interceptors.
const (
	interceptTLSPort   = 8443
	interceptPlainPort = 8081
)

// maxHeld is how large a request body may be that is held back; real boxes have
// limits of 10 MB and more.
const maxHeld = 16 << 20

// trusted puts the interceptor's authority into the hosts' trust stores.
var trusted = service{name: "office-authority", does: "machines trust the interceptor's authority", proof: proveTrusted, equip: func(e *equipment, pki authorities) { e.Trust += pki.office.pem() }}

func (i interception) service() service {
	port := uint16(interceptTLSPort)
	if i.plain {
		port = interceptPlainPort
	}
	return service{name: "interception", does: i.does(), proof: i.prove, ports: []uint16{port}, start: func(r *router) error {
		l, err := r.ns.listen(netip.AddrPortFrom(r.addr, port))
		if err != nil {
			return err
		}
		var in net.Listener = &redirects{Listener: l, router: r}
		if !i.plain {
			in = tls.NewListener(in, &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				return i.impersonate(hello, r)
			}})
		}
		s := &http.Server{
			Handler:           i.handler(),
			ConnContext:       withRedirected,
			ErrorLog:          nobody,
			ReadHeaderTimeout: clientPatience,
		}
		go func() { r.fail(fmt.Errorf("intercept on %s: %w", l.Addr(), s.Serve(in))) }()
		return nil
	}}
}

func (i interception) does() string {
	text := "HTTP in the clear is read and forwarded"
	if !i.plain {
		text = "TLS is ended with a certificate made on the spot, and the HTTP/1.1 in it forwarded"
	}
	if i.verify {
		text += ", to servers that a public authority vouches for"
	}
	if i.stripUpgrade {
		text += ", without upgrades"
	}
	return text
}

// impersonate answers a ClientHello. The server is dialled first, so that a
// client never gets a handshake with a server that is not there.
func (i interception) impersonate(hello *tls.ClientHelloInfo, r *router) (*tls.Config, error) {
	f := hello.Conn.(*redirected)
	name := cmp.Or(hello.ServerName, f.to.Addr().String())
	f.tls = &tls.Config{
		ServerName:         name, // an address is not sent, but verified
		RootCAs:            r.pki.web.roots(),
		InsecureSkipVerify: !i.verify,
		NextProtos:         []string{"http/1.1"},
	}
	c, err := f.dial(hello.Context())
	if err != nil {
		return nil, err
	}
	f.ready.Store(&c)
	cert, err := r.pki.office.issue(name)
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{*cert}, NextProtos: []string{"http/1.1"}}, nil
}

// handler forwards requests to where their connection was going, whatever Host
// they name. Bodies stream in both directions, unless they are held back.
func (i interception) handler() http.Handler {
	forward := &httputil.ReverseProxy{
		Rewrite: func(q *httputil.ProxyRequest) {
			q.Out.URL.Scheme, q.Out.URL.Host = "http", redirectedIn(q.In.Context()).to.String()
			q.Out.Host = q.In.Host
			q.Out.Header.Add("Via", via)
		},
		Transport:     onward{},
		FlushInterval: -1,
		ErrorLog:      nobody,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if !i.stripUpgrade {
			_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/1.1 always can
			forward.ServeHTTP(w, q)
			return
		}
		stripUpgrade(q.Header)
		body, err := io.ReadAll(http.MaxBytesReader(w, q.Body, maxHeld))
		if err != nil {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
			return
		}
		q.Body, q.ContentLength, q.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
		forward.ServeHTTP(w, q)
	})
}

// redirected is a connection that the firewall has redirected to an interceptor.
type redirected struct {
	net.Conn
	router *router
	to     netip.AddrPort           // where its client wanted to go
	tls    *tls.Config              // for the server; nil: plain HTTP
	ready  atomic.Pointer[net.Conn] // to the server, dialled ahead and not used yet
	out    *http.Transport          // to the server
}

// redirects accepts redirected connections.
type redirects struct {
	net.Listener
	router *router
}

func (l *redirects) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		to, err := originalDestination(c.(*net.TCPConn))
		if err != nil || to.Addr() == l.router.addr { // nobody redirected it: a loop
			c.Close()
			continue
		}
		f := &redirected{Conn: c, router: l.router, to: to}
		f.out = &http.Transport{DisableCompression: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return f.dial(ctx) }}
		return f, nil
	}
}

// dial connects to the server, through TLS where the client asked for that.
func (f *redirected) dial(ctx context.Context) (net.Conn, error) {
	if c := f.ready.Swap(nil); c != nil {
		return *c, nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := f.router.ns.dial(ctx, "tcp4", f.to.String())
	if err != nil || f.tls == nil {
		return c, err
	}
	t := tls.Client(c, f.tls)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return t, nil
}

// Close lets go of both sides.
func (f *redirected) Close() error {
	f.out.CloseIdleConnections()
	if c := f.ready.Swap(nil); c != nil {
		_ = (*c).Close() // it was never used
	}
	return f.Conn.Close()
}

type redirectedKey struct{}

func withRedirected(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return context.WithValue(ctx, redirectedKey{}, c.(*redirected))
}

func redirectedIn(ctx context.Context) *redirected { return ctx.Value(redirectedKey{}).(*redirected) }

// onward sends each request to the server of the connection that it came on.
type onward struct{}

func (onward) RoundTrip(q *http.Request) (*http.Response, error) {
	return redirectedIn(q.Context()).out.RoundTrip(q)
}

// originalDestination asks the kernel where a redirected connection was going:
// SO_ORIGINAL_DST of linux/netfilter_ipv4.h, a sockaddr_in.
func originalDestination(c *net.TCPConn) (netip.AddrPort, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	var to netip.AddrPort
	var failed error
	err = raw.Control(func(fd uintptr) {
		// This option's type is only one of the right size.
		var at *unix.IPv6Mreq
		if at, failed = unix.GetsockoptIPv6Mreq(int(fd), unix.SOL_IP, unix.SO_ORIGINAL_DST); failed != nil {
			return
		}
		b := at.Multiaddr // family, port, address
		to = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), uint16(b[2])<<8|uint16(b[3]))
	})
	return to, errors.Join(err, failed)
}
