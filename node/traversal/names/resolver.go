package names

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	madns "github.com/multiformats/go-multiaddr-dns"
)

// Resolver answers through the system's resolver and, when that fails or takes
// longer than 300 ms, through DoH and DoT servers known by address. The zero
// Resolver works. It is safe for concurrent use; its fields are not to be
// changed after the first lookup.
type Resolver struct {
	// System is the network's own DNS; nil means net.DefaultResolver.
	System madns.BasicResolver
	// Dial opens a TCP connection to a server, perhaps through a proxy; nil means
	// net.Dialer. The address is always an IP and a port.
	Dial func(ctx context.Context, hostport string) (net.Conn, error)
	// Servers are the DoH and DoT servers in order of preference; nil means
	// Builtin(), and an empty slice none.
	Servers []Server
	// Roots are the authorities that the servers' certificates are checked
	// against; nil means the system's.
	Roots *x509.CertPool
	// CacheFile keeps the last good answers across restarts; "" keeps them in
	// memory only.
	CacheFile string
	// Answered, unless nil, is told of every source that was asked, once per lookup
	// and source, before the lookup returns. It is called from several goroutines
	// when there are several lookups, and has to be quick.
	Answered func(Answer)
	// Log is told what is wrong with the cache file; nil means discard.
	Log *slog.Logger

	once  sync.Once // guards the making of the fields below
	first []source  // asked when the system is late or fails
	rest  []source  // asked when the first are late or fail
	cache *cache

	mu   sync.Mutex // guards the field below
	late time.Time  // until when the system's resolver gets no head start
}

// Resolver resolves /dns and /dnsaddr addresses.
var _ madns.BasicResolver = (*Resolver)(nil)

// Type is what is asked about a name.
type Type string

const (
	IP  Type = "IP"  // A and AAAA
	TXT Type = "TXT" //
)

// Answer is what one source said in one lookup.
type Answer struct {
	Name     string        // as asked
	Type     Type          //
	Source   string        // "system", "doh 1.1.1.1", "dot [2620:fe::fe]", "cache"
	Values   []string      // addresses or texts
	Err      error         // why there are none; context.Canceled when the source was not waited for
	Took     time.Duration //
	Used     bool          // this is what the lookup returned
	Doubtful bool          // the network says so, and it looks made up
	Since    time.Time     // of an answer from the cache: when a source last gave it
}

// LookupIPAddr finds the addresses of a name. When all who answer agree that
// there are none, the error is a *net.DNSError with IsNotFound.
func (r *Resolver) LookupIPAddr(ctx context.Context, name string) ([]net.IPAddr, error) {
	return lookupIPs(ctx, name, r.lookup)
}

// LookupTXT finds the texts of a name, each in one piece however long it is.
func (r *Resolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	return r.lookup(ctx, question{name, TXT})
}

// Encrypted is a second opinion for when the system's answer led nowhere: the
// same lookups by DoH and DoT only, without the cache.
func (r *Resolver) Encrypted() madns.BasicResolver { return encrypted{r} }

type encrypted struct{ r *Resolver }

func (e encrypted) LookupIPAddr(ctx context.Context, name string) ([]net.IPAddr, error) {
	return lookupIPs(ctx, name, e.r.lookupEncrypted)
}

func (e encrypted) LookupTXT(ctx context.Context, name string) ([]string, error) {
	return e.r.lookupEncrypted(ctx, question{name, TXT})
}

// CloseIdleConnections closes the connections to DoH and DoT servers that are
// kept for the next question. They are not kept for long anyway; a network that
// changed is the reason to close them at once.
func (r *Resolver) CloseIdleConnections() {
	r.setUp()
	for _, s := range slices.Concat(r.first, r.rest) {
		s.closeIdle()
	}
}

// question is what a lookup asks.
type question struct {
	name string
	kind Type
}

func (q question) String() string { return string(q.kind) + " of " + q.name }

func (r *Resolver) lookup(ctx context.Context, q question) ([]string, error) {
	r.setUp()
	waves := []wave{{sources: []source{r.system()}}}
	if !isLocal(q.name) {
		waves = append(waves, wave{r.headStart(), r.first}, wave{secondWave, r.rest})
	}
	c := &race{question: q, waves: waves}
	c.known, c.since = r.cache.get(q)
	return r.run(ctx, c)
}

func (r *Resolver) lookupEncrypted(ctx context.Context, q question) ([]string, error) {
	r.setUp()
	if isLocal(q.name) {
		return nil, fmt.Errorf("look up %s by DoH and DoT: the world does not know names of a local network", q)
	}
	return r.run(ctx, &race{question: q, waves: []wave{{0, r.first}, {secondWave, r.rest}}})
}

// run looks up, and tells and keeps what was found.
func (r *Resolver) run(ctx context.Context, c *race) ([]string, error) {
	if _, ok := dns.IsDomainName(c.name); !ok || c.name == "" {
		return nil, fmt.Errorf("look up %s: not a domain name", c.question)
	}
	answer := c.run(ctx)
	for _, e := range c.entrants {
		r.learn(e.Answer)
		if r.Answered != nil {
			r.Answered(e.Answer)
		}
	}
	if answer == nil {
		return nil, c.failure(ctx)
	}
	if answer.Source != fromCache {
		r.cache.put(c.question, answer.Values)
	}
	return answer.Values, nil
}

// setUp makes what the first lookup needs.
func (r *Resolver) setUp() {
	r.once.Do(func() {
		log := r.Log
		if log == nil {
			log = slog.New(slog.DiscardHandler)
		}
		servers := r.Servers
		if servers == nil {
			servers = Builtin()
		}
		first, rest := split(servers)
		r.first, r.rest = r.sources(first), r.sources(rest)
		r.cache = &cache{path: r.CacheFile, log: log}
	})
}

// headStart is how long the system's resolver is waited for before others are
// asked.
func (r *Resolver) headStart() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Now().Before(r.late) {
		return 0
	}
	return headStart
}

// learn keeps in mind whether the system's resolver is worth waiting for: each
// name in a chain of names would otherwise cost a head start.
func (r *Resolver) learn(a Answer) {
	if a.Source != fromSystem {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case a.Took >= headStart:
		r.late = time.Now().Add(lateFor)
	case a.Err == nil:
		r.late = time.Time{}
	}
}

// lookupIPs is lookup for addresses, which need no lookup when they are some.
func lookupIPs(ctx context.Context, host string, lookup func(context.Context, question) ([]string, error)) ([]net.IPAddr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []net.IPAddr{{IP: ip.AsSlice(), Zone: ip.Zone()}}, nil
	}
	values, err := lookup(ctx, question{host, IP})
	if err != nil {
		return nil, err
	}
	var out []net.IPAddr
	for _, v := range values {
		if ip, err := netip.ParseAddr(v); err == nil {
			out = append(out, net.IPAddr{IP: ip.AsSlice(), Zone: ip.Zone()})
		}
	}
	return out, nil
}

// localDomains are those that only the local network can know about: RFC 6761,
// RFC 6762, RFC 8375, ICANN's .internal, and what routers came with before it.
// Asking the world would tell it names it has no business with.
var localDomains = []string{".local", ".localhost", ".home.arpa", ".internal", ".lan"}

func isLocal(name string) bool {
	name = "." + strings.ToLower(strings.TrimSuffix(name, "."))
	for _, d := range localDomains {
		if strings.HasSuffix(name, d) {
			return true
		}
	}
	return strings.Count(name, ".") == 1
}
