package node

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/netcheck"
	"github.com/worldcompute/wce2e/node/traversal"
	"github.com/worldcompute/wce2e/node/traversal/localnet"
	"github.com/worldcompute/wce2e/node/traversal/names"
	"github.com/worldcompute/wce2e/node/traversal/proxy"
	"github.com/worldcompute/wce2e/node/wire"
)

const (
	// fingerprintTimeout bounds asking the system which network this is; it needs
	// no other machine for that.
	fingerprintTimeout = 500 * time.Millisecond
	// portalAfter is how long reservations have to be lacking before a captive
	// portal is looked for, and portalEvery how often it is looked whether one has
	// opened. Where none was seen, portalIdle has to do.
	portalAfter = 3 * time.Second
	portalEvery = 5 * time.Second
	portalIdle  = time.Minute
	portalLook  = 5 * time.Second // for one look
	// watchAgain is how long to wait when the system would not tell of changes.
	watchAgain = time.Minute
)

// surroundings are the network that a node is in: what it is called, what its
// names are, which way out of it has won before, and whether it wants somebody
// to log in first.
type surroundings struct {
	rec    *recorder
	log    *slog.Logger
	ways   *proxy.Finder
	names  *names.Resolver
	memory *localnet.Memory
	narrow atomic.Bool // full-size packets vanish

	changed chan struct{} // has an element when the network has changed

	located sync.WaitGroup // the first look at the network

	mu      sync.Mutex           // guards the fields below
	network string               // localnet.Fingerprint
	failed  map[string]time.Time // by resolver and failure: when it was last recorded
	portal  string               // how a captive portal shows itself; empty: none does
}

func newSurroundings(dir string, rec *recorder, log *slog.Logger) *surroundings {
	s := &surroundings{rec: rec, log: log, changed: make(chan struct{}, 1), failed: map[string]time.Time{},
		memory: &localnet.Memory{Path: filepath.Join(dir, waysFile), Log: log}}
	s.ways = &proxy.Finder{Narrow: s.narrow.Load, Log: log, Found: func(url, source string) {
		rec.Record(wire.Event{Kind: wire.ProxyFound, Detail: url + ", named by " + source})
	}}
	s.names = &names.Resolver{Dial: s.dial, CacheFile: filepath.Join(dir, namesFile), Log: log, Answered: s.answered}
	// Reading the machine's authorities takes longer than a round trip to a near
	// relay; the first TLS handshake finds them read.
	go func() { _, _ = x509.SystemCertPool() }()
	s.located.Go(func() { s.locate(context.Background()) })
	return s
}

// dial opens a TCP connection by whichever way stands first.
func (s *surroundings) dial(ctx context.Context, hostport string) (net.Conn, error) {
	c, _, err := s.ways.Dial(ctx, hostport)
	return c, err
}

// locate finds out which network this is.
func (s *surroundings) locate(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, fingerprintTimeout)
	defer cancel()
	id, err := localnet.Fingerprint(ctx)
	if err != nil {
		s.log.Warn("the system does not tell which network this is", "err", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.network = id
}

// here is the network's name; the first time it is waited for.
func (s *surroundings) here() string {
	s.located.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.network
}

// Recall and Keep make a traversal.Memory of what is known of this network.
func (s *surroundings) Recall() (traversal.Way, bool) {
	w, known := s.memory.Get(s.here())
	if !known {
		return traversal.Way{}, false
	}
	relay, err := peer.Decode(w.Relay)
	if err != nil {
		return traversal.Way{}, false
	}
	addr, err := ma.NewMultiaddr(w.Addr)
	if err != nil {
		return traversal.Way{}, false
	}
	return traversal.Way{Relay: relay, Addr: addr, Narrow: w.Narrow, Took: w.Took}, true
}

func (s *surroundings) Keep(w traversal.Way) {
	s.locate(context.Background()) // name servers may have come a moment later
	s.memory.Put(s.here(), localnet.Way{Relay: w.Relay.String(), Addr: w.Addr.String(),
		Transport: traversal.TransportName(w.Addr), Narrow: w.Narrow, Took: w.Took})
}

// answered records who answered a question about a name, where that was not
// simply the system. What fails again and again in the same way, as fifteen
// resolvers do that a firewall intercepts, is recorded now and then.
func (s *surroundings) answered(a names.Answer) {
	if a.Source == "system" && a.Used || a.Err != nil && !s.failedAnew(a) {
		return
	}
	ev := wire.Event{Kind: wire.ResolveEnded, Addr: "/dns/" + a.Name, Outcome: wire.OK, Addrs: a.Values, Detail: a.Source, MS: millis(a.Took)}
	if name, is := strings.CutPrefix(a.Name, "_dnsaddr."); is {
		ev.Addr = "/dnsaddr/" + name
	}
	switch {
	case a.Err != nil:
		ev.Outcome, ev.Failure, ev.Err = wire.Failed, string(netcheck.Classify(a.Err)), a.Err.Error()
		if ev.Failure == string(netcheck.Aborted) {
			ev.Outcome = wire.Aborted
		}
	case a.Doubtful:
		ev.Detail += ", and doubtful"
	}
	s.rec.Record(ev)
}

// sameFailure is how often the same failure of a resolver is recorded.
const sameFailure = 10 * time.Minute

// failedAnew tells whether a resolver has not failed in this way lately.
func (s *surroundings) failedAnew(a names.Answer) bool {
	how := a.Source + " " + string(netcheck.Classify(a.Err))
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.failed[how]) < sameFailure {
		return false
	}
	s.failed[how] = time.Now()
	return true
}

// watch tells the keeper when the network changes, until ctx ends.
func (s *surroundings) watch(ctx context.Context, keeper *traversal.Keeper) {
	for {
		err := localnet.Watch(ctx, func(c localnet.Change) {
			s.rec.Record(wire.Event{Kind: wire.NetworkChanged, Detail: c.What})
			s.ways.Reset()
			s.names.CloseIdleConnections()
			s.locate(ctx)
			keeper.NetworkChanged(ctx)
			select {
			case s.changed <- struct{}{}:
			default:
			}
		})
		if err == nil {
			return
		}
		s.log.Warn("changes of the network are not noticed at once", "err", err)
		if !sleep(ctx, watchAgain) {
			return
		}
	}
}

// watchPortal looks for a captive portal while there is no reservation, and tells
// the keeper when one has opened.
func (s *surroundings) watchPortal(ctx context.Context, keeper *traversal.Keeper) {
	p := &names.Portal{}
	for wait := portalAfter; s.rest(ctx, wait); {
		wait = portalAfter
		if keeper.Stranded() < portalAfter {
			s.sawPortal("") // it lets us through, or there never was one
			continue
		}
		look, cancel := context.WithTimeout(ctx, portalLook)
		state, err := p.Look(look)
		cancel()
		switch {
		case state.Captive:
			s.sawPortal(state.Evidence)
			wait = portalEvery
		case state.Open && s.sawPortal(""):
			s.ways.Reset() // what came to nothing may have come to the portal
			keeper.NetworkChanged(ctx)
		case err != nil && s.portalSeen() != "":
			wait = portalEvery // portals answer when they like
		default:
			wait = portalIdle
		}
	}
}

// rest waits, or until the network changes; it returns false when ctx ends first.
func (s *surroundings) rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-s.changed:
	case <-t.C:
	}
	return true
}

// sawPortal notes whether there is a portal, and records and tells when that is
// new.
func (s *surroundings) sawPortal(evidence string) bool {
	s.mu.Lock()
	before := s.portal
	s.portal = evidence
	s.mu.Unlock()
	switch {
	case before == "" && evidence != "":
		s.rec.Record(wire.Event{Kind: wire.PortalFound, Detail: evidence})
	case before != "" && evidence == "":
		s.rec.Record(wire.Event{Kind: wire.PortalFound, Outcome: wire.OK, Detail: "it has opened"})
	default:
		return false
	}
	return true
}

func (s *surroundings) portalSeen() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.portal
}

// sleep waits, or returns false when ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
