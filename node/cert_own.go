package node

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"github.com/worldcompute/wce2e/node/traversal/web"
)

// ownRenewBefore is how long before its end an own certificate is renewed: who
// pins it (a firewall's allow-list, say) has time to see the new one.
const ownRenewBefore = web.Validity / 3

// ownCertificate is self-signed and kept in the node's directory: an inspector
// or an operator that has seen it once knows it again after a restart.
type ownCertificate struct {
	path string
	log  *slog.Logger
	now  func() time.Time

	mu      sync.Mutex // guards the fields below
	current *tls.Certificate
	before  *tls.Certificate // shown by this process until it was renewed; nil: none
}

// newOwnCertificate loads the certificate of dir. One that is missing, damaged
// or near its end is made anew.
func newOwnCertificate(dir string, log *slog.Logger) (*ownCertificate, error) {
	c := &ownCertificate{path: filepath.Join(dir, certificateFile), log: log, now: time.Now}
	var err error
	if c.current, err = readCertificate(c.path); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			log.Warn("the certificate cannot be used, a new one is made", "err", err)
		}
		if c.current, err = web.SelfSigned(c.now()); err != nil {
			return nil, err
		}
		if err := writeCertificate(c.path, c.current); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Get is the certificate, renewed when its time has come.
func (c *ownCertificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); c.current.Leaf.NotAfter.Sub(now) < ownRenewBefore {
		c.renew(now)
	}
	return c.current, nil
}

// renew wants mu held. What fails is tried again at the next handshake: the old
// one does its work past its end, too, as nobody can verify it anyway.
func (c *ownCertificate) renew(now time.Time) {
	fresh, err := web.SelfSigned(now)
	if err == nil {
		err = writeCertificate(c.path, fresh)
	}
	if err != nil {
		c.log.Warn("the certificate cannot be renewed", "err", err)
		return
	}
	c.before, c.current = c.current, fresh
	c.log.Info("the certificate was renewed", "until", fresh.Leaf.NotAfter)
}

func (c *ownCertificate) Hashes() [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	hashes := [][]byte{leafHash(c.current)}
	if c.before != nil {
		hashes = append(hashes, leafHash(c.before))
	}
	return hashes
}

// readCertificate reads certificate and key from one file, which nobody else
// may read.
func readCertificate(path string) (*tls.Certificate, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	if err := refuseOpenMode(path, info, 0o600); err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	c, err := tls.X509KeyPair(raw, raw) // fills in Leaf
	if err != nil {
		return nil, fmt.Errorf("read certificate %s: %w", path, err)
	}
	return &c, nil
}

// writeCertificate replaces the file in one step: a crash leaves the old one or
// the new one.
func writeCertificate(path string, c *tls.Certificate) error {
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	raw := slices.Concat(
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	if err := renameio.WriteFile(path, raw, 0o600); err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	return nil
}
