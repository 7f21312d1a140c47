package proxy

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
)

// Finder finds the ways to a TCP address: directly, and by the proxies that the
// environment or the network announces. The zero Finder works. It can be used by
// several goroutines at once, and must not be copied after its first use.
//
// What says where to go, the first one that says anything at all:
//
//   - loopback addresses, and those in NO_PROXY, are dialled directly and only so
//   - WCE2E_PAC_URL (http, https or file) names a PAC script
//   - HTTPS_PROXY, ALL_PROXY and HTTP_PROXY (port 80: HTTP_PROXY first), in lower
//     case or upper; http, https, socks5 and socks5h proxies, host:port is http
//   - a PAC script that the network announces by WPAD
//
// Unless it was said that an address is reached directly, both are tried: what
// was said at once, the direct way a moment later.
type Finder struct {
	// Getenv reads the environment; nil: os.Getenv.
	Getenv func(string) string
	// Credentials is the path of a file with the lines "user:password", for any
	// proxy that a person named, or "host user:password", for the proxy on that
	// host (or host:port); empty: WCE2E_PROXY_CREDENTIALS has the path, or there
	// is none. It is read when a proxy asks. What a proxy's URL says comes first.
	Credentials string
	// NoDiscovery leaves WPAD alone.
	NoDiscovery bool
	// Search lists the domains in which WPAD looks; nil: those of
	// /etc/resolv.conf, or that of the host's own name.
	Search func() []string
	// Lookup resolves names: of proxies, of what is dialled directly, and for PAC
	// scripts. It must heed its context. nil: the system's resolver.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Roots are the authorities that https proxies, and https for a PAC script,
	// are checked against; nil: the system's.
	Roots *x509.CertPool
	// Narrow tells whether full-size packets vanish on this network; sockets then
	// announce, and keep to, segments that fit a path of 1280 bytes. nil: no.
	Narrow func() bool
	// Found hears of each proxy once, until the network changes: its URL without
	// credentials, and who named it. nil: nobody.
	Found func(url, source string)
	// Log takes what a person should mend; nil: discard.
	Log *slog.Logger

	// connect opens a TCP connection to an address; nil: a socket does. Tests put
	// their network here.
	connect func(ctx context.Context, addr string) (net.Conn, error)

	mu     sync.Mutex           // guards the fields below
	pac    *announcement        // nil: not looked for yet
	won    string               // the route that stood last, when one did
	stood  bool                 //
	bad    map[string]time.Time // routes that came to nothing afterwards, and until when they come last
	worked map[string]time.Time // routes that were of use, and when last
	basic  map[string]bool      // proxies that asked for credentials
	known  map[string]bool      // proxies that Found has heard of
	warned map[string]bool      // what Log has heard
}

// badFor is how long a route that came to nothing is tried only after the
// others. A network does not change its ways much faster, and Reset ends it.
const badFor = 10 * time.Minute

// workedFor is how long a route that was of use is not to blame for a server to
// which it is of none.
const workedFor = 10 * time.Minute

// Dial opens a TCP connection to hostport, by whichever way stands first. The
// route is the URL of the proxy, without credentials; empty: none. A name is
// resolved by the proxy where there is one. Dial heeds ctx in every step.
//
// The error is a *Failed, which says of each way how it failed; in it are
// *Refused and *Unreachable, which are about proxies.
func (f *Finder) Dial(ctx context.Context, hostport string) (conn net.Conn, route string, err error) {
	conn, route, err = f.dial(ctx, hostport, f.plan)
	if err == nil {
		f.mu.Lock()
		f.won, f.stood = route, true
		f.mu.Unlock()
	}
	return conn, route, err
}

func (f *Finder) dial(ctx context.Context, hostport string, plan func(target string) []attempt) (net.Conn, string, error) {
	if _, _, err := net.SplitHostPort(hostport); err != nil {
		return nil, "", fmt.Errorf("dial by any way: %w", err)
	}
	conn, route, errs := race(ctx, plan(hostport))
	if conn == nil {
		return nil, "", failed(hostport, errs)
	}
	return conn, route, nil
}

// CameToNothing tells that a connection by this route stood and was useless: TLS
// failed on it, say. Some firewalls accept every connection and then swallow it,
// and would win each race. The others are tried first from now on, unless the
// route Worked a moment ago.
func (f *Finder) CameToNothing(route string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if at, ok := f.worked[route]; ok && time.Since(at) < workedFor {
		return
	}
	if f.bad == nil {
		f.bad = map[string]time.Time{}
	}
	f.bad[route] = time.Now().Add(badFor)
	f.stood = f.stood && f.won != route
}

// Worked tells that a connection by this route was of use, whatever was said of
// the route before.
func (f *Finder) Worked(route string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.worked == nil {
		f.worked = map[string]time.Time{}
	}
	f.worked[route] = time.Now()
	delete(f.bad, route)
}

// Reset forgets what was learnt of the network: call it when it has changed.
func (f *Finder) Reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pac, f.won, f.stood = nil, "", false
	clear(f.bad)
	clear(f.worked)
	clear(f.basic)
	clear(f.known)
}

// inOrder puts the route that stood last before the others, and those that came
// to nothing behind them, where they wait until the others have failed, or have
// had a while.
func (f *Finder) inOrder(attempts []attempt) []attempt {
	f.mu.Lock()
	won, stood, bad := f.won, f.stood, maps.Clone(f.bad)
	f.mu.Unlock()
	rank := func(a attempt) int {
		switch {
		case a.last:
			return 2
		case stood && !a.late && a.route == won:
			return 0
		}
		return 1
	}
	for i, a := range attempts {
		if until, ok := bad[a.route]; ok && !a.late && time.Now().Before(until) {
			attempts[i].last = true
		}
	}
	slices.SortStableFunc(attempts, func(a, b attempt) int { return rank(a) - rank(b) })
	return attempts
}

// getenv is the first of the variables that is set.
func (f *Finder) getenv(names ...string) string {
	get := f.Getenv
	if get == nil {
		get = os.Getenv
	}
	for _, n := range names {
		if v := get(n); v != "" {
			return v
		}
	}
	return ""
}

// found tells of a proxy, once.
func (f *Finder) found(s server) {
	if f.Found != nil && f.first(&f.known, s.String()) {
		f.Found(s.String(), s.source)
	}
}

// warn says something once; there is no secret in it.
func (f *Finder) warn(what string, args ...any) {
	if f.Log != nil && f.first(&f.warned, what+fmt.Sprint(args...)) {
		f.Log.Warn(what, args...)
	}
}

// first tells whether key is new to the set.
func (f *Finder) first(set *map[string]bool, key string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if (*set)[key] {
		return false
	}
	if *set == nil {
		*set = map[string]bool{}
	}
	(*set)[key] = true
	return true
}
