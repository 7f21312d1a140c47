package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// maxHeader bounds what a proxy may say before it lets us through, in bytes.
const maxHeader = 64 << 10

// httpTunnel asks an HTTP proxy for a tunnel (RFC 9110, section 9.3.6).
func httpTunnel(ctx context.Context, conn net.Conn, s server, target string, with login) (net.Conn, error) {
	// The deadline comes when ctx ends, and does not come back.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: target}, Host: target,
		Header: http.Header{"User-Agent": {"wce2e"}}}
	if !with.empty() {
		req.Header.Set("Proxy-Authorization", with.basic())
	}
	if err := req.Write(conn); err != nil {
		return nil, fmt.Errorf("send CONNECT: %w", err)
	}
	br := bufio.NewReader(io.LimitReader(conn, maxHeader))
	resp, err := http.ReadResponse(br, req)
	if err != nil {
		return nil, fmt.Errorf("read the answer to CONNECT: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, refusal(resp, s, with)
	}
	if !stop() {
		return nil, ctx.Err()
	}
	if br.Buffered() == 0 {
		return conn, nil
	}
	early, err := br.Peek(br.Buffered())
	if err != nil {
		return nil, err
	}
	return &ahead{Conn: conn, early: slices.Clone(early)}, nil
}

// ahead is a connection whose far side spoke before we had read the proxy's
// answer to its end.
type ahead struct {
	net.Conn
	early []byte
}

func (c *ahead) Read(b []byte) (int, error) {
	if len(c.early) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.early)
	c.early = c.early[n:]
	return n, nil
}

func refusal(resp *http.Response, s server, with login) *Refused {
	_, text, _ := strings.Cut(resp.Status, " ")
	return &Refused{
		Proxy: s.String(), Status: resp.StatusCode, Text: printable(text),
		Schemes: schemes(resp.Header.Values("Proxy-Authenticate")), Sent: !with.empty(),
	}
}

func (e *Refused) takesBasic() bool { return slices.ContainsFunc(e.Schemes, isBasic) }

func isBasic(scheme string) bool { return strings.EqualFold(scheme, "Basic") }

// maxSchemes bounds what a proxy can make us repeat.
const maxSchemes = 8

// schemes are the ways to authenticate in the challenges of a proxy (RFC 9110,
// section 11.6.1): a list with commas, in which parameters have commas too.
func schemes(challenges []string) []string {
	var out []string
	for _, c := range challenges {
		quoted := false
		for part := range strings.FieldsFuncSeq(c, func(r rune) bool {
			if r == '"' {
				quoted = !quoted
			}
			return r == ',' && !quoted
		}) {
			name, _, _ := strings.Cut(strings.TrimSpace(part), " ")
			if isToken(name) && !slices.Contains(out, name) && len(out) < maxSchemes {
				out = append(out, name)
			}
		}
	}
	return out
}

// isToken tells the name of a scheme from a parameter, which has a "=" in it.
func isToken(name string) bool {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return name != "" && len(name) <= 30 && strings.Trim(name, letters) == ""
}
