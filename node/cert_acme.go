package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// ACME gets a relay a certificate of a known authority, for its name (RFC 8555):
// inspectors, and firewalls that verify, refuse others. The authority checks the
// name by connecting to port 443 of the machine it points to (TLS-ALPN-01, RFC
// 8737), where the relay listens anyway. The zero ACME gets none.
type ACME struct {
	Domain    string         // the relay's name; empty: none, and a self-signed certificate
	Directory string         // URL of the authority's directory; empty: Let's Encrypt
	Email     string         // where the authority may write to; empty: nowhere
	Roots     *x509.CertPool // that the directory's own certificate is checked against; nil: the system's
}

// dnsName is a host name that a public authority certifies: two labels or more,
// in ASCII (other scripts as xn--...).
var dnsName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])$`)

func (a ACME) check() error {
	switch {
	case a.Domain == "" && (a.Directory != "" || a.Email != ""):
		return errors.New("certificate: an authority, but no domain to certify")
	case a.Domain != "" && (len(a.Domain) > 253 || !dnsName.MatchString(a.Domain)):
		return fmt.Errorf("domain %q: not a full host name in lower case", a.Domain)
	case a.Directory != "":
		if u, err := url.Parse(a.Directory); err != nil || u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("ACME directory %q: not an https URL", a.Directory)
		}
	}
	return nil
}

func (a ACME) directory() string {
	if a.Directory != "" {
		return a.Directory
	}
	return acme.LetsEncryptURL
}

const (
	// acmeTimeout bounds one request to the authority.
	acmeTimeout = 30 * time.Second
	// An authority that refuses is asked again after 5 minutes, then twice as
	// long each time: Let's Encrypt allows five failures an hour.
	acmeRetry, maxACMERetry = 5 * time.Minute, 6 * time.Hour
	// renewalLook is how often is looked whether the certificate was renewed. The
	// manager does that when a third of its life is left, and when it cannot, tries
	// again every hour, silently.
	renewalLook = 12 * time.Hour
)

// acmeCertificates shows the authority's certificate once there is one, and the
// node's own until then.
type acmeCertificates struct {
	domain   string
	log      *slog.Logger
	own      *ownCertificate
	m        *autocert.Manager
	refusals *acmeRefusals
	look     time.Duration // renewalLook

	issued atomic.Bool // m has a certificate: asking for it does not wait

	mu     sync.Mutex       // guards the fields below
	latest *tls.Certificate // of the authority's, shown last; nil: none
	before *tls.Certificate // the one before
}

func newACMECertificates(dir string, cfg ACME, own *ownCertificate, log *slog.Logger) (*acmeCertificates, error) {
	u, err := url.Parse(cfg.directory())
	if err != nil {
		return nil, fmt.Errorf("ACME directory: %w", err)
	}
	web := http.DefaultTransport.(*http.Transport).Clone()
	web.TLSClientConfig = &tls.Config{RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12}
	refusals := &acmeRefusals{web: web}
	return &acmeCertificates{
		domain: cfg.Domain, log: log, own: own, refusals: refusals, look: renewalLook,
		m: &autocert.Manager{
			Prompt: autocert.AcceptTOS,
			// By authority: a certificate from its test directory would else
			// be taken for one of the real one.
			Cache:      autocert.DirCache(filepath.Join(dir, acmeDir, cacheName(u))),
			HostPolicy: autocert.HostWhitelist(cfg.Domain),
			Email:      cfg.Email,
			Client: &acme.Client{
				DirectoryURL: u.String(), UserAgent: "wce2e",
				HTTPClient: &http.Client{Transport: refusals, Timeout: acmeTimeout},
			},
		},
	}, nil
}

// cacheName is the authority's host, as the name of a directory.
func cacheName(u *url.URL) string { return strings.ReplaceAll(u.Host, ":", "_") }

// obtain gets the certificate, however long it takes, and then sees to it that its
// renewals do not fail silently, until ctx ends. The listener on 443 must be up: the
// authority looks for it.
func (c *acmeCertificates) obtain(ctx context.Context) {
	for wait := acmeRetry; !c.obtained(wait); wait = min(2*wait, maxACMERetry) {
		if !sleep(ctx, wait) {
			return
		}
	}
	for sleep(ctx, c.look) {
		c.tellIfLate(time.Now())
	}
}

// obtained asks once, and tells what came of it.
func (c *acmeCertificates) obtained(wait time.Duration) bool {
	cert, err := c.m.GetCertificate(c.hello())
	if err == nil {
		c.issued.Store(true)
		c.log.Info("certificate of a known authority", "domain", c.domain, "issuer", cert.Leaf.Issuer.String(), "until", cert.Leaf.NotAfter)
		return true
	}
	if detail := c.refusals.last(); detail != "" && !strings.Contains(err.Error(), detail) {
		err = fmt.Errorf("%w: the authority says: %s", err, detail)
	}
	c.log.Warn("no certificate of a known authority yet, the self-signed one serves", "domain", c.domain, "again_in", wait, "err", err)
	return false
}

// tellIfLate warns of a certificate that should have been renewed by now: a quarter
// of its life is left, or less.
func (c *acmeCertificates) tellIfLate(now time.Time) {
	leaf := c.leaf()
	if leaf == nil || leaf.NotAfter.Sub(now) > leaf.NotAfter.Sub(leaf.NotBefore)/4 {
		return
	}
	why := c.refusals.last()
	if why == "" {
		why = "the authority has not said why"
	}
	c.log.Warn("the certificate of a known authority is not renewed, once it has ended the self-signed one serves",
		"domain", c.domain, "until", leaf.NotAfter, "err", why)
}

// leaf is the authority's certificate, even when it has ended; nil: there is none yet.
func (c *acmeCertificates) leaf() *x509.Certificate {
	if !c.issued.Load() {
		return nil
	}
	cert, err := c.m.GetCertificate(c.hello())
	if err != nil {
		return nil
	}
	return cert.Leaf
}

// hello is a client that takes an ECDSA certificate. The manager would keep a
// second one, of RSA, for those of 2015.
func (c *acmeCertificates) hello() *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{
		ServerName:       c.domain,
		CipherSuites:     []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
		SupportedCurves:  []tls.CurveID{tls.CurveP256},
	}
}

// Get shows the authority's certificate to all, whatever name they ask for:
// most ask for none, and come by IP address.
func (c *acmeCertificates) Get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if slices.Equal(hello.SupportedProtos, []string{acme.ALPNProto}) {
		return c.m.GetCertificate(hello) // the challenge's
	}
	if !c.issued.Load() {
		return c.own.Get(hello)
	}
	cert, err := c.m.GetCertificate(c.hello())
	if err != nil || time.Now().After(cert.Leaf.NotAfter) { // it could not be renewed
		return c.own.Get(hello)
	}
	c.shown(cert)
	return cert, nil
}

// shown remembers the last two, so that a peer which was shown the one before
// finds its hash.
func (c *acmeCertificates) shown(cert *tls.Certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.latest == nil || !bytes.Equal(c.latest.Certificate[0], cert.Certificate[0]) {
		c.latest, c.before = cert, c.latest
	}
}

func (c *acmeCertificates) Hashes() [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	var hashes [][]byte
	for _, cert := range []*tls.Certificate{c.latest, c.before} {
		if cert != nil {
			hashes = append(hashes, leafHash(cert))
		}
	}
	return append(hashes, c.own.Hashes()...)
}

// acmeRefusals reads along with the authority's answers: the manager drops why
// a challenge failed ("connection refused", say), which is what an operator has
// to know, and of a renewal that failed it says nothing at all.
type acmeRefusals struct {
	web http.RoundTripper

	mu     sync.Mutex // guards the field below
	detail string
}

// maxACMEAnswer is what is read of an answer, in bytes; they have a few hundred.
const maxACMEAnswer = 64 << 10

func (a *acmeRefusals) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := a.web.RoundTrip(r)
	if err != nil {
		a.note(err.Error())
		return nil, err
	}
	kind := resp.Header.Get("Content-Type")
	if !strings.HasPrefix(kind, "application/json") && !strings.HasPrefix(kind, "application/problem+json") {
		if resp.StatusCode >= http.StatusBadRequest {
			a.note(resp.Status)
		}
		return resp, nil
	}
	head, err := io.ReadAll(io.LimitReader(resp.Body, maxACMEAnswer))
	if err != nil {
		resp.Body.Close()
		return nil, fmt.Errorf("read the authority's answer: %w", err)
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), resp.Body), resp.Body}
	a.learn(head)
	return resp, nil
}

// learn looks for the reason in an answer of any kind: problems (RFC 7807) have
// one, and authorizations (RFC 8555, section 7.1.4).
func (a *acmeRefusals) learn(answer []byte) {
	var said struct {
		Detail     string
		Challenges []struct {
			Error struct{ Detail string }
		}
	}
	if json.Unmarshal(answer, &said) != nil {
		return
	}
	a.note(said.Detail)
	for _, c := range said.Challenges {
		a.note(c.Error.Detail)
	}
}

// note remembers a reason; "" is none.
func (a *acmeRefusals) note(why string) {
	if why == "" {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.detail = why
}

// last is the latest reason, told once.
func (a *acmeRefusals) last() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	detail := a.detail
	a.detail = ""
	return detail
}
