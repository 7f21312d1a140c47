package tunnel

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"golang.org/x/net/nettest"
)

// end is a server of tunnels on loopback.
type end struct {
	*httptest.Server
	tunnels *Server
	conns   chan *Conn
}

func listen(t testing.TB) *end {
	t.Helper()
	e := &end{conns: make(chan *Conn, 16)}
	e.tunnels = &Server{Accept: func(c *Conn, _ *http.Request) bool { e.conns <- c; return true }}
	e.Server = httptest.NewUnstartedServer(e.tunnels)
	e.EnableHTTP2 = true
	e.StartTLS()
	t.Cleanup(e.Close)
	return e
}

// over is an HTTP client of its own that speaks the one version.
func over(t testing.TB, h2 bool, to string) *http.Transport {
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	way := Over(func(ctx context.Context) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", u.Host)
		if err != nil || u.Scheme == "http" {
			return c, err
		}
		protocols := []string{"http/1.1"}
		if h2 {
			protocols = []string{"h2", "http/1.1"}
		}
		secure := tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols})
		return secure, secure.HandshakeContext(ctx)
	})
	t.Cleanup(way.CloseIdleConnections)
	return way
}

// connect opens a tunnel to e by url and returns both of its ends.
func connect(t testing.TB, e *end, url string, h2 bool) (client, server *Conn) {
	t.Helper()
	cl := Client{HTTP: over(t, h2, url), URL: url}
	client, err := cl.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	server = <-e.conns
	t.Cleanup(func() { client.fail(net.ErrClosed); server.fail(net.ErrClosed) })
	return client, server
}

func TestATunnelIsANetConn(t *testing.T) {
	t.Parallel()
	for name, h2 := range map[string]bool{"over HTTP/1.1": false, "over HTTP/2": true} {
		t.Run(name+" from the client", func(t *testing.T) {
			t.Parallel()
			e := listen(t)
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				client, server := connect(t, e, e.URL, h2)
				return client, server, func() { client.fail(net.ErrClosed); server.fail(net.ErrClosed) }, nil
			})
		})
		t.Run(name+" from the server", func(t *testing.T) {
			t.Parallel()
			e := listen(t)
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				client, server := connect(t, e, e.URL, h2)
				return server, client, func() { client.fail(net.ErrClosed); server.fail(net.ErrClosed) }, nil
			})
		})
	}
}

// exchange sends size bytes each way at once, checks them, and closes.
func exchange(t *testing.T, client, server net.Conn, size int) {
	t.Helper()
	want := make([]byte, size)
	_, _ = rand.Read(want)
	errs := make(chan error, 4)
	for _, c := range []net.Conn{client, server} {
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		go func() {
			_, err := io.Copy(c, bytes.NewReader(want))
			errs <- err
		}()
		go func() {
			got := make([]byte, size)
			_, err := io.ReadFull(c, got)
			if err == nil && !bytes.Equal(got, want) {
				err = errors.New("other bytes came than were sent")
			}
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
}

func within(t *testing.T, d time.Duration, what string, do func()) {
	t.Helper()
	begin := time.Now()
	do()
	if took := time.Since(begin); took > d {
		t.Errorf("%s took %s, more than %s", what, took, d)
	}
}

func TestACloseIsSeenAtOnceAtTheOtherEnd(t *testing.T) {
	t.Parallel()
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := listen(t)
			for _, closer := range []string{"client", "server"} {
				client, server := connect(t, e, e.URL, h2)
				exchange(t, client, server, 10)
				a, b := client, server
				if closer == "server" {
					a, b = server, client
				}
				if _, err := a.Write([]byte("last words")); err != nil {
					t.Fatal(err)
				}
				_ = a.Close()
				within(t, 100*time.Millisecond, "the end of what the "+closer+" sent", func() {
					got, err := io.ReadAll(b)
					if string(got) != "last words" || err != nil {
						t.Errorf("after the %s closed: %q, %v", closer, got, err)
					}
				})
				if _, err := b.Write(make([]byte, 1)); err == nil {
					t.Error("writing to an end that is closed succeeded")
				}
				_ = b.Close()
				select {
				case <-b.ctx.Done():
				case <-time.After(time.Second):
					t.Error("both ends are closed, and the session lives on")
				}
			}
		})
	}
}

func TestClosedSessionsAreForgotten(t *testing.T) {
	t.Parallel()
	e := listen(t)
	client, server := connect(t, e, e.URL, true)
	_ = client.Close()
	_, _ = io.Copy(io.Discard, server)
	_ = server.Close()
	deadline := time.After(2 * time.Second)
	for {
		e.tunnels.mu.Lock()
		left := len(e.tunnels.sessions)
		e.tunnels.mu.Unlock()
		if left == 0 {
			break
		}
		select {
		case <-deadline:
			t.Fatalf("%d sessions are still there", left)
		case <-time.After(5 * time.Millisecond):
		}
	}
	if used := e.tunnels.memory.used.Load(); used != 0 {
		t.Errorf("%d bytes are still accounted for", used)
	}
}

func TestAnAnswerThatIsNoTunnelNamesItsStatus(t *testing.T) {
	t.Parallel()
	for status, again := range map[int]bool{302: false, 403: false, 404: false, 407: false, 503: true} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		cl := Client{URL: s.URL, HTTP: over(t, false, s.URL)}
		_, err := cl.Dial(t.Context())
		var answer *StatusError
		if !errors.As(err, &answer) || answer.Status != status || answer.again() != again {
			t.Errorf("status %d: %v", status, err)
		}
		s.Close()
	}
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<html>Please log in, and then try again</html>")
	}))
	defer page.Close()
	var answer *StatusError
	if _, err := (&Client{URL: page.URL, HTTP: over(t, false, page.URL)}).Dial(t.Context()); !errors.As(err, &answer) || answer.Status != http.StatusOK {
		t.Errorf("a portal's page: %v", err)
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	t.Parallel()
	stuck := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stuck }))
	defer s.Close()
	defer close(stuck)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	within(t, 150*time.Millisecond, "a dial of 50 ms", func() {
		_, err := (&Client{URL: s.URL, HTTP: over(t, false, s.URL)}).Dial(ctx)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("want the context's error, got %v", err)
		}
	})
}
