package web

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"slices"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/transport"
)

// Outer is what was seen outside of libp2p's own handshake, on a connection that
// this transport dialled.
type Outer struct {
	Route string // the proxy's URL, without credentials; "" directly
	TLS   bool

	Verified  bool   // the chain leads to an authority we know, and the name is right
	VerifyErr error  // why not
	Leaf      []byte // SHA-256 of the certificate, which its owner can confirm or deny
	Issuer    string // of the certificate: an inspector's name stands here
}

// OuterOf returns what was seen around c, a network.Conn or a
// transport.CapableConn. It returns false for a connection of another transport,
// and for an incoming one.
func OuterOf(c interface{ As(any) bool }) (Outer, bool) {
	var o Outer
	ok := c.As(&o)
	return o, ok
}

// conn is a connection of this transport.
type conn struct {
	transport.CapableConn
	outer *Outer // nil: incoming
	kind  string
}

// The names of the two ways in a connection's state: the library's, and ours.
const (
	kindWebSocket = "websocket"
	kindTunnel    = "http"
)

func (to target) kind() string {
	if to.tunnel {
		return kindTunnel
	}
	return kindWebSocket
}

// As gives an *Outer what was seen.
func (c *conn) As(target any) bool {
	if o, ok := target.(*Outer); ok && c.outer != nil {
		*o = *c.outer
		return true
	}
	return c.CapableConn.As(target)
}

func (c *conn) ConnState() network.ConnectionState {
	s := c.CapableConn.ConnState()
	s.Transport = c.kind
	return s
}

// clientTLS is the configuration of one dial. It notes in o what the server shows,
// and accepts all of it.
//
// The key shares are the small ones. With the post-quantum share a ClientHello is
// 1.5 KB, two packets; on paths that drop large packets, and at boxes that look
// for the name in the first packet only, it is never answered. What it would
// protect is protected by the handshake inside.
func (t *Transport) clientTLS(to target, protocols []string, o *Outer) *tls.Config {
	return &tls.Config{
		ServerName:         to.server(), // an IP is not sent
		NextProtos:         protocols,
		MinVersion:         tls.VersionTLS12,
		CurvePreferences:   []tls.CurveID{tls.X25519, tls.CurveP256},
		InsecureSkipVerify: true, // VerifyConnection does it
		VerifyConnection: func(s tls.ConnectionState) error {
			*o = t.inspect(s.PeerCertificates, to.server(), *o)
			return nil
		},
	}
}

// inspect adds to o what chain, which a client is never without, says.
func (t *Transport) inspect(chain []*x509.Certificate, name string, o Outer) Outer {
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: t.cfg.Roots, DNSName: name, Intermediates: between})
	leaf := sha256.Sum256(chain[0].Raw)
	o.TLS, o.Verified, o.VerifyErr = true, err == nil, err
	o.Leaf, o.Issuer = leaf[:], chain[0].Issuer.String()
	return o
}

// sameAs tells whether a later connection of a tunnel shows what the first did.
// Where both verify, the certificate may be another one of the same authority:
// proxies that stand in a row make one each.
func (o Outer) sameAs(first Outer) bool {
	return slices.Equal(o.Leaf, first.Leaf) || o.Verified && first.Verified && o.Issuer == first.Issuer
}
