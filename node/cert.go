package node

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"
)

// certificates are what the node's TLS listeners show. Who the node is, libp2p's
// handshake inside proves; the certificate is there to pass firewalls, and to
// tell an interceptor: peers are told its hash, inside.
type certificates interface {
	// Get chooses for one handshake; it is a tls.Config.GetCertificate.
	Get(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Hashes are the SHA-256 of all leaf certificates that a peer may have been
	// shown lately, the current one first.
	Hashes() [][]byte
}

// newCertificates are those of the node that lives in dir.
func newCertificates(dir string, cfg ACME, log *slog.Logger) (certificates, error) {
	own, err := newOwnCertificate(dir, log)
	if err != nil {
		return nil, err
	}
	if cfg.Domain == "" {
		return own, nil
	}
	return newACMECertificates(dir, cfg, own, log)
}

// obtainCertificate asks an authority for a certificate, where one is wanted,
// until ctx ends. The node must listen already.
func obtainCertificate(ctx context.Context, certs certificates) {
	if c, ok := certs.(*acmeCertificates); ok {
		// Not waited for: a request to the authority may take minutes to fail.
		go c.obtain(ctx)
	}
}

// leafHash is how a certificate is told apart from others.
func leafHash(c *tls.Certificate) []byte {
	sum := sha256.Sum256(c.Certificate[0])
	return sum[:]
}

// describe says in words what the certificate is worth.
func describe(certs certificates, cfg ACME) string {
	c, err := certs.Get(&tls.ClientHelloInfo{})
	switch {
	case err != nil:
		return "none"
	case c.Leaf.Issuer.String() != c.Leaf.Subject.String():
		return fmt.Sprintf("of %s, for %s, until %s", c.Leaf.Issuer, cfg.Domain, c.Leaf.NotAfter.UTC().Format(time.DateOnly))
	case cfg.Domain != "":
		return "self-signed; one for " + cfg.Domain + " is being asked for"
	}
	return "self-signed: peers prove who they are by their peer IDs"
}
