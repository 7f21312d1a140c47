package node

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
	"golang.org/x/crypto/acme/autocert"
)

func certificatesOf(t *testing.T, dir string, cfg ACME) certificates {
	t.Helper()
	certs, err := newCertificates(dir, cfg, discard())
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

func shownBy(t *testing.T, certs certificates) *tls.Certificate {
	t.Helper()
	c, err := certs.Get(&tls.ClientHelloInfo{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheOwnCertificateIsTheSameAfterARestart(t *testing.T) {
	dir := newDir(t)
	first, second := certificatesOf(t, dir, ACME{}), certificatesOf(t, dir, ACME{})
	if !bytes.Equal(leafHash(shownBy(t, first)), leafHash(shownBy(t, second))) {
		t.Error("another certificate is shown")
	}
	if !slices.EqualFunc(first.Hashes(), [][]byte{leafHash(shownBy(t, second))}, bytes.Equal) {
		t.Errorf("hashes: %x", first.Hashes())
	}
	info, err := os.Stat(filepath.Join(dir, certificateFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its file: %v, %v", info, err)
	}
	if other := certificatesOf(t, newDir(t), ACME{}); bytes.Equal(other.Hashes()[0], first.Hashes()[0]) {
		t.Error("two nodes share one")
	}
}

func TestTheOwnCertificateIsRenewedBeforeItsEnd(t *testing.T) {
	c := certificatesOf(t, newDir(t), ACME{}).(*ownCertificate)
	old := shownBy(t, c)
	c.now = func() time.Time { return old.Leaf.NotAfter.Add(-ownRenewBefore - time.Hour) }
	if shownBy(t, c) != old {
		t.Error("it was renewed early")
	}
	c.now = func() time.Time { return old.Leaf.NotAfter.Add(-ownRenewBefore + time.Hour) }
	fresh := shownBy(t, c)
	if fresh == old || !fresh.Leaf.NotAfter.After(old.Leaf.NotAfter) {
		t.Fatalf("valid until %s, before until %s", fresh.Leaf.NotAfter, old.Leaf.NotAfter)
	}
	if want := [][]byte{leafHash(fresh), leafHash(old)}; !slices.EqualFunc(c.Hashes(), want, bytes.Equal) {
		t.Errorf("hashes: %x, want %x", c.Hashes(), want)
	}
	again, err := readCertificate(c.path)
	if err != nil || !bytes.Equal(leafHash(again), leafHash(fresh)) {
		t.Errorf("on disk is another one: %v", err)
	}
}

func TestACertificateThatCannotBeKeptIsStillShown(t *testing.T) {
	c := certificatesOf(t, newDir(t), ACME{}).(*ownCertificate)
	old := shownBy(t, c)
	c.path = filepath.Join(c.path, "not a directory")
	c.now = func() time.Time { return old.Leaf.NotAfter }
	if shownBy(t, c) != old {
		t.Error("another one is shown, which the next start would not know")
	}
}

func TestADamagedCertificateIsReplacedAndThatIsSaid(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"cut":                func(path string) error { return os.Truncate(path, 100) },
		"readable by others": func(path string) error { return os.Chmod(path, 0o644) },
	} {
		dir := newDir(t)
		before := certificatesOf(t, dir, ACME{}).Hashes()[0]
		if err := damage(filepath.Join(dir, certificateFile)); err != nil {
			t.Fatal(err)
		}
		text := &logText{}
		certs, err := newCertificates(dir, ACME{}, discardTo(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if bytes.Equal(certs.Hashes()[0], before) || !strings.Contains(text.String(), "a new one is made") {
			t.Errorf("%s: log %q", name, text)
		}
	}
}

func TestWhichDomainsAndDirectoriesAreOnes(t *testing.T) {
	for _, good := range []ACME{
		{}, {Domain: "relay.example.net"}, {Domain: "a.b-c.xn--p1ai", Directory: "https://127.0.0.1:14000/dir", Email: "me@example.net"},
	} {
		if err := good.check(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	for _, bad := range []ACME{
		{Domain: "relay"}, {Domain: "1.2.3.4"}, {Domain: "Relay.example.net"}, {Domain: "-x.example.net"}, {Domain: "*.example.net"},
		{Domain: "a..b"}, {Domain: strings.Repeat("a.", 130) + "net"},
		{Email: "me@example.net"}, {Directory: "https://ca.example/dir"},
		{Domain: "relay.example.net", Directory: "http://ca.example/dir"}, {Domain: "relay.example.net", Directory: "ca.example"},
	} {
		if err := bad.check(); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

func TestWhileAnAuthorityIsSilentTheOwnCertificateServesAndTheLogSaysSo(t *testing.T) {
	authority := httptest.NewTLSServer(http.NotFoundHandler())
	defer authority.Close()
	text := &logText{}
	certs, err := newCertificates(newDir(t), ACME{Domain: testDomain, Directory: authority.URL, Roots: rootsOf(authority)}, discardTo(text))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { certs.(*acmeCertificates).obtain(ctx); close(done) }()
	await(t, "a word in the log", func() bool { return strings.Contains(text.String(), "the self-signed one serves") })
	for _, hello := range []*tls.ClientHelloInfo{{}, {ServerName: testDomain}, {ServerName: "other.example"}} {
		c, err := certs.Get(hello)
		if err != nil || c.Leaf.Subject.CommonName != "relay" {
			t.Errorf("asked for %q: %v", hello.ServerName, err)
		}
	}
	cancel()
	select {
	case <-done:
	case <-time.After(patience):
		t.Error("it goes on asking after its end")
	}
}

// testDomain is a public name, as far as names tell.
const testDomain = "relay.wce2e-test.net"

func rootsOf(s *httptest.Server) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return pool
}

// newAuthority is Pebble, the ACME server that Let's Encrypt made for tests. It
// finds every name on loopback, and looks for its answer at the given port.
func newAuthority(t *testing.T, port int) (cfg ACME, roots *x509.CertPool) {
	t.Helper()
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	t.Setenv("PEBBLE_WFE_NONCEREJECT", "0")
	log := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	issuer := ca.New(log, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {}})
	validator := va.New(log, 0, port, false, loopbackDNS(t), store)
	front := wfe.New(log, store, validator, issuer, []string{"ca.example"}, false, false, 1, 1)
	server := httptest.NewTLSServer(front.Handler())
	t.Cleanup(server.Close)
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(issuer.GetRootCert(0).PEM())
	return ACME{Domain: testDomain, Directory: server.URL + wfe.DirectoryPath, Roots: rootsOf(server)}, roots
}

// loopbackDNS answers every question for an IPv4 address with 127.0.0.1.
func loopbackDNS(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		answer := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			answer.Answer = []dns.RR{&dns.A{
				Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(127, 0, 0, 1),
			}}
		}
		w.WriteMsg(answer)
	})}
	go server.ActivateAndServe()
	t.Cleanup(func() { server.Shutdown() })
	return l.Addr().String()
}

// freePort is one that nobody listens on.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// presented is the chain that a server shows, and what a client thinks of it.
func presented(port int, name string, roots *x509.CertPool) (leaf *x509.Certificate, verified error) {
	c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	chain := c.ConnectionState().PeerCertificates
	rest := x509.NewCertPool()
	for _, i := range chain[1:] {
		rest.AddCert(i)
	}
	_, err = chain[0].Verify(x509.VerifyOptions{DNSName: testDomain, Roots: roots, Intermediates: rest})
	return chain[0], err
}

func TestAnAuthoritysRefusalIsToldInItsOwnWords(t *testing.T) {
	cfg, _ := newAuthority(t, 1) // where nobody listens
	text := &logText{}
	certs, err := newCertificates(newDir(t), cfg, discardTo(text))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go certs.(*acmeCertificates).obtain(ctx)
	await(t, "the reason in the log", func() bool {
		return strings.Contains(text.String(), "Failed to connect to 127.0.0.1:1 for the tls-alpn-01 challenge")
	})
}

// failingAuthority grants nothing, and had granted a certificate with so much of its
// 90 days left, which lies in dir.
func failingAuthority(t *testing.T, dir string, left time.Duration) (cfg ACME, until time.Time) {
	t.Helper()
	authority := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "", http.StatusTeapot)
	}))
	t.Cleanup(authority.Close)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	until = time.Now().Add(left).Truncate(time.Second)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{testDomain}, NotBefore: until.Add(-90 * 24 * time.Hour), NotAfter: until,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	kept := append(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	u, err := url.Parse(authority.URL)
	if err != nil {
		t.Fatal(err)
	}
	cache := autocert.DirCache(filepath.Join(dir, acmeDir, cacheName(u)))
	if err := cache.Put(t.Context(), testDomain, kept); err != nil {
		t.Fatal(err)
	}
	return ACME{Domain: testDomain, Directory: authority.URL, Roots: rootsOf(authority)}, until
}

// notRenewed are certificates of which one is kept for so long, and no other to be had.
func notRenewed(t *testing.T, left time.Duration) (c *acmeCertificates, until time.Time, text *logText) {
	t.Helper()
	dir, text := newDir(t), &logText{}
	cfg, until := failingAuthority(t, dir, left)
	certs, err := newCertificates(dir, cfg, discardTo(text))
	if err != nil {
		t.Fatal(err)
	}
	return certs.(*acmeCertificates), until, text
}

func TestARenewalThatKeepsFailingIsToldWithItsReason(t *testing.T) {
	c, _, text := notRenewed(t, 20*24*time.Hour)
	c.look = time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { c.obtain(ctx); close(done) }()
	await(t, "the reason in the log", func() bool {
		return strings.Contains(text.String(), "is not renewed") && strings.Contains(text.String(), "418")
	})
	cancel()
	select {
	case <-done:
	case <-time.After(patience):
		t.Error("it goes on looking after its end")
	}
}

func TestACertificateIsLateWhenAQuarterOfItsLifeIsLeft(t *testing.T) {
	c, until, text := notRenewed(t, 80*24*time.Hour)
	c.tellIfLate(until) // there is none yet
	if !c.obtained(0) {
		t.Fatalf("the kept one is not taken: %s", text)
	}
	for _, at := range []struct {
		left time.Duration
		told bool
	}{{80 * 24 * time.Hour, false}, {23 * 24 * time.Hour, false}, {22 * 24 * time.Hour, true}, {-time.Hour, true}} {
		before := text.String()
		c.tellIfLate(until.Add(-at.left))
		if told := strings.Contains(strings.TrimPrefix(text.String(), before), "is not renewed"); told != at.told {
			t.Errorf("with %s left, told: %t", at.left, told)
		}
	}
}

func TestMetricsTellWhenTheAuthoritysCertificateEnds(t *testing.T) {
	const name = "wce2e_certificate_not_after_timestamp_seconds"
	dir := newDir(t)
	cfg, until := failingAuthority(t, dir, 80*24*time.Hour)
	named := startNode(t, Config{Relay: true, Dir: dir, ACME: cfg, Metrics: "127.0.0.1:0"})
	await(t, "the end of the certificate", func() bool {
		return scrape(t, named.metricsURL())[name] == float64(until.Unix())
	})
	nameless := startNode(t, Config{Relay: true, Metrics: "127.0.0.1:0"})
	if got, told := scrape(t, nameless.metricsURL())[name]; told {
		t.Errorf("without a name: %v", got)
	}
}

func TestARelayWithANameGetsACertificateOfItsAuthorityOnItsOwnPort(t *testing.T) {
	port := freePort(t)
	authority, roots := newAuthority(t, port)
	cfg := Config{
		Relay: true, Dir: newDir(t), ACME: authority,
		Listen: []string{fmt.Sprintf("/ip4/127.0.0.1/tcp/%d/tls/ws", port), "/ip4/127.0.0.1/tcp/0"},
	}
	relay := startNode(t, cfg)
	var leaf *x509.Certificate
	await(t, "a certificate that verifies", func() (ok bool) {
		var err error
		leaf, err = presented(port, testDomain, roots)
		return err == nil
	})
	if nameless, err := presented(port, "", roots); err != nil || !nameless.Equal(leaf) {
		t.Errorf("who asks for no name is shown another: %v", err)
	}
	if hashes := relay.certs.Hashes(); !bytes.Equal(hashes[0], leafHash(&tls.Certificate{Certificate: [][]byte{leaf.Raw}})) {
		t.Errorf("its hash is not the first of %x", hashes)
	}
	donor := startNode(t, Config{Bootstrap: []string{relay.addr("wss")}})
	donor.through(relay)
	name := fmt.Sprintf("/dns4/%s/tcp/%d/tls/ws", testDomain, port)
	await(t, "the donor told of the name", func() bool {
		return slices.Contains(strs(donor.host.Peerstore().Addrs(relay.host.ID())), name)
	})

	relay.end()
	again := startNode(t, cfg)
	await(t, "the same certificate after a restart", func() bool {
		kept, err := presented(port, testDomain, roots)
		return err == nil && kept.Equal(leaf)
	})
	if found, err := filepath.Glob(filepath.Join(again.cfg.Dir, acmeDir, "*", testDomain)); len(found) != 1 {
		t.Errorf("kept at %v, %v", found, err)
	}
	info, err := os.Stat(filepath.Join(again.cfg.Dir, acmeDir))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the cache: %v, %v", info, err)
	}
}
