package probe

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	ma "github.com/multiformats/go-multiaddr"
	madns "github.com/multiformats/go-multiaddr-dns"

	"github.com/worldcompute/wce2e/node/netcheck"
	"github.com/worldcompute/wce2e/node/traversal"
	"github.com/worldcompute/wce2e/node/traversal/names"
	"github.com/worldcompute/wce2e/node/traversal/proxy"
)

// Config says what to probe and how. The zero Config works.
type Config struct {
	// Targets are the multiaddrs to explain; empty: traversal.BuiltinBootstrap.
	Targets []string
	// Quick waits less for what does not answer, and leaves out silences.
	Quick bool
	// Proxies finds the proxies; nil: those of the environment and the network.
	Proxies *proxy.Finder
	// System is the network's own DNS; nil: the system's resolver.
	System madns.BasicResolver
	// Servers are the DNS servers that are asked besides it; nil: those that the
	// network told of, a public one in the clear, and some of names.Builtin.
	Servers []names.Server
	// STUN are servers, host:port, that show whether UDP is alive and, where two of them
	// have different IPv4 addresses, which NAT is on the way; nil: StunServers.
	STUN []string
	// Dead is an address, IP:port, at which nobody is; empty: one of the ranges for
	// documentation.
	Dead string
	// Portal are the pages whose content is known; nil: those of names.Portal.
	Portal []names.Check
	// Roots are the authorities that this machine trusts; nil: the system's.
	Roots *x509.CertPool
	// Silences are those of Keepalive records; nil: 20, 45 and 65 s, none when Quick.
	Silences []time.Duration
	// Software is told to peers, and stands in the report.
	Software string
	// Each is told of every record when it has ended, one at a time; nil: nobody.
	Each func(netcheck.Record)
	Log  *slog.Logger // nil: discard
}

// pace is how long things are waited for.
type pace struct {
	question time.Duration // one question to one resolver
	connect  time.Duration // TCP, or a proxy's answer
	layer    time.Duration // each layer above
	suspect  time.Duration // how long a layer is silent before its other explanations are looked at
	tries    int           // of a way that fails, where chance may be the reason
	turns    int           // ways that are tried at the same time
}

// announceFor is how long the network's proxy script is waited for: the search for it
// (4 s), and asking it, in a process of its own.
const announceFor = 10 * time.Second

// The paces. In 3.2 s Linux sends a SYN four times (at 0, 1, 2, 3 s; older systems
// twice), in 2.6 s TCP sends a lost segment again at least twice on a satellite
// link: so what a lost packet can do, it does not do here. Together they stay below
// the 6 s within which an address shall be explained. A patient probe waits a little
// longer than the daemon itself does (10 s for TCP, 5 s for QUIC).
var (
	quick   = pace{question: 3500 * time.Millisecond, connect: 3200 * time.Millisecond, layer: 2600 * time.Millisecond, suspect: 900 * time.Millisecond, tries: 2, turns: 16}
	patient = pace{question: 6 * time.Second, connect: 10 * time.Second, layer: 8 * time.Second, suspect: 2 * time.Second, tries: 3, turns: 8}
)

// prober is one Run.
type prober struct {
	*recorder
	Config
	pace
	key      crypto.PrivKey
	self     peer.ID
	identity *libp2ptls.Identity
	resolver *names.Resolver // for what is looked up on the way
	askers   []asker
	log      *slog.Logger

	turn chan struct{} // has an element for each way that is being tried
	work sync.WaitGroup

	mu        sync.Mutex // guards the fields below
	inquiries map[question]*inquiry
	targets   []netcheck.Target
	leads     map[string]bool  // that have been begun
	said      map[string]bool  // see news
	stood     map[string]way   // by transport: see stands
	answered  []netip.AddrPort // STUN servers that gave an answer
}

// Run probes, and returns what it saw. When ctx ends early, it returns that as well,
// and the reason. A target that cannot be read is an error before anything is done.
func Run(ctx context.Context, cfg Config) (netcheck.Report, error) {
	if len(cfg.Targets) == 0 {
		cfg.Targets = traversal.BuiltinBootstrap
	}
	addrs, err := parseTargets(cfg.Targets)
	if err != nil {
		return netcheck.Report{}, err
	}
	p, err := newProber(cfg)
	if err != nil {
		return netcheck.Report{}, err
	}
	local := look()
	p.askers = p.findAskers(local.Resolvers)
	var proxies []netcheck.Proxy
	p.work.Go(func() { proxies = p.announcedProxies(ctx) })
	p.surroundings(ctx, local)
	for i, a := range addrs {
		p.target(ctx, i, a)
	}
	p.work.Wait()
	local.Proxies = proxies
	p.whereItStood(ctx, local)
	for _, a := range p.askers {
		a.close()
	}
	return netcheck.Report{
		Version: netcheck.ReportVersion, Software: p.Software, Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Began: p.began.UTC(), Ended: time.Now().UTC(), Local: local, Targets: p.targets, Records: p.all(),
		Controls: []netcheck.Control{},
	}, ctx.Err()
}

func parseTargets(list []string) ([]ma.Multiaddr, error) {
	var out []ma.Multiaddr
	var errs []error
	for _, text := range list {
		a, err := ma.NewMultiaddr(text)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("target %q: %w", text, err))
		case slices.ContainsFunc(a, func(c ma.Component) bool { return c.Code() == ma.P_CIRCUIT }):
			errs = append(errs, fmt.Errorf("target %q: goes through a relay; name the relay itself", text))
		case !isName(a) && traversal.TransportName(a) == "":
			errs = append(errs, fmt.Errorf("target %q: names no transport that is spoken here (tcp, quic-v1, webtransport, ws, wss)", text))
		}
		out = append(out, a)
	}
	return out, errors.Join(errs...)
}

func newProber(cfg Config) (*prober, error) {
	if cfg.Proxies == nil {
		cfg.Proxies = &proxy.Finder{Log: cfg.Log, Roots: cfg.Roots}
	}
	if cfg.Silences == nil && !cfg.Quick {
		cfg.Silences = []time.Duration{20 * time.Second, 45 * time.Second, 65 * time.Second}
	}
	if cfg.Software == "" {
		cfg.Software = "wce2e"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("probe: new identity: %w", err)
	}
	self, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("probe: new identity: %w", err)
	}
	identity, err := libp2ptls.NewIdentity(key)
	if err != nil {
		return nil, fmt.Errorf("probe: new identity: %w", err)
	}
	p := &prober{
		recorder: &recorder{began: time.Now(), each: cfg.Each}, Config: cfg, pace: patient, log: cfg.Log,
		key: key, self: self, identity: identity,
		inquiries: map[question]*inquiry{}, leads: map[string]bool{}, said: map[string]bool{}, stood: map[string]way{},
	}
	if cfg.Quick {
		p.pace = quick
	}
	p.turn = make(chan struct{}, p.turns)
	p.resolver = &names.Resolver{System: cfg.System, Dial: p.dialAnyhow, Servers: cfg.Servers, Roots: cfg.Roots}
	return p, nil
}
