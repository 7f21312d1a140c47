package names

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	ma "github.com/multiformats/go-multiaddr"
	madns "github.com/multiformats/go-multiaddr-dns"
)

const serverName = "dns.example.net"

// records are what the servers of these tests know.
var records = []string{
	"both.example.org. A 11.0.0.1",
	"both.example.org. AAAA 2a00::1",
	"four.example.org. A 11.0.0.1",
	"alias.example.org. CNAME both.example.org.",
	`text.example.org. TXT "one"`,
	`text.example.org. TXT "two" " and a half"`,
	`text.example.org. TXT "a \"quote\", a \\, \195\164 and \007."`,
	"long.example.org. TXT " + strings.Repeat(`"`+strings.Repeat("x", 250)+`" `, 8),
	"mixed.example.org. TXT only",
}

// asking is a Resolver that only a server can help.
func asking(roots *x509.CertPool, servers ...Server) *Resolver {
	return &Resolver{System: system{refuses}, Roots: roots, Servers: servers}
}

// queries are for the addresses of both.example.org.
func queries(t *testing.T) []*dns.Msg {
	t.Helper()
	m, err := question{"both.example.org", IP}.messages()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestServersAnswer(t *testing.T) {
	ca := newAuthority(t, "Test Authority")
	named, addressed := ca.issue(t, serverName), ca.issue(t, "127.0.0.1")
	for _, c := range []struct {
		what  string
		serve func(*testing.T, *zone) Server
	}{
		{"DoH over HTTP/2", func(t *testing.T, z *zone) Server {
			return Server{DoH, serveDoH(t, overHTTP(z), named, true).addr(), serverName}
		}},
		{"DoH over HTTP/1.1", func(t *testing.T, z *zone) Server {
			return Server{DoH, serveDoH(t, overHTTP(z), named, false).addr(), serverName}
		}},
		{"DoH by address", func(t *testing.T, z *zone) Server {
			return Server{DoH, serveDoH(t, overHTTP(z), addressed, true).addr(), ""}
		}},
		{"DoT", func(t *testing.T, z *zone) Server {
			return Server{DoT, serveDoT(t, z, named).addr(), serverName}
		}},
		{"DoT by address", func(t *testing.T, z *zone) Server {
			return Server{DoT, serveDoT(t, z, addressed).addr(), ""}
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			z := newZone(t, records...)
			r := asking(ca.roots, c.serve(t, z))
			defer r.CloseIdleConnections()
			if got, err := addresses(t.Context(), r, "both.example.org"); err != nil || !slices.Equal(got, []string{"11.0.0.1", "2a00::1"}) {
				t.Errorf("two families: %q, %v", got, err)
			}
			if got, err := addresses(t.Context(), r, "Four.example.ORG"); err != nil || !slices.Equal(got, []string{"11.0.0.1"}) {
				t.Errorf("one family, and capitals: %q, %v", got, err)
			}
			got, err := r.LookupTXT(t.Context(), "text.example.org")
			if want := []string{"one", "two and a half", "a \"quote\", a \\, ä and \a."}; err != nil || !slices.Equal(got, want) {
				t.Errorf("several texts: %q, %v", got, err)
			}
			got, err = r.LookupTXT(t.Context(), "long.example.org")
			if err != nil || len(got) != 1 || got[0] != strings.Repeat("x", 2000) {
				t.Errorf("a long text: %q, %v", got, err)
			}
			for _, name := range []string{"none.example.org", "mixed.example.org"} {
				if got, err := addresses(t.Context(), r, name); !isNotFound(err) {
					t.Errorf("%s: %q, %v", name, got, err)
				}
			}
			_, err = r.LookupTXT(t.Context(), "servfail.example.org")
			if err == nil || isNotFound(err) || !strings.Contains(err.Error(), "SERVFAIL") {
				t.Errorf("a failure: %v", err)
			}
			for _, q := range z.asked() {
				if raw, err := q.Pack(); err != nil || len(raw)%paddedTo != 0 {
					t.Errorf("a query of %d bytes, %v: %v", len(raw), err, q)
				}
			}
		})
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	ca := newAuthority(t, "Test Authority")
	cert := ca.issue(t, serverName)
	z := newZone(t, records...)
	for protocol, l := range map[Protocol]*counter{
		DoH: serveDoH(t, overHTTP(z), cert, true),
		DoT: serveDoT(t, z, cert),
	} {
		r := asking(ca.roots, Server{protocol, l.addr(), serverName})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if _, err := r.Encrypted().LookupIPAddr(t.Context(), "both.example.org"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := l.accepted(); n > maxConns {
			t.Errorf("%s: %d connections for 10 questions at once", protocol, n)
		}
		before := l.accepted()
		if _, err := r.Encrypted().LookupIPAddr(t.Context(), "four.example.org"); err != nil || l.accepted() != before {
			t.Errorf("%s: a question afterwards: %d connections more, %v", protocol, l.accepted()-before, err)
		}
		r.CloseIdleConnections()
		if _, err := r.Encrypted().LookupIPAddr(t.Context(), "four.example.org"); err != nil || l.accepted() == before {
			t.Errorf("%s: after closing: no connection more, %v", protocol, err)
		}
		r.CloseIdleConnections()
	}
}

func TestServerThatHungUpIsAskedAgain(t *testing.T) {
	ca := newAuthority(t, "Test Authority")
	cert := ca.issue(t, serverName)
	z := newZone(t, records...)
	for protocol, l := range map[Protocol]*counter{
		DoH: serveDoH(t, overHTTP(z), cert, true),
		DoT: serveDoT(t, z, cert),
	} {
		r := asking(ca.roots, Server{protocol, l.addr(), serverName})
		for range 3 {
			if _, err := r.Encrypted().LookupTXT(t.Context(), "text.example.org"); err != nil {
				t.Errorf("%s: %v", protocol, err)
			}
			l.hangUp()
		}
		r.CloseIdleConnections()
	}
}

func TestConnectionThatDiedInSilenceIsNotUsedAgain(t *testing.T) {
	ca := newAuthority(t, "Test Authority")
	cert := ca.issue(t, serverName)
	z := newZone(t, records...)
	config := &tls.Config{ServerName: serverName, RootCAs: ca.roots}
	for protocol, serve := range map[Protocol]func(dialFunc) exchanger{
		DoH: func(dial dialFunc) exchanger {
			s := Server{DoH, serveDoH(t, overHTTP(z), cert, true).addr(), serverName}
			return newDoH(s, dial, config)
		},
		DoT: func(dial dialFunc) exchanger {
			return newDoT(Server{DoT, serveDoT(t, z, cert).addr(), serverName}, dial, config)
		},
	} {
		t.Run(string(protocol), func(t *testing.T) {
			t.Parallel()
			var path deadPath
			x := serve(path.dial)
			defer x.closeIdle()
			if _, err := x.exchange(t.Context(), queries(t)); err != nil {
				t.Fatal(err)
			}
			path.cut()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if _, err := x.exchange(ctx, queries(t)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("on a dead path: %v", err)
			}
			if _, err := x.exchange(t.Context(), queries(t)); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// deadPath dials connections on which nothing arrives once it is cut, and new
// ones that work.
type deadPath struct {
	mu    sync.Mutex // guards the field below
	conns []*deadConn
}

type deadConn struct {
	net.Conn
	dead chan struct{}
}

func (p *deadPath) dial(ctx context.Context, hostport string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", hostport)
	if err != nil {
		return nil, err
	}
	c := &deadConn{conn, make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, c)
	return c, nil
}

func (p *deadPath) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		close(c.dead)
	}
	p.conns = nil
}

func (c *deadConn) Write(b []byte) (int, error) {
	select {
	case <-c.dead:
		return len(b), nil
	default:
		return c.Conn.Write(b)
	}
}

func TestServerThatLosesIsReadyForTheNextQuestion(t *testing.T) {
	ca := newAuthority(t, "Test Authority")
	z := newZone(t, records...)
	answer := make(chan struct{})
	l := serveDoT(t, dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		<-answer
		z.ServeDNS(w, q)
	}), ca.issue(t, serverName))
	x := newDoT(Server{DoT, l.addr(), serverName}, new(Resolver).connect, &tls.Config{ServerName: serverName, RootCAs: ca.roots})
	defer x.closeIdle()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := x.exchange(ctx, queries(t)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody waits: %v", err)
	}
	close(answer)
	for range maxConns { // all questions have ended when all turns are free
		x.turns <- struct{}{}
	}
	for range maxConns {
		<-x.turns
	}
	for range 2 {
		if _, err := x.exchange(t.Context(), queries(t)); err != nil || l.accepted() != 1 {
			t.Errorf("the next question: %d connections, %v", l.accepted(), err)
		}
	}
}

func TestServersThatCannotProveThemselvesAreNotAsked(t *testing.T) {
	ca, stranger := newAuthority(t, "Test Authority"), newAuthority(t, "Inspector")
	z := newZone(t, records...)
	for what, cert := range map[string]tls.Certificate{
		"an unknown authority": stranger.issue(t, serverName),
		"another name":         ca.issue(t, "portal.example.net"),
	} {
		for _, s := range []Server{
			{DoH, serveDoH(t, overHTTP(z), cert, true).addr(), serverName},
			{DoT, serveDoT(t, z, cert).addr(), serverName},
		} {
			var told []Answer
			r := asking(ca.roots, s)
			r.Answered = func(a Answer) { told = append(told, a) }
			_, err := r.LookupIPAddr(t.Context(), "both.example.org")
			intercepted, ok := errors.AsType[*InterceptedError](err)
			if !ok || intercepted.Server != s || !strings.Contains(err.Error(), cert.Leaf.Issuer.CommonName) {
				t.Errorf("%s, %s: %v", what, s, err)
			}
			if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
				t.Errorf("%s, %s: the cause is gone: %v", what, s, err)
			}
			if _, ok := errors.AsType[*InterceptedError](told[len(told)-1].Err); !ok {
				t.Errorf("%s, %s: told of %+v", what, s, told)
			}
		}
	}
	if n := len(z.asked()); n != 0 {
		t.Errorf("%d questions were asked", n)
	}
}

func TestNonsenseIsNoAnswer(t *testing.T) {
	ca := newAuthority(t, "Test Authority")
	cert := ca.issue(t, serverName)
	message := func(change func(*dns.Msg)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			raw, _ := io.ReadAll(r.Body)
			m := new(dns.Msg)
			_ = m.Unpack(raw)
			m.SetReply(m.Copy())
			m.Answer = newZone(t, "four.example.org. A 11.0.0.9").records
			change(m)
			raw, _ = m.Pack()
			w.Header().Set("Content-Type", dohType)
			_, _ = w.Write(raw)
		}
	}
	for what, h := range map[string]http.HandlerFunc{
		"HTTP status":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) },
		"redirect":     func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", http.StatusFound) },
		"content type": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"unpacking": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", dohType)
			_, _ = w.Write([]byte("x"))
		},
		"other question": message(func(m *dns.Msg) { m.Question[0].Name = "other.example.org." }),
		"a query":        message(func(m *dns.Msg) { m.Response = false }),
		"another ID":     message(func(m *dns.Msg) { m.Id += 7 }),
	} {
		r := asking(ca.roots, Server{DoH, serveDoH(t, h, cert, true).addr(), serverName})
		if got, err := addresses(t.Context(), r, "four.example.org"); err == nil {
			t.Errorf("%s: %q", what, got)
		}
		r.CloseIdleConnections()
	}
	l := serveDoT(t, dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.Id += 7
		_ = w.WriteMsg(m)
	}), cert)
	r := asking(ca.roots, Server{DoT, l.addr(), serverName})
	if got, err := addresses(t.Context(), r, "four.example.org"); err == nil || isNotFound(err) {
		t.Errorf("DoT: %q, %v", got, err)
	}
}

func TestOneFamilyThatFailsDoesNotSpoilTheOther(t *testing.T) {
	ca := newAuthority(t, "Test Authority")
	z := newZone(t, records...)
	servfail := func(m *dns.Msg) *dns.Msg {
		reply := z.reply(m)
		if m.Question[0].Qtype == dns.TypeAAAA {
			reply.SetRcode(m, dns.RcodeServerFailure)
		}
		return reply
	}
	forbid := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		m := new(dns.Msg)
		if err := m.Unpack(raw); err != nil || m.Question[0].Qtype == dns.TypeAAAA {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		raw, _ = z.reply(m).Pack()
		w.Header().Set("Content-Type", dohType)
		_, _ = w.Write(raw)
	})
	cert := ca.issue(t, serverName)
	for _, s := range []Server{
		{DoH, serveDoH(t, forbid, cert, true).addr(), serverName},
		{DoT, serveDoT(t, dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) { _ = w.WriteMsg(servfail(m)) }), cert).addr(), serverName},
	} {
		r := asking(ca.roots, s)
		if got, err := addresses(t.Context(), r, "both.example.org"); err != nil || !slices.Equal(got, []string{"11.0.0.1"}) {
			t.Errorf("%s: %q, %v", s, got, err)
		}
		if got, err := addresses(t.Context(), r, "none.example.org"); err == nil || isNotFound(err) {
			t.Errorf("%s: one family is denied, and the other not known: %q, %v", s, got, err)
		}
		r.CloseIdleConnections()
	}
}

func TestServersAreReachedByTheDialerGiven(t *testing.T) {
	ca := newAuthority(t, "Test Authority")
	cert := ca.issue(t, serverName)
	z := newZone(t, records...)
	proxied := map[string]*counter{
		"192.0.2.1:443": serveDoH(t, overHTTP(z), cert, true),
		"192.0.2.2:853": serveDoT(t, z, cert),
	}
	for _, s := range []Server{
		{DoH, netip.MustParseAddrPort("192.0.2.1:443"), serverName},
		{DoT, netip.MustParseAddrPort("192.0.2.2:853"), serverName},
	} {
		var dialled atomic.Value
		r := asking(ca.roots, s)
		r.Dial = func(ctx context.Context, hostport string) (net.Conn, error) {
			dialled.Store(hostport)
			return new(net.Dialer).DialContext(ctx, "tcp", proxied[hostport].Addr().String())
		}
		if _, err := r.LookupIPAddr(t.Context(), "both.example.org"); err != nil || dialled.Load() != s.Addr.String() {
			t.Errorf("%s: dialled %v, %v", s, dialled.Load(), err)
		}
		r.CloseIdleConnections()
	}
}

func TestEndOfTheContextEndsALookupAtSilentServers(t *testing.T) {
	ca := newAuthority(t, "Test Authority")
	l := listen(t) // accepts, and says nothing
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
		}
	}()
	r := asking(ca.roots, Server{DoH, l.addr(), serverName}, Server{DoT, l.addr(), serverName})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := r.LookupTXT(ctx, "text.example.org")
	if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took > time.Second {
		t.Errorf("after %v: %v", took, err)
	}
}

func TestNetworksDNSIsHeard(t *testing.T) {
	r := &Resolver{System: networkDNS(t, newZone(t, records...)), Servers: []Server{}}
	if got, err := addresses(t.Context(), r, "both.example.org"); err != nil || len(got) != 2 {
		t.Errorf("addresses: %q, %v", got, err)
	}
	got, err := r.LookupTXT(t.Context(), "long.example.org") // truncated over UDP
	if err != nil || len(got) != 1 || got[0] != strings.Repeat("x", 2000) {
		t.Errorf("a long text: %q, %v", got, err)
	}
	_, err = r.LookupTXT(t.Context(), "none.example.org")
	if dns, ok := errors.AsType[*net.DNSError](err); !ok || !dns.IsNotFound {
		t.Errorf("no such name: %v", err)
	}
}

func TestSilentOrLyingNetworksDNSDoesNotMatter(t *testing.T) {
	ca := newAuthority(t, "Test Authority")
	z := newZone(t, records...)
	servers := []Server{
		{DoH, serveDoH(t, overHTTP(z), ca.issue(t, serverName), true).addr(), serverName},
		{DoT, serveDoT(t, z, ca.issue(t, serverName)).addr(), serverName},
	}
	for what, h := range map[string]dns.HandlerFunc{
		"silent": func(dns.ResponseWriter, *dns.Msg) {},
		"denies": newZone(t).ServeDNS,
		"lies": newZone(t, "both.example.org. A 10.0.0.1",
			`_dnsaddr.boot.example.org. TXT "portal"`).ServeDNS,
	} {
		r := &Resolver{System: networkDNS(t, h), Roots: ca.roots, Servers: servers}
		began := time.Now()
		got, err := addresses(t.Context(), r, "both.example.org")
		if took := time.Since(began); err != nil || !slices.Equal(got, []string{"11.0.0.1", "2a00::1"}) || took > serverTimeout {
			t.Errorf("%s: %q after %v, %v", what, got, took, err)
		}
		r.CloseIdleConnections()
	}
}

func TestMultiaddrsAreResolved(t *testing.T) {
	const id = "QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN"
	ca := newAuthority(t, "Test Authority")
	z := newZone(t, append(records, `_dnsaddr.boot.example.org. TXT "dnsaddr=/dns4/both.example.org/tcp/443/tls/ws/p2p/`+id+`"`)...)
	r := asking(ca.roots, Server{DoH, serveDoH(t, overHTTP(z), ca.issue(t, serverName), true).addr(), serverName})
	defer r.CloseIdleConnections()
	resolver, err := madns.NewResolver(madns.WithDefaultResolver(r))
	if err != nil {
		t.Fatal(err)
	}
	name := ma.StringCast("/dnsaddr/boot.example.org/p2p/" + id)
	for _, want := range []string{"/dns4/both.example.org/tcp/443/tls/ws/p2p/" + id, "/ip4/11.0.0.1/tcp/443/tls/ws/p2p/" + id} {
		got, err := resolver.Resolve(t.Context(), name)
		if err != nil || len(got) != 1 || got[0].String() != want {
			t.Fatalf("%s: %v, %v", name, got, err)
		}
		name = got[0]
	}
}

func TestBuiltinServersAreAddressesOfKnownOperators(t *testing.T) {
	operators := map[string]bool{}
	first, rest := split(Builtin())
	for _, s := range first {
		operators[s.Name] = true
	}
	if len(first) != 3 || len(operators) != 3 || len(first)+len(rest) != len(Builtin()) {
		t.Errorf("first %v, then %v", first, rest)
	}
	seen := map[string]bool{}
	for _, s := range Builtin() {
		if seen[s.String()] || strings.Contains(s.String(), ":443") || strings.Contains(s.String(), ":853") {
			t.Errorf("%s is listed twice, or at an unusual port", s)
		}
		seen[s.String()] = true
		if !isPublic(s.Addr.Addr().String()) {
			t.Errorf("%s is not public", s)
		}
	}
	if !seen["doh 1.1.1.1"] || !seen["dot 9.9.9.9"] || !seen["dot [2620:fe::fe]"] {
		t.Errorf("the servers are %v", Builtin())
	}
}
