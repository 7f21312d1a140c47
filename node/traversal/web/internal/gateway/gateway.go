// Package gateway is, for tests, the kind of web gateway that companies open up
// HTTPS with: it ends TLS with a certificate of its own, speaks HTTP/1.1 only to
// both sides, strips Upgrade, and holds back a request until its body is
// complete. Worse habits can be switched on.
package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// Gateway passes requests on to another server. The fields are set before the
// first request.
type Gateway struct {
	*httptest.Server

	HoldAnswers bool          // until they are complete
	CutAfter    int64         // bytes of an answer, then break the connection; 0: never
	LoseEvery   int64         // n-th request: passed on, its answer is not; 0: none
	RefuseEvery int64         // n-th request: answered 502; 0: none
	DelayPosts  time.Duration // the answers to them

	Requests, Cuts atomic.Int64 // so far

	to   string
	http *http.Transport
}

// New starts a gateway in front of the server at the address to (host:port), which
// speaks TLS.
func New(t testing.TB, to string) *Gateway {
	g := &Gateway{to: to}
	g.http = &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, to)
		},
	}
	g.Server = httptest.NewTLSServer(http.HandlerFunc(g.pass)) // HTTP/1.1 only
	t.Cleanup(func() {
		g.CloseClientConnections()
		g.Close()
		g.http.CloseIdleConnections()
	})
	return g
}

func (g *Gateway) pass(w http.ResponseWriter, r *http.Request) {
	n := g.Requests.Add(1)
	if every(n, g.RefuseEvery) {
		http.Error(w, "bad gateway", http.StatusBadGateway)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	out := r.Clone(r.Context())
	out.RequestURI = ""
	out.URL.Scheme, out.URL.Host = "https", g.to
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	for _, h := range []string{"Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"} {
		out.Header.Del(h)
	}
	answer, err := g.http.RoundTrip(out)
	if err != nil {
		http.Error(w, "bad gateway", http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	if r.Method == http.MethodPost {
		time.Sleep(g.DelayPosts)
	}
	if every(n, g.LoseEvery) {
		panic(http.ErrAbortHandler)
	}
	g.answer(w, answer)
}

func (g *Gateway) answer(w http.ResponseWriter, from *http.Response) {
	body := io.Reader(from.Body)
	if g.HoldAnswers {
		all, err := io.ReadAll(body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		body = bytes.NewReader(all)
	}
	for name, values := range from.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(from.StatusCode)
	buf := make([]byte, 16<<10)
	for left := g.CutAfter; ; {
		n, err := body.Read(buf)
		if g.CutAfter > 0 && int64(n) >= left {
			_, _ = w.Write(buf[:left])
			_ = http.NewResponseController(w).Flush()
			g.Cuts.Add(1)
			panic(http.ErrAbortHandler)
		}
		left -= int64(n)
		if _, werr := w.Write(buf[:n]); werr != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		if err == io.EOF {
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

func every(n, nth int64) bool { return nth > 0 && n%nth == 0 }
