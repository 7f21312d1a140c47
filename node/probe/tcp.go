package probe

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	tptu "github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multistream"

	"github.com/worldcompute/wce2e/node/netcheck"
	"github.com/worldcompute/wce2e/node/traversal/web"
	"github.com/worldcompute/wce2e/node/traversal/web/tunnel"
)

// climber takes one TCP connection up, layer by layer.
type climber struct {
	*prober
	*transaction
	way
	web      web.Endpoint // of WebSocket and of tunnels
	raw      *counted     // TCP, or what a proxy lends; of a tunnel, the first one
	sum      total        // of all of a tunnel's
	conn     net.Conn     // the topmost layer so far
	leaf     []byte       // SHA-256 of the certificate that the outer TLS showed
	inner    *counted     // what libp2p speaks on
	secure   sec.SecureConn
	standing *session
}

// layer is one of them.
type layer struct {
	op     netcheck.Operation
	proto  string
	within time.Duration
	do     func(context.Context, *netcheck.Record) error
}

// layers are those of the way, from the bottom up.
func (c *climber) layers() []layer {
	out := []layer{{netcheck.Connect, "tcp", c.prober.connect, c.dial}}
	if c.by != nil {
		out = []layer{{netcheck.ProxyTunnel, "", c.prober.connect, c.dialProxy}}
	}
	if c.web.TLS {
		out = append(out, layer{netcheck.TLS, "tls", c.prober.layer, c.outerTLS})
	}
	switch {
	case c.web.Tunnel:
		out = append(out, layer{netcheck.Upgrade, "http", c.prober.layer, c.openTunnel})
	case c.web.URL != "":
		out = append(out, layer{netcheck.Upgrade, "websocket", c.prober.layer, c.upgrade})
	}
	return append(out,
		layer{netcheck.Multistream, string(c.security), c.prober.layer, c.multistream},
		layer{netcheck.Security, string(c.security), c.prober.layer, c.secureIt},
		layer{netcheck.Muxer, string(yamux.ID), c.prober.layer, c.multiplex})
}

// reachTCP goes a way over TCP, up to where streams can be opened.
func (p *prober) reachTCP(ctx context.Context, t *transaction, w way) (*session, netcheck.Operation, error) {
	c := &climber{prober: p, transaction: t, way: w}
	if w.transport != "tcp" {
		var err error
		if c.web, err = web.ParseEndpoint(w.lead.addr); err != nil {
			return nil, netcheck.Connect, t.step(ctx, netcheck.Connect, p.connect, func(context.Context, *netcheck.Record) error { return err })
		}
	}
	for _, l := range c.layers() {
		t.shared.Proto = l.proto
		err := p.watched(ctx, t, w, l.op, l.within, l.do)
		if err != nil {
			c.hangUp()
			return nil, l.op, err
		}
	}
	return c.standing, "", nil
}

func (c *climber) hangUp() {
	if c.raw != nil {
		_ = c.raw.Close()  // what was to be learnt is learnt;
		_ = c.conn.Close() // and what lies above has nobody left to say goodbye to
	}
}

func (c *climber) dial(ctx context.Context, _ *netcheck.Record) error {
	conn, err := dialTCP(ctx, hostport(c.lead.addr), c.segment)
	if err != nil {
		return err
	}
	c.lies(conn)
	return nil
}

// lies puts the connection at the bottom.
func (c *climber) lies(conn net.Conn) {
	c.raw = c.sum.of(conn)
	c.conn, c.traffic = c.raw, c.sum.traffic
}

// dialTCP connects without keepalives: silences have to be silent.
func dialTCP(ctx context.Context, to string, segment int) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1}
	if segment > 0 {
		d.Control = func(_, _ string, raw syscall.RawConn) error { return setSegment(raw, segment) }
	}
	return d.DialContext(ctx, "tcp", to)
}

func (c *climber) dialProxy(ctx context.Context, r *netcheck.Record) error {
	to := r.Addr
	r.Addr = c.by.URL
	if u, err := url.Parse(c.by.URL); err == nil {
		r.Proto = u.Scheme
	}
	conn, err := c.Proxies.DialThrough(ctx, *c.by, to)
	r.Facts.Login = c.Proxies.WantsLogin(*c.by)
	if refused, ok := errors.AsType[interface {
		error
		ProxyStatus() int
	}](err); ok {
		r.Facts.Status = refused.ProxyStatus()
	}
	if err != nil {
		return err
	}
	c.lies(conn)
	return nil
}

// outerTLS accepts every certificate, as the daemon does: libp2p's handshake inside
// proves who answers. What was shown is recorded, and why it would not do by itself.
func (c *climber) outerTLS(ctx context.Context, r *netcheck.Record) error {
	conn := tls.Client(c.raw, c.tlsConfig(c.web.ServerName))
	err := conn.HandshakeContext(ctx)
	if err != nil {
		r.Facts.FirstByte = c.raw.came()
		return err
	}
	c.raw.came()
	chain := conn.ConnectionState().PeerCertificates
	why := verify(chain, c.web.ServerName, c.Roots)
	trusted := why == nil
	r.Facts.Chain, r.Facts.Trusted = describe(chain), &trusted
	if why != nil {
		r.Error = scrub(why.Error())
	}
	leaf := sha256.Sum256(chain[0].Raw)
	c.leaf, c.conn = leaf[:], conn
	return nil
}

// tlsConfig is the daemon's own, small key shares included.
func (c *climber) tlsConfig(name string) *tls.Config {
	protocols := []string{"http/1.1"}
	if c.web.Tunnel {
		protocols = []string{"h2", "http/1.1"}
	}
	return helloTo(name, protocols, tls.X25519, tls.CurveP256)
}

// helloTo configures a handshake with whoever answers.
func helloTo(name string, protocols []string, curves ...tls.CurveID) *tls.Config {
	return &tls.Config{ServerName: name, NextProtos: protocols, MinVersion: tls.VersionTLS12, CurvePreferences: curves, InsecureSkipVerify: true}
}

func verify(chain []*x509.Certificate, name string, roots *x509.CertPool) error {
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: name, Intermediates: between})
	return err
}

// maxChain bounds how much of a chain is written down.
const maxChain = 8

func describe(chain []*x509.Certificate) []netcheck.Cert {
	var out []netcheck.Cert
	for _, c := range chain[:min(len(chain), maxChain)] {
		sum := sha256.Sum256(c.Raw)
		out = append(out, netcheck.Cert{Subject: scrub(c.Subject.String()), Issuer: scrub(c.Issuer.String()),
			SHA256: hex.EncodeToString(sum[:]), NotBefore: c.NotBefore, NotAfter: c.NotAfter})
	}
	return out
}

func (c *climber) upgrade(ctx context.Context, r *netcheck.Record) error {
	conn, status, err := web.WebSocket(ctx, c.web.URL, c.conn)
	r.Facts.Status = status
	if err != nil {
		r.Facts.FirstByte = c.clear()
		return err
	}
	c.raw.came()
	c.conn = conn
	return nil
}

// clear is what came in place of what was expected, unless it is encrypted.
func (c *climber) clear() string {
	came := c.raw.came()
	if c.web.TLS {
		return ""
	}
	return came
}

// openTunnel is the first request of a tunnel on this connection; it makes further
// ones by the same way.
func (c *climber) openTunnel(ctx context.Context, r *netcheck.Record) error {
	first, begun := c.conn, new(atomic.Bool)
	over := tunnel.Over(func(ctx context.Context) (net.Conn, error) {
		if !begun.Swap(true) {
			return first, nil
		}
		return c.another(ctx)
	})
	client := tunnel.Client{HTTP: over, URL: c.web.URL, UserAgent: web.DefaultUserAgent}
	conn, err := client.Dial(ctx)
	if status := new(tunnel.StatusError); errors.As(err, &status) {
		r.Facts.Status = status.Status
		r.Facts.FirstByte = c.clear()
	}
	if err != nil {
		return &web.DialError{Phase: web.Upgrade, Status: r.Facts.Status, Err: err}
	}
	r.Facts.Status = http.StatusOK
	c.conn = conn
	return nil
}

// another is one more connection of a tunnel.
func (c *climber) another(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.prober.connect)
	defer cancel()
	var raw net.Conn
	var err error
	if c.by != nil {
		raw, err = c.Proxies.DialThrough(ctx, *c.by, hostport(c.lead.addr))
	} else {
		raw, err = dialTCP(ctx, hostport(c.lead.addr), c.segment)
	}
	if err != nil {
		return nil, err
	}
	raw = c.sum.of(raw)
	if !c.web.TLS {
		return raw, nil
	}
	conn := tls.Client(raw, c.tlsConfig(c.web.ServerName))
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close() // the cause is returned
		return nil, err
	}
	return conn, nil
}

// multistream is the first word of libp2p on a connection: which security shall it be.
func (c *climber) multistream(ctx context.Context, r *netcheck.Record) error {
	top := &counted{Conn: c.conn}
	c.conn, c.inner = top, top
	err := within(ctx, top, func() error {
		_, err := multistream.SelectOneOf([]protocol.ID{c.security}, top)
		return err
	})
	came := top.came()
	if err != nil {
		r.Facts.FirstByte = came
		if !opensMultistream(came) {
			err = fmt.Errorf("%w: %w", multistream.ErrIncorrectVersion, err)
		}
		return ofSecurity(err)
	}
	return nil
}

// opensMultistream tells whether what came, in hex, is how libp2p opens. The library
// takes the first byte of anything for a length, and waits for as many more.
func opensMultistream(came string) bool {
	const header = "\x13/multistream/1.0.0\n"
	opening := hex.EncodeToString([]byte(header))
	return came == "" || strings.HasPrefix(came, opening) || strings.HasPrefix(opening, came)
}

func (c *climber) secureIt(ctx context.Context, r *netcheck.Record) error {
	var err error
	muxers := []tptu.StreamMuxer{{ID: yamux.ID, Muxer: silent()}}
	if c.security == libp2ptls.ID {
		var t *libp2ptls.Transport
		if t, err = libp2ptls.New(libp2ptls.ID, c.key, muxers); err == nil {
			c.secure, err = t.SecureOutbound(ctx, c.conn, c.lead.peer)
		}
	} else {
		c.secure, err = c.noise(ctx, muxers)
	}
	if err != nil {
		r.Facts.FirstByte = c.inner.came()
		if wrong := new(sec.ErrPeerIDMismatch); errors.As(err, wrong) {
			r.Facts.Peer = wrong.Actual.String()
		}
		return ofSecurity(err)
	}
	r.Facts.Peer = c.secure.RemotePeer().String()
	return nil
}

// noise takes whoever answers where it is not known who should.
func (c *climber) noise(ctx context.Context, muxers []tptu.StreamMuxer) (sec.SecureConn, error) {
	t, err := noise.New(noise.ID, c.key, muxers)
	if err != nil {
		return nil, err
	}
	if c.lead.peer != "" {
		return t.SecureOutbound(ctx, c.conn, c.lead.peer)
	}
	anybody, err := t.WithSessionOptions(noise.DisablePeerIDCheck())
	if err != nil {
		return nil, err
	}
	return anybody.SecureOutbound(ctx, c.conn, "")
}

// The classifier knows a failed handshake by the words that the library's upgrader
// puts before it, and so does everybody who reads the daemon's own events.
func ofSecurity(err error) error { return fmt.Errorf("failed to negotiate security protocol: %w", err) }
func ofMuxer(err error) error {
	return fmt.Errorf("failed to negotiate stream multiplexer: %w", err)
}

// silent is yamux that says nothing by itself.
func silent() *yamux.Transport {
	muxer := *yamux.DefaultTransport
	muxer.EnableKeepAlive = false
	muxer.MeasureRTTInterval = time.Hour
	return &muxer
}

// multiplex agrees on the muxer, unless the handshake has done so, and opens a first
// stream: before an answer has come on one, nothing is known to work.
func (c *climber) multiplex(ctx context.Context, _ *netcheck.Record) error {
	if c.secure.ConnState().StreamMultiplexer == "" {
		err := within(ctx, c.secure, func() error {
			_, err := multistream.SelectOneOf([]protocol.ID{yamux.ID}, c.secure)
			return err
		})
		if err != nil {
			return ofMuxer(err)
		}
	}
	m, err := silent().NewConn(c.secure, false, nil)
	if err != nil {
		return ofMuxer(err)
	}
	c.standing = newSession(c.prober, c.way, muxed{m, func() { c.hangUp(); _ = m.Close() }}, c.secure.RemotePeer(), c.leaf)
	c.standing.first, err = c.standing.open(ctx, identify.ID)
	if err != nil && netcheck.Classify(err) != netcheck.NoProtocol {
		c.standing.close()
		return ofMuxer(err)
	}
	return nil
}

// within does something on a connection until ctx ends.
func within(ctx context.Context, conn interface{ SetDeadline(time.Time) error }, do func() error) error {
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := do(); err != nil {
		if errors.Is(ctx.Err(), context.Canceled) {
			return fmt.Errorf("%w (%v)", ctx.Err(), err)
		}
		return err
	}
	if !stop() {
		return ctx.Err()
	}
	return conn.SetDeadline(time.Time{})
}

// hostport is where an address leads; for a name, what a proxy is told.
func hostport(a ma.Multiaddr) string {
	if len(a) < 2 {
		return ""
	}
	return net.JoinHostPort(a[0].Value(), a[1].Value())
}
