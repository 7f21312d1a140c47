package web

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"time"
)

// acmeTLS is what a certificate authority asks for that validates with
// tls-alpn-01 (RFC 8737).
const acmeTLS = "acme-tls/1"

// maxLeaves are remembered: a relay has one certificate, two around a renewal, and
// one more for each further name.
const maxLeaves = 16

// certificates are those of the listeners.
type certificates struct {
	choose func(*tls.ClientHelloInfo) (*tls.Certificate, error)

	mu        sync.Mutex // guards presented
	presented [][]byte   // SHA-256, the latest last
}

func newCertificates(choose func(*tls.ClientHelloInfo) (*tls.Certificate, error)) (*certificates, error) {
	c := &certificates{choose: choose}
	if choose != nil {
		return c, nil
	}
	own, err := selfSigned()
	if err != nil {
		return nil, err
	}
	c.choose = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return own, nil }
	c.note(own)
	return c, nil
}

// config is a listener's.
func (c *certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1", acmeTLS},
		GetCertificate: c.get,
	}
}

func (c *certificates) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	cert, err := c.choose(hello)
	if err == nil && !slices.Contains(hello.SupportedProtos, acmeTLS) {
		c.note(cert)
	}
	return cert, err
}

func (c *certificates) note(cert *tls.Certificate) {
	if cert == nil || len(cert.Certificate) == 0 {
		return
	}
	leaf := sha256.Sum256(cert.Certificate[0])
	c.mu.Lock()
	defer c.mu.Unlock()
	isLeaf := func(h []byte) bool { return slices.Equal(h, leaf[:]) }
	c.presented = append(slices.DeleteFunc(c.presented, isLeaf), leaf[:])
	if len(c.presented) > maxLeaves {
		c.presented = c.presented[1:]
	}
}

func (c *certificates) leaves() [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.presented)
}

// selfSigned makes a certificate that has no name and proves nothing, new at
// every start.
func selfSigned() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "relay"},
		NotBefore:    now.Add(-24 * time.Hour), // for clients whose clock is behind
		NotAfter:     now.AddDate(1, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
