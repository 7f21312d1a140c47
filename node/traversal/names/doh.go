package names

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/miekg/dns"
)

const (
	dohPath = "/dns-query" // of all three operators
	dohType = "application/dns-message"
)

// doh asks one server over HTTPS (RFC 8484). Queries share a connection where
// HTTP/2 gets through; interceptors often leave only HTTP/1.1.
type doh struct {
	url    string
	addr   string
	dial   dialFunc
	config *tls.Config
	client atomic.Pointer[http.Client]
}

func newDoH(s Server, dial dialFunc, config *tls.Config) *doh {
	host := s.Addr.String()
	if s.Name != "" {
		host = net.JoinHostPort(s.Name, strconv.Itoa(int(s.Addr.Port())))
	}
	d := &doh{url: "https://" + strings.TrimSuffix(host, ":443") + dohPath, addr: s.Addr.String(), dial: dial, config: config}
	d.client.Store(d.newClient())
	return d
}

func (d *doh) newClient() *http.Client {
	return &http.Client{
		// A DNS server has no reason to redirect.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return d.dial(ctx, d.addr)
			},
			TLSClientConfig:     d.config.Clone(), // http.Transport writes to it
			TLSHandshakeTimeout: serverTimeout,
			ForceAttemptHTTP2:   true,
			MaxConnsPerHost:     maxConns,
			IdleConnTimeout:     idleTimeout,
			DisableCompression:  true,
		},
	}
}

func (d *doh) closeIdle() { d.renew(d.client.Load()) }

// renew has the next question asked on a new connection. The old client would
// not forget one that is being dialled, or has died in silence.
func (d *doh) renew(old *http.Client) {
	if d.client.CompareAndSwap(old, d.newClient()) {
		old.CloseIdleConnections()
	}
}

// exchange asks once more when it failed on a connection that had been there
// before: servers hang up, and http.Transport does not repeat a POST.
func (d *doh) exchange(ctx context.Context, queries []*dns.Msg) ([]*dns.Msg, error) {
	replies, reused, err := d.post(ctx, queries)
	if err != nil && reused && ctx.Err() == nil {
		replies, _, err = d.post(ctx, queries)
	}
	return replies, err
}

// post sends queries at once, and tells whether that was on a connection that
// had been there before.
func (d *doh) post(ctx context.Context, queries []*dns.Msg) ([]*dns.Msg, bool, error) {
	var reused atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) { reused.CompareAndSwap(false, i.Reused) },
	})
	client := d.client.Load()
	all, errs := make([]*dns.Msg, len(queries)), make([]error, len(queries))
	var wg sync.WaitGroup
	for i, q := range queries {
		wg.Go(func() { all[i], errs[i] = d.postOne(ctx, client, q) })
	}
	wg.Wait()
	err := first(errs)
	if err != nil && !errors.Is(err, context.Canceled) {
		d.renew(client)
	}
	return slices.DeleteFunc(all, func(m *dns.Msg) bool { return m == nil }), reused.Load(), err
}

func (d *doh) postOne(ctx context.Context, client *http.Client, query *dns.Msg) (*dns.Msg, error) {
	raw, err := query.Pack()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url, bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", dohType)
	req.Header.Set("Accept", dohType)
	req.Header.Set("User-Agent", "") // none
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return readReply(resp, query)
}

func readReply(resp *http.Response, query *dns.Msg) (*dns.Msg, error) {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode != http.StatusOK || kind != dohType {
		return nil, fmt.Errorf("no DNS message: HTTP status %q, content type %q", resp.Status, kind)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, dns.MaxMsgSize))
	if err != nil {
		return nil, fmt.Errorf("read DNS message: %w", err)
	}
	reply := new(dns.Msg)
	if err := reply.Unpack(raw); err != nil {
		return nil, fmt.Errorf("read DNS message: %w", err)
	}
	if !answers(reply, query) {
		return nil, errors.New("the reply is to something else")
	}
	return reply, nil
}

// first is one of several errors: they are about the same connection.
func first(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
