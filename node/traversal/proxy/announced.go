package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/publicsuffix"

	"github.com/worldcompute/wce2e/node/traversal/proxy/pac"
)

// pacURL is the variable that names a PAC script.
const pacURL = "WCE2E_PAC_URL"

const (
	// announceTimeout bounds the search for a script: names that nobody answers
	// for, and a web server that is slow.
	announceTimeout = 4 * time.Second
	// announcedAgain is when a script is fetched anew, and noneAgain when one is
	// looked for that was not there: the network may not have been up yet.
	announcedAgain = time.Hour
	noneAgain      = time.Minute
	// maxAnswers bounds the answers of a script that are remembered.
	maxAnswers = 1024
	// maxAsking bounds how many processes evaluate a script at once.
	maxAsking = 2
)

// announcement is a PAC script, or the search for one.
type announcement struct {
	named bool          // by a person
	done  chan struct{} // closed when the search has ended, and the next four fields are set

	script *pac.Script // nil: there is none
	source string      // where it was found
	err    error       // why there is none, where there should be one
	until  time.Time   // when to look again

	asking chan struct{} // has an element for each process that evaluates the script

	mu      sync.Mutex           // guards the field below
	answers map[string][]pac.Way // by target; nil where the script failed
}

func (a *announcement) ready() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

// announced is the script, or the search for it, which it begins.
func (f *Finder) announced() *announcement {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pac == nil || f.pac.ready() && time.Now().After(f.pac.until) {
		f.pac = &announcement{named: f.getenv(pacURL) != "", done: make(chan struct{}),
			asking: make(chan struct{}, maxAsking), answers: map[string][]pac.Way{}}
		go f.search(f.pac)
	}
	return f.pac
}

// search finds the script. It is shared by all dials and outlives each of them.
func (f *Finder) search(a *announcement) {
	defer close(a.done)
	ctx, cancel := context.WithTimeout(context.Background(), announceTimeout)
	defer cancel()
	if a.named {
		from := f.getenv(pacURL)
		a.source = pacURL
		if a.script, a.err = f.fetch(ctx, from); a.err != nil {
			a.err = fmt.Errorf("read the PAC script that %s names: %w", pacURL, a.err)
			f.warn("there is no PAC script where one should be", "err", a.err.Error())
		}
	} else {
		a.script, a.source = f.discover(ctx)
	}
	a.until = time.Now().Add(noneAgain)
	if a.script != nil {
		a.until = time.Now().Add(announcedAgain)
	}
}

// discover is Web Proxy Auto-Discovery by DNS. All names are asked at once; the
// first domain's script is taken.
func (f *Finder) discover(ctx context.Context) (*pac.Script, string) {
	names := wpadNames(f.domains())
	found := make([]chan *pac.Script, len(names))
	for i, name := range names {
		found[i] = make(chan *pac.Script, 1)
		go func() {
			script, _ := f.fetch(ctx, "http://"+name+"/wpad.dat") // most networks have none
			found[i] <- script
		}()
	}
	for i, name := range names {
		if script := <-found[i]; script != nil {
			return script, "WPAD at " + name
		}
	}
	return nil, ""
}

// domains are the machine's own domains.
func (f *Finder) domains() []string {
	if f.Search != nil {
		return f.Search()
	}
	if c, err := dns.ClientConfigFromFile("/etc/resolv.conf"); err == nil && len(c.Search) > 0 {
		return c.Search
	}
	host, _ := os.Hostname()
	if _, domain, ok := strings.Cut(host, "."); ok {
		return []string{domain}
	}
	return nil
}

// wpadNames are the names under which a network may announce a script: wpad in
// each of the machine's domains just as it is, and by itself, which the resolver
// completes. Going up towards the top of a domain, as browsers once did, ends in
// names that anybody can register, and so does a domain in which strangers can:
// those are left out.
func wpadNames(domains []string) []string {
	var out []string
	for _, d := range domains {
		d = strings.ToLower(strings.Trim(d, "."))
		suffix, icann := publicsuffix.PublicSuffix(d)
		if public := suffix == d && (icann || strings.Contains(suffix, ".")); d != "" && !public {
			out = append(out, "wpad."+d)
		}
	}
	return append(out, "wpad")
}

// fetch reads a script, without a proxy. Errors do not repeat its URL, in which
// there may be a password.
func (f *Finder) fetch(ctx context.Context, from string) (*pac.Script, error) {
	u, err := url.Parse(from)
	if err != nil {
		return nil, errors.New("it is no URL")
	}
	var text []byte
	switch u.Scheme {
	case "http", "https":
		text, err = f.get(ctx, u)
	case "file", "":
		text, err = readScript(u.Path)
	default:
		err = errors.New("it is none of http, https and file")
	}
	if err != nil {
		return nil, err
	}
	return pac.New(text)
}

func (f *Finder) get(ctx context.Context, u *url.URL) ([]byte, error) {
	transport := &http.Transport{
		DialContext:       func(ctx context.Context, _, addr string) (net.Conn, error) { return f.tcp(ctx, addr) },
		TLSClientConfig:   &tls.Config{RootCAs: f.Roots},
		DisableKeepAlives: true,
	}
	client := &http.Client{Transport: transport, CheckRedirect: sameHost}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, errors.New("it is no URL")
	}
	resp, err := client.Do(req)
	if err != nil {
		if outer := new(url.Error); errors.As(err, &outer) {
			err = outer.Err
		}
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the web server answers %d", resp.StatusCode)
	}
	return io.ReadAll(io.LimitReader(resp.Body, pac.MaxSize+1))
}

// sameHost keeps a redirect from leading out of the machine's own domain.
func sameHost(req *http.Request, via []*http.Request) error {
	if len(via) > 3 || req.URL.Host != via[0].URL.Host || req.URL.Scheme != via[0].URL.Scheme {
		return errors.New("it is redirected elsewhere")
	}
	return nil
}

func readScript(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return io.ReadAll(io.LimitReader(file, pac.MaxSize+1))
}

// ask waits for the script and asks it.
func (f *Finder) ask(ctx context.Context, a *announcement, target string) ([]pac.Way, error) {
	select {
	case <-a.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("look for a PAC script: %w", ctx.Err())
	}
	switch {
	case a.err != nil:
		return nil, a.err
	case a.script == nil:
		return nil, errNothingAnnounced
	}
	select {
	case a.asking <- struct{}{}:
		defer func() { <-a.asking }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait to ask the PAC script: %w", ctx.Err())
	}
	if ways, known := a.answer(target); known {
		return ways, nil // another dial has asked meanwhile
	}
	address, host := targetURL(target)
	ways, err := a.script.Find(ctx, address, host, pac.Host{Lookup: f.lookup, Address: ownAddress()})
	if err != nil && ctx.Err() != nil {
		return nil, err // we gave up, which says nothing about the script
	}
	if err != nil {
		f.warn("a PAC script is of no use", "from", a.source, "err", err.Error())
	}
	if !errors.Is(err, context.DeadlineExceeded) { // the machine, or its DNS, may be faster the next time
		a.remember(target, ways)
	}
	return ways, err
}

// errNothingAnnounced is how most networks answer.
var errNothingAnnounced = errors.New("the network announces no proxy")

func (a *announcement) remember(target string, ways []pac.Way) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.answers) >= maxAnswers {
		clear(a.answers)
	}
	a.answers[target] = ways
}

// answer is what the script said before.
func (a *announcement) answer(target string) (ways []pac.Way, known bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ways, known = a.answers[target]
	return ways, known
}

// ownAddress is the address from which packets go out; invalid when none do. No
// packet is sent to find out.
func ownAddress() netip.Addr {
	conn, err := net.Dial("udp4", "192.0.2.1:9")
	if err != nil {
		return netip.Addr{}
	}
	defer func() { _ = conn.Close() }()
	if a, ok := conn.LocalAddr().(*net.UDPAddr); ok {
		return a.AddrPort().Addr()
	}
	return netip.Addr{}
}
