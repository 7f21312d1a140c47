package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/node/netcheck"
)

const proxyURL = "http://proxy.example.edu:3128"

func withProxy() map[string]string { return map[string]string{"HTTPS_PROXY": proxyURL} }

// corporate is a network with an HTTP proxy and no other way out.
func corporate(t *testing.T, w *web) *network {
	n := newNetwork(t)
	w.at(n, "proxy.example.edu", "10.0.0.1", "3128")
	return n
}

func TestOpenNetworkIsDialledDirectlyAndAtOnce(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	n.lead(relayAddr, serve(t, echo))
	soon(t, stagger, func() { dial(t, n.finder(nil), relay, "") })
}

func TestProxyOfTheEnvironmentIsDialledThroughByName(t *testing.T) {
	t.Parallel()
	w := &web{}
	n := corporate(t, w)
	delete(n.names, "relay.example.org") // names out there are not known in here
	dial(t, n.finder(withProxy()), relay, proxyURL)
	if targets, _ := w.saw(); !slices.Equal(targets, []string{relay}) {
		t.Errorf("the proxy was asked for %q", targets)
	}
	if want := []string{proxyURL + " of HTTPS_PROXY"}; !slices.Equal(n.found, want) {
		t.Errorf("found %q", n.found)
	}
}

func TestProxyIsDialledThroughByAddress(t *testing.T) {
	t.Parallel()
	w := &web{}
	n := corporate(t, w)
	dial(t, n.finder(withProxy()), relayAddr, proxyURL)
	dial(t, n.finder(withProxy()), "[2001:db8::1]:443", proxyURL)
	if targets, _ := w.saw(); !slices.Equal(targets, []string{relayAddr, "[2001:db8::1]:443"}) {
		t.Errorf("the proxy was asked for %q", targets)
	}
}

func TestVariablesOfTheEnvironment(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env    map[string]string
		target string
		want   string
	}{
		"upper case":                           {map[string]string{"HTTPS_PROXY": "http://a:1"}, relay, "http://a:1"},
		"lower case goes first":                {map[string]string{"https_proxy": "http://b:1", "HTTPS_PROXY": "http://a:1"}, relay, "http://b:1"},
		"without a scheme":                     {map[string]string{"HTTPS_PROXY": "a:1"}, relay, "http://a:1"},
		"without a port":                       {map[string]string{"HTTPS_PROXY": "http://a/"}, relay, "http://a:80"},
		"an https proxy":                       {map[string]string{"HTTPS_PROXY": "https://a"}, relay, "https://a:443"},
		"socks5h":                              {map[string]string{"ALL_PROXY": "socks5h://a"}, relay, "socks5://a:1080"},
		"all of them, for TLS":                 {map[string]string{"HTTP_PROXY": "c:1", "ALL_PROXY": "b:1", "HTTPS_PROXY": "a:1"}, relay, "http://a:1 http://b:1 http://c:1"},
		"all of them, for port 80":             {map[string]string{"HTTP_PROXY": "c:1", "ALL_PROXY": "b:1", "HTTPS_PROXY": "a:1"}, "r:80", "http://c:1 http://b:1 http://a:1"},
		"the same one twice":                   {map[string]string{"HTTP_PROXY": "http://a:1", "HTTPS_PROXY": "http://a:1"}, relay, "http://a:1"},
		"NO_PROXY with the domain":             {map[string]string{"HTTPS_PROXY": "a:1", "NO_PROXY": "example.org"}, relay, ""},
		"NO_PROXY with a network":              {map[string]string{"HTTPS_PROXY": "a:1", "no_proxy": "192.0.2.0/24"}, relayAddr, ""},
		"NO_PROXY with everything":             {map[string]string{"HTTPS_PROXY": "a:1", "NO_PROXY": "*"}, relay, ""},
		"NO_PROXY with something else":         {map[string]string{"HTTPS_PROXY": "a:1", "NO_PROXY": "example.com"}, relay, "http://a:1"},
		"this machine":                         {map[string]string{"HTTPS_PROXY": "a:1"}, "127.0.0.1:443", ""},
		"a kind of proxy that nobody has":      {map[string]string{"HTTPS_PROXY": "gopher://a:1"}, relay, ""},
		"nonsense beside something reasonable": {map[string]string{"HTTPS_PROXY": "http://%zz:1", "ALL_PROXY": "http://b:1"}, relay, "http://b:1"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newNetwork(t).finder(c.env)
			f.NoDiscovery = true
			var got []string
			for _, a := range f.plan(c.target) {
				got = append(got, a.route)
			}
			want := append(strings.Fields(c.want), "") // the direct way comes last
			if !slices.Equal(got, want) {
				t.Errorf("the ways are %q, not %q", got, want)
			}
		})
	}
}

func TestSlowProxyDoesNotKeepUsFromTheDirectWay(t *testing.T) {
	t.Parallel()
	n := corporate(t, &web{pause: patience})
	n.lead(relayAddr, serve(t, echo))
	began := time.Now()
	dial(t, n.finder(withProxy()), relay, "")
	if took := time.Since(began); took < stagger || took > patience/2 {
		t.Errorf("it took %v", took)
	}
}

func TestRefusalDoesNotHaveToBeWaitedFor(t *testing.T) {
	t.Parallel()
	n := corporate(t, &web{status: http.StatusForbidden})
	n.lead(relayAddr, serve(t, echo))
	soon(t, stagger, func() { dial(t, n.finder(withProxy()), relay, "") })
}

func TestWayThatWorkedIsTriedFirst(t *testing.T) {
	t.Parallel()
	w := &web{status: http.StatusForbidden}
	n := corporate(t, w)
	n.lead(relayAddr, serve(t, echo))
	f := n.finder(withProxy())
	dial(t, f, relay, "")
	dial(t, f, relay, "")
	if targets, _ := w.saw(); len(targets) != 1 {
		t.Errorf("the proxy was asked %d times", len(targets))
	}
	f.Reset()
	dial(t, f, relay, "")
	if targets, _ := w.saw(); len(targets) != 2 {
		t.Errorf("on another network the proxy was asked %d times in all", len(targets))
	}
}

// Some firewalls answer every SYN themselves.
func TestWayThatCameToNothingWaitsForTheOthers(t *testing.T) {
	t.Parallel()
	n := corporate(t, &web{pause: 4 * stagger})
	n.lead(relayAddr, serve(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }))
	f := n.finder(withProxy())
	conn, route, err := f.Dial(t.Context(), relay)
	if err != nil || route != "" {
		t.Fatalf("the direct way did not win: %q, %v", route, err)
	}
	_ = conn.Close()
	f.CameToNothing(route)
	dial(t, f, relay, proxyURL)
	if again := n.wasDialed(relayAddr); again != 1 {
		t.Errorf("the direct way was dialled %d times", again)
	}
}

func TestWayThatCameToNothingIsStillTheLastResort(t *testing.T) {
	t.Parallel()
	n := corporate(t, &web{status: http.StatusForbidden})
	n.lead(relayAddr, serve(t, echo))
	f := n.finder(withProxy())
	f.CameToNothing("")
	dial(t, f, relay, "")
}

// One sick relay behind a good proxy makes the proxy look bad, and a silent way
// takes as long to fail as the whole dial may.
func TestWayThatCameToNothingDoesNotWaitForASilentOneToFail(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		silent, bad string
	}{
		"the proxy, where all else is dropped":      {relayAddr, proxyURL},
		"the direct way, beside a proxy that hangs": {"10.0.0.1:3128", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := corporate(t, &web{})
			n.lead(relayAddr, serve(t, echo))
			n.lead(c.silent, "")
			f := n.finder(withProxy())
			f.CameToNothing(c.bad)
			ctx, cancel := context.WithTimeout(t.Context(), connectTimeout-time.Second)
			defer cancel()
			conn, route, err := f.Dial(ctx, relay)
			if err != nil || route != c.bad {
				t.Fatalf("by %q: %v", route, err)
			}
			_ = conn.Close()
		})
	}
}

func TestWayThatWorksAgainWaitsForNobody(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	n.lead("10.0.0.1:3128", "") // the proxy is silent
	n.lead(relayAddr, serve(t, echo))
	f := n.finder(map[string]string{"HTTPS_PROXY": "http://10.0.0.1:3128"})
	f.CameToNothing("")
	ctx, cancel := context.WithTimeout(t.Context(), 2*stagger)
	defer cancel()
	if conn, _, err := f.Dial(ctx, relay); err == nil {
		_ = conn.Close()
		t.Fatal("what came to nothing did not wait for the proxy")
	}
	f.Worked("")
	dial(t, f, relay, "")
	f.CameToNothing("") // it is the server's fault
	dial(t, f, relay, "")
	f.Reset()
	f.CameToNothing("")
	if a := f.plan(relay)[1]; a.route != "" || !a.last {
		t.Error("that a way worked in another network speaks for it")
	}
}

func TestLosersAreClosed(t *testing.T) {
	t.Parallel()
	closed := make(chan error, 1)
	n := newNetwork(t)
	n.names["proxy.example.edu"] = "10.0.0.1"
	n.lead("10.0.0.1:3128", serve(t, func(c net.Conn) {
		_, err := io.Copy(io.Discard, c) // it never answers
		closed <- err
	}))
	n.lead(relayAddr, serve(t, echo))
	dial(t, n.finder(withProxy()), relay, "")
	select {
	case <-closed:
	case <-time.After(patience):
		t.Error("the proxy's connection is still open")
	}
}

func TestWhatTheFarSideSaysAtOnceIsNotLost(t *testing.T) {
	t.Parallel()
	greeting := strings.Repeat("multistream ", 2000)
	n := corporate(t, &web{greeting: greeting})
	conn, _, err := n.finder(withProxy()).Dial(t.Context(), relay)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	got := make([]byte, len(greeting))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != greeting {
		t.Errorf("of %d bytes, %q... came, %v", len(greeting), got[:20], err)
	}
	echoes(t, conn)
}

func TestProxyOverTLS(t *testing.T) {
	t.Parallel()
	certified := httptest.NewUnstartedServer(nil)
	certified.StartTLS()
	t.Cleanup(certified.Close)
	n := newNetwork(t)
	(&web{secure: &tls.Config{Certificates: certified.TLS.Certificates}}).at(n, "example.com", "10.0.0.1", "443")
	f := n.finder(map[string]string{"HTTPS_PROXY": "https://example.com"})
	f.Roots = x509.NewCertPool()
	err := fails(t, f, relay)
	if authority := new(x509.UnknownAuthorityError); !errors.As(err, authority) {
		t.Errorf("a stranger's certificate: %v", err)
	}
	f.Roots.AddCert(certified.Certificate())
	dial(t, f, relay, "https://example.com:443")
}

func TestSOCKS(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		url, login string
		status     byte
		says       string // in the error; empty: it works
	}{
		"without a login":           {url: "socks5://10.0.0.1:1080"},
		"with one":                  {url: "socks5h://user:secret@10.0.0.1:1080", login: "user:secret"},
		"with a wrong one":          {url: "socks5://user:wrong@10.0.0.1:1080", login: "user:secret", says: "authentication failed"},
		"with none that is wanted":  {url: "socks5://10.0.0.1:1080", login: "user:secret", says: "no acceptable authentication methods"},
		"that forbids the address":  {url: "socks5://10.0.0.1:1080", status: 2, says: "not allowed by ruleset"},
		"that cannot reach it":      {url: "socks5://10.0.0.1:1080", status: 4, says: "host unreachable"},
		"that is an HTTP one":       {url: "socks5://10.0.0.1:1081", says: "through the proxy socks5://10.0.0.1:1081"},
		"that is not there":         {url: "socks5://10.0.0.1:1082", says: "network is unreachable"},
		"as others write the value": {url: "socks://10.0.0.1:1080"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var target string
			n := newNetwork(t)
			n.lead("10.0.0.1:1080", serve(t, socksServer(c.login, c.status, &target)))
			n.lead("10.0.0.1:1081", serve(t, func(c net.Conn) { _, _ = io.ReadFull(c, make([]byte, 3)) }))
			f := n.finder(map[string]string{"ALL_PROXY": c.url})
			if c.says == "" {
				dial(t, f, relay, "socks5://10.0.0.1:1080")
				if target != relay {
					t.Errorf("it was asked for %q", target)
				}
				return
			}
			err := fails(t, f, relay)
			if !strings.Contains(err.Error(), c.says) || netcheck.Classify(err) != netcheck.ProxyFailed {
				t.Errorf("%q: %v", netcheck.Classify(err), err)
			}
		})
	}
}

func TestRefusalsAreNamed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		proxy *web
		url   string
		want  Refused
		class netcheck.Failure
		says  string
	}{
		"a forbidden port": {proxy: &web{status: 403}, want: Refused{Status: 403, Text: "Forbidden"}, class: netcheck.ProxyForbidden, says: "refuses with 403 Forbidden"},
		"a dead target":    {proxy: &web{status: 503}, want: Refused{Status: 503, Text: "Service Unavailable"}, class: netcheck.ProxyFailed, says: "503"},
		"a login that nobody gave us": {
			proxy: &web{login: "user:secret"}, want: Refused{Status: 407, Text: "Proxy Authentication Required", Schemes: []string{"Basic"}},
			class: netcheck.ProxyAuthRequired, says: "wants credentials (Basic), and there are none",
		},
		"a wrong login": {
			proxy: &web{login: "user:secret"}, url: "http://user:hunter2@proxy.example.edu:3128",
			want:  Refused{Status: 407, Text: "Proxy Authentication Required", Schemes: []string{"Basic"}, Sent: true},
			class: netcheck.ProxyAuthRequired, says: "does not take the credentials",
		},
		"a kind of login that we do not know": {
			proxy: &web{status: 407, schemes: []string{"NTLM", `Negotiate TlRMTVNTUAAC=, Digest realm="a, b", qop=auth, NTLM`}},
			want:  Refused{Status: 407, Text: "Proxy Authentication Required", Schemes: []string{"NTLM", "Negotiate", "Digest"}},
			class: netcheck.ProxyAuthRequired, says: "wants NTLM, Negotiate, Digest, which is not supported",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := corporate(t, c.proxy)
			env := withProxy()
			if c.url != "" {
				env["HTTPS_PROXY"] = c.url
			}
			err := fails(t, n.finder(env), relay)
			var refused *Refused
			if !errors.As(err, &refused) {
				t.Fatalf("no refusal: %v", err)
			}
			c.want.Proxy = proxyURL
			if got, want := fmt.Sprintf("%+v", *refused), fmt.Sprintf("%+v", c.want); got != want {
				t.Errorf("%s, not %s", got, want)
			}
			if got := netcheck.Classify(err); got != c.class {
				t.Errorf("it is %q, not %q", got, c.class)
			}
			if !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("it says: %v", err)
			}
			if !errors.Is(err, syscall.ENETUNREACH) {
				t.Errorf("the direct way is missing: %v", err)
			}
		})
	}
}

func TestProxyThatBreaksOff(t *testing.T) {
	t.Parallel()
	for name, handle := range map[string]func(net.Conn){
		"at once":               func(net.Conn) {},
		"within the answer":     func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nVia: th") },
		"after nonsense":        func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-OpenSSH\r\n") },
		"after a header of MBs": func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nA: "+strings.Repeat("a", 1<<20)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t)
			n.names["proxy.example.edu"] = "10.0.0.1"
			n.lead("10.0.0.1:3128", serve(t, handle))
			err := fails(t, n.finder(withProxy()), relay)
			var broken *Unreachable
			if !errors.As(err, &broken) || broken.Proxy != proxyURL || netcheck.Classify(err) != netcheck.ProxyFailed {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestEveryStepEndsWithTheContext(t *testing.T) {
	t.Parallel()
	silent := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	for name, env := range map[string]map[string]string{
		"the direct way":          nil,
		"connecting to a proxy":   {"HTTPS_PROXY": "http://10.0.0.9:3128"},
		"CONNECT":                 {"HTTPS_PROXY": "http://10.0.0.1:3128"},
		"TLS with a proxy":        {"HTTPS_PROXY": "https://10.0.0.1:3128"},
		"SOCKS":                   {"HTTPS_PROXY": "socks5://10.0.0.1:3128"},
		"the name of a proxy":     {"HTTPS_PROXY": "http://silent.example.edu:3128"},
		"the script of a network": {pacURL: "http://10.0.0.1:3128/proxy.pac"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t)
			n.lead(relayAddr, "")
			n.lead("10.0.0.9:3128", "")
			n.lead("10.0.0.1:3128", serve(t, silent))
			f := n.finder(env)
			f.Lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
				if host == "silent.example.edu" {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return n.lookup(ctx, host)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*stagger)
			defer cancel()
			began := time.Now()
			_, _, err := f.Dial(ctx, relay)
			if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took > patience/2 {
				t.Errorf("after %v: %v", took, err)
			}
		})
	}
}

func TestDialThatWeGiveUpIsAborted(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	n.lead(relayAddr, "")
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, _, err := n.finder(nil).Dial(ctx, relay)
	if netcheck.Classify(err) != netcheck.Aborted {
		t.Errorf("%q: %v", netcheck.Classify(err), err)
	}
}

func TestOneBrokenFamilyOfAddressesDoesNotHoldUpTheOther(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	n.lead("[2001:db8::1]:443", "")
	n.lead("[2001:db8::2]:443", "")
	n.lead(relayAddr, serve(t, echo))
	f := n.finder(nil)
	f.NoDiscovery = true
	f.Lookup = func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("::ffff:192.0.2.1")}, nil
	}
	soon(t, 2*stagger, func() { dial(t, f, relay, "") })
}

func TestMistakenTargetIsAnError(t *testing.T) {
	for _, target := range []string{"", "relay.example.org", "a:b:c"} {
		if err := fails(t, new(Finder), target); strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", target, err)
		}
	}
}
