package names

import (
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

const (
	// lookTimeout bounds a look: a network that has not answered by then is not
	// held up by a portal, which answers from nearby.
	lookTimeout = 5 * time.Second
	// secondLook is how long a sign of a portal waits for another check to say that
	// the way is open: networks with odd proxies are not captive.
	secondLook = time.Second
	// addressTimeout is how long one address of a check's host is waited for before
	// the other family is tried.
	addressTimeout = 2 * time.Second
	// maxEvidence bounds what a portal can put into our records, in bytes.
	maxEvidence = 200
	// maxSpace is how much white space may surround an expected page, in bytes.
	maxSpace = 16
)

// Portal tells whether a captive portal stands between this machine and the
// internet: whether plain HTTP requests to well-known pages get the answers that
// these pages are there to give. The zero Portal works.
type Portal struct {
	// Dial opens a TCP connection; nil means net.Dialer. The address is always an
	// IP and a port. It should not be by a proxy, which is on the other side.
	Dial func(ctx context.Context, hostport string) (net.Conn, error)
	// Lookup finds the checks' hosts; nil means the system's resolver. That is the
	// right one: a portal that lies about names is found where its lies lead.
	Lookup func(ctx context.Context, host string) ([]net.IPAddr, error)
	// Checks are the pages; nil means those of Android and of Firefox.
	Checks []Check
}

// Check is a page whose content is known.
type Check struct {
	URL    string // http
	Status int    // expected
	Body   string // expected, but for white space at its ends
}

// usualChecks are pages that portals know to intercept, and whose operators
// expect such requests.
func usualChecks() []Check {
	return []Check{
		{"http://connectivitycheck.gstatic.com/generate_204", http.StatusNoContent, ""},
		{"http://detectportal.firefox.com/success.txt", http.StatusOK, "success"},
	}
}

// State is what a look found. Where neither Open nor Captive is set, it is not
// known.
type State struct {
	Open     bool   // a page was what it should be
	Captive  bool   // a redirect, another page, or status 511 came instead
	Evidence string // what came: "302 to http://portal.example/login"

	URL      string    // of the page that decided it
	Status   int       // HTTP's
	Line     string    // with which the answer began: "HTTP/1.1 302 Found"
	Location string    // of a redirect, without what may identify this machine
	Date     time.Time // what the server says the time is; zero: it does not
}

// Look asks for all pages at once. One that is what it should be outweighs signs
// of a portal. When nothing can be told the error says what went wrong.
func (p *Portal) Look(ctx context.Context) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	found := p.ask(ctx)
	var captive State
	var failed failures
	var patience <-chan time.Time
	for waiting := cap(found); waiting > 0; {
		select {
		case f := <-found:
			waiting--
			switch {
			case f.Open:
				return f.State, nil
			case f.Captive && !captive.Captive:
				captive, patience = f.State, time.After(secondLook)
			case f.err != nil:
				failed = append(failed, f.err)
			}
		case <-patience:
			waiting = 0
		case <-ctx.Done():
			failed = append(failed, ctx.Err())
			waiting = 0
		}
	}
	if captive.Captive {
		return captive, nil
	}
	return State{}, fmt.Errorf("look for a captive portal: %w", failed)
}

// finding is what one check found.
type finding struct {
	State
	err error
}

// ask tries all checks. The channel has room for what all of them find.
func (p *Portal) ask(ctx context.Context) <-chan finding {
	checks := p.Checks
	if checks == nil {
		checks = usualChecks()
	}
	found := make(chan finding, len(checks))
	for _, c := range checks {
		go func() {
			s, err := p.try(ctx, c)
			found <- finding{s, err}
		}()
	}
	return found
}

// try asks for one page. It sends nothing that tells one machine from another.
func (p *Portal) try(ctx context.Context, c Check) (State, error) {
	transport := &http.Transport{DialContext: p.connect, DisableKeepAlives: true, DisableCompression: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil {
		return State{}, err
	}
	req.Header.Set("User-Agent", "")      // none
	resp, err := transport.RoundTrip(req) // follows no redirect, keeps no cookie
	if err != nil {
		return State{}, fmt.Errorf("ask for %s: %w", c.URL, err)
	}
	defer resp.Body.Close()
	s, err := c.judge(resp)
	s.URL, s.Status, s.Line = c.URL, resp.StatusCode, resp.Proto+" "+resp.Status
	s.Date, _ = http.ParseTime(resp.Header.Get("Date")) // it need not say
	return s, err
}

// judge tells what a response says. An HTTP error is no sign of a portal: it is
// what proxies say of pages that they cannot reach.
func (c Check) judge(resp *http.Response) (State, error) {
	status := resp.StatusCode
	other := State{Captive: true, Evidence: fmt.Sprintf("%d with another page than %s", status, c.URL)}
	switch {
	case status == c.Status:
		body, err := io.ReadAll(io.LimitReader(resp.Body, int64(len(c.Body))+maxSpace))
		if err != nil {
			return State{}, fmt.Errorf("read %s: %w", c.URL, err)
		}
		if strings.TrimSpace(string(body)) != strings.TrimSpace(c.Body) {
			return other, nil
		}
		return State{Open: true, Evidence: fmt.Sprintf("%d from %s", status, c.URL)}, nil
	case status >= 300 && status < 400:
		to := target(resp)
		return State{Captive: true, Evidence: fmt.Sprintf("%d to %s", status, to), Location: to}, nil
	case status >= 200 && status < 300, status == http.StatusNetworkAuthenticationRequired:
		return other, nil
	}
	return State{}, fmt.Errorf("ask for %s: HTTP status %d", c.URL, status)
}

// target is where a redirect leads, without what may identify this machine to
// the portal: query, fragment, user.
func target(resp *http.Response) string {
	to, err := resp.Location()
	if err != nil {
		return "nowhere"
	}
	text := (&url.URL{Scheme: to.Scheme, Host: to.Host, Path: to.Path}).String()
	return strings.ToValidUTF8(text[:min(len(text), maxEvidence)], "")
}

// connect finds and dials a check's host: one address of each family, IPv4
// first, because that is what portals stand before; where there is none it fails
// at once.
func (p *Portal) connect(ctx context.Context, _, hostport string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout) // http.Transport's has no deadline
	defer cancel()
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, err
	}
	found, err := p.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	var failed failures
	for _, v4 := range []bool{true, false} {
		i := slices.IndexFunc(found, func(a net.IPAddr) bool { return (a.IP.To4() != nil) == v4 })
		if i < 0 {
			continue
		}
		conn, err := p.dial(ctx, net.JoinHostPort(found[i].String(), port))
		if err == nil {
			return conn, nil
		}
		failed = append(failed, err)
	}
	return nil, failed
}

func (p *Portal) lookup(ctx context.Context, host string) ([]net.IPAddr, error) {
	if ip := net.ParseIP(host); ip != nil {
		return []net.IPAddr{{IP: ip}}, nil
	}
	if p.Lookup != nil {
		return p.Lookup(ctx, host)
	}
	return net.DefaultResolver.LookupIPAddr(ctx, rooted(host))
}

func (p *Portal) dial(ctx context.Context, hostport string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, addressTimeout)
	defer cancel()
	if p.Dial != nil {
		return p.Dial(ctx, hostport)
	}
	return new(net.Dialer).DialContext(ctx, "tcp", hostport)
}
