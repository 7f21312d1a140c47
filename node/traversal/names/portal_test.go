package names

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// page is a check whose host is a server of this machine.
func page(t *testing.T, status int, body string, h http.HandlerFunc) Check {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = quiet
	s.Start()
	t.Cleanup(s.Close)
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return Check{"http://check.example.org:" + port + "/page", status, body}
}

func here(context.Context, string) ([]net.IPAddr, error) {
	return []net.IPAddr{{IP: net.IPv4(127, 0, 0, 1)}}, nil
}

func status(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	}
}

func redirect(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "secret"})
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusFound)
	}
}

func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// drip redirects with a body that never ends.
func drip(w http.ResponseWriter, r *http.Request) {
	redirect("http://portal.example/login")(w, r)
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

func breakOff(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func TestPortalsShowThemselves(t *testing.T) {
	const login = "http://portal.example/login?mac=00:11:22:33:44:55"
	open, success := status(204, ""), status(200, "success\n")
	for _, c := range []struct {
		what            string
		first, second   http.HandlerFunc // expected: 204, and 200 with "success"
		open, captive   bool
		evidence, fails string
	}{
		{"an open way", open, success, true, false, " from http://check.example.org", ""},
		{"a redirect", redirect(login), redirect(login), false, true, "302 to http://portal.example/login", ""},
		{"a redirect without a target", redirect(""), redirect(""), false, true, "302 to nowhere", ""},
		{"a redirect to itself", redirect("/login"), redirect("/login"), false, true, "/login", ""},
		{"a redirect with an endless body", drip, drip, false, true, "302 to http://portal.example/login", ""},
		{"another page", status(200, "<html>log in</html>"), status(200, "<html>log in</html>"), false, true, "200 with another page than http://check", ""},
		{"status 511", status(511, "log in"), status(511, "log in"), false, true, "511 ", ""},
		{"one page that is what it should be outweighs a redirect", redirect(login), success, true, false, "200 from", ""},
		{"and the other way round", open, redirect(login), true, false, "204 from", ""},
		{"a page that hangs does not keep a portal from being seen", redirect(login), hang, false, true, "302 to", ""},
		{"a page that breaks off does not either", breakOff, redirect(login), false, true, "302 to", ""},
		{"an open way is seen at once", open, hang, true, false, "204 from", ""},
		{"HTTP errors are no portal", status(503, "proxy"), status(407, ""), false, false, "", "HTTP status 503"},
		{"no answers are no portal", breakOff, breakOff, false, false, "", "EOF"},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			p := &Portal{Lookup: here, Checks: []Check{page(t, 204, "", c.first), page(t, 200, "success", c.second)}}
			began := time.Now()
			got, err := p.Look(t.Context())
			if got.Open != c.open || got.Captive != c.captive || !strings.Contains(got.Evidence, c.evidence) {
				t.Errorf("%+v, %v", got, err)
			}
			if (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Errorf("error %v", err)
			}
			if strings.Contains(got.Evidence, "mac") || len(got.Evidence) > 2*maxEvidence {
				t.Errorf("evidence %q", got.Evidence)
			}
			if took := time.Since(began); took > lookTimeout-time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestLookTellsNothingAboutThisMachine(t *testing.T) {
	seen := make(chan *http.Request, 1)
	p := &Portal{Lookup: here, Checks: []Check{page(t, 204, "", func(w http.ResponseWriter, r *http.Request) {
		seen <- r
		w.WriteHeader(204)
	})}}
	if s, err := p.Look(t.Context()); err != nil || !s.Open {
		t.Fatalf("%+v, %v", s, err)
	}
	r := <-seen
	r.Header.Del("Connection")
	if len(r.Header) != 0 || r.Method != http.MethodGet {
		t.Errorf("%s with %v", r.Method, r.Header)
	}
}

func TestLookEndsWithItsContext(t *testing.T) {
	p := &Portal{Lookup: here, Checks: []Check{page(t, 204, "", hang)}}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	s, err := p.Look(ctx)
	if took := time.Since(began); s != (State{}) || !errors.Is(err, context.DeadlineExceeded) || took > time.Second {
		t.Errorf("after %v: %+v, %v", took, s, err)
	}
}

func TestLookUsesTheFamilyThatWorks(t *testing.T) {
	check := page(t, 204, "", status(204, ""))
	var dialled []string
	p := &Portal{
		Checks: []Check{check},
		Lookup: func(context.Context, string) ([]net.IPAddr, error) {
			return []net.IPAddr{{IP: net.ParseIP("2a00::1")}, {IP: net.ParseIP("2a00::2")}, {IP: net.IPv4(11, 0, 0, 1)}}, nil
		},
		Dial: func(ctx context.Context, hostport string) (net.Conn, error) {
			dialled = append(dialled, hostport)
			if strings.HasPrefix(hostport, "11.0.0.1:") {
				return nil, errors.New("no IPv4 here")
			}
			_, port, _ := net.SplitHostPort(hostport)
			return new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
		},
	}
	if s, err := p.Look(t.Context()); err != nil || !s.Open || len(dialled) != 2 || !strings.HasPrefix(dialled[1], "[2a00::1]:") {
		t.Errorf("%+v by %q, %v", s, dialled, err)
	}
	p.Lookup = func(context.Context, string) ([]net.IPAddr, error) { return nil, notFound(question{boot, IP}, "test") }
	if s, err := p.Look(t.Context()); s != (State{}) || !isNotFound(err) {
		t.Errorf("without a name: %+v, %v", s, err)
	}
}

func TestCheckMayNameAnAddress(t *testing.T) {
	c := page(t, 204, "", status(204, ""))
	c.URL = strings.Replace(c.URL, "check.example.org", "127.0.0.1", 1)
	if s, err := (&Portal{Checks: []Check{c}}).Look(t.Context()); err != nil || !s.Open {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestUsualChecksArePlainPages(t *testing.T) {
	for _, c := range usualChecks() {
		if !strings.HasPrefix(c.URL, "http://") || c.Status == 0 {
			t.Errorf("%+v", c)
		}
	}
}
