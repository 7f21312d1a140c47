package names

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

var quiet = log.New(io.Discard, "", 0)

// authority signs the certificates of the servers of one test.
type authority struct {
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	roots *x509.CertPool
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	a := authority{cert, key, x509.NewCertPool()}
	a.roots.AddCert(cert)
	return a
}

// issue makes a certificate for a name or an address.
func (a authority) issue(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key, Leaf: leaf}
}

// zone answers from a table of lines as in a zone file; what is not in it does
// not exist. It keeps the queries.
type zone struct {
	records []dns.RR

	mu      sync.Mutex // guards the field below
	queries []*dns.Msg
}

func newZone(t *testing.T, lines ...string) *zone {
	t.Helper()
	z := &zone{}
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		z.records = append(z.records, rr)
	}
	return z
}

func (z *zone) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	m := z.reply(query)
	if w.LocalAddr().Network() == "udp" {
		m.Truncate(dns.MinMsgSize)
	}
	_ = w.WriteMsg(m)
}

// reply answers a query. Names that begin with the word "servfail" are failures.
func (z *zone) reply(query *dns.Msg) *dns.Msg {
	z.mu.Lock()
	z.queries = append(z.queries, query)
	z.mu.Unlock()
	q := query.Question[0]
	m := new(dns.Msg).SetReply(query)
	exists := false
	for _, rr := range z.records {
		if !strings.EqualFold(rr.Header().Name, q.Name) {
			continue
		}
		exists = true
		if rr.Header().Rrtype == q.Qtype {
			m.Answer = append(m.Answer, rr)
		}
	}
	switch {
	case strings.HasPrefix(q.Name, "servfail"):
		m.Rcode = dns.RcodeServerFailure
	case !exists:
		m.Rcode = dns.RcodeNameError
	}
	return m
}

func (z *zone) asked() []*dns.Msg {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.queries
}

// listen is a port of this machine that counts its connections.
func listen(t *testing.T) *counter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return &counter{Listener: l}
}

type counter struct {
	net.Listener
	mu    sync.Mutex // guards the field below
	conns []net.Conn
}

func (c *counter) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.mu.Lock()
		c.conns = append(c.conns, conn)
		c.mu.Unlock()
	}
	return conn, err
}

func (c *counter) accepted() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.conns)
}

func (c *counter) hangUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		_ = conn.Close()
	}
}

func (c *counter) addr() netip.AddrPort { return netip.MustParseAddrPort(c.Addr().String()) }

// serveDoT answers over TLS with a certificate.
func serveDoT(t *testing.T, h dns.Handler, cert tls.Certificate) *counter {
	t.Helper()
	l := listen(t)
	s := &dns.Server{
		Listener: tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}}), Net: "tcp-tls", Handler: h,
		IdleTimeout: func() time.Duration { return time.Minute },
	}
	go s.ActivateAndServe()
	t.Cleanup(func() { _ = s.Shutdown() })
	return l
}

// serveDoH answers HTTPS with a certificate.
func serveDoH(t *testing.T, h http.Handler, cert tls.Certificate, http2 bool) *counter {
	t.Helper()
	l := listen(t)
	s := httptest.NewUnstartedServer(h)
	_ = s.Listener.Close()
	s.Listener, s.EnableHTTP2 = l, http2
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.Config.ErrorLog = quiet
	s.StartTLS()
	t.Cleanup(s.Close)
	return l
}

// overHTTP makes a zone an RFC 8484 server that takes nothing else.
func overHTTP(z *zone) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		query := new(dns.Msg)
		if err = errors.Join(err, query.Unpack(raw)); err == nil && (r.Method != http.MethodPost || r.URL.Path != "/dns-query" ||
			r.Header.Get("Content-Type") != dohType || r.Header.Get("User-Agent") != "" || r.Header.Get("Cookie") != "") {
			err = fmt.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		reply, err := z.reply(query).Pack()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", dohType)
		_, _ = w.Write(reply)
	})
}

// networkDNS is Go's own resolver with a zone as the network's DNS, over UDP and
// TCP on one port.
func networkDNS(t *testing.T, h dns.Handler) *net.Resolver {
	t.Helper()
	l := listen(t)
	p, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Skipf("SKIPPED: the port that is free for TCP is taken for UDP: %v", err)
	}
	for _, s := range []*dns.Server{{Listener: l, Handler: h}, {PacketConn: p, Handler: h}} {
		go s.ActivateAndServe()
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, l.Addr().String())
	}}
}
