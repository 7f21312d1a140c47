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
	"slices"
	"strconv"
	"strings"
	"sync"

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
	client *http.Client
}

func newDoH(s Server, dial dialFunc, config *tls.Config) *doh {
	host := s.Addr.String()
	if s.Name != "" {
		host = net.JoinHostPort(s.Name, strconv.Itoa(int(s.Addr.Port())))
	}
	return &doh{
		url: "https://" + strings.TrimSuffix(host, ":443") + dohPath,
		client: &http.Client{
			// A DNS server has no reason to redirect.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					return dial(ctx, s.Addr.String())
				},
				TLSClientConfig:     config,
				TLSHandshakeTimeout: serverTimeout,
				ForceAttemptHTTP2:   true,
				MaxConnsPerHost:     maxConns,
				IdleConnTimeout:     idleTimeout,
				DisableCompression:  true,
			},
		},
	}
}

func (d *doh) closeIdle() { d.client.CloseIdleConnections() }

func (d *doh) exchange(ctx context.Context, queries []*dns.Msg) ([]*dns.Msg, error) {
	all, errs := make([]*dns.Msg, len(queries)), make([]error, len(queries))
	var wg sync.WaitGroup
	for i, q := range queries {
		wg.Go(func() { all[i], errs[i] = d.post(ctx, q) })
	}
	wg.Wait()
	err := first(errs)
	// A connection that has died in silence would be used for the next question
	// too: http.Transport does not notice.
	if err != nil && !errors.Is(err, context.Canceled) {
		d.closeIdle()
	}
	return slices.DeleteFunc(all, func(m *dns.Msg) bool { return m == nil }), err
}

// post sends a query and reads the reply.
func (d *doh) post(ctx context.Context, query *dns.Msg) (*dns.Msg, error) {
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
	resp, err := d.client.Do(req)
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
