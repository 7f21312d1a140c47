package node

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/tcpreuse"
	webtransport "github.com/libp2p/go-libp2p/p2p/transport/webtransport"
	ma "github.com/multiformats/go-multiaddr"
	madns "github.com/multiformats/go-multiaddr-dns"
	"go.uber.org/fx"

	"github.com/worldcompute/wce2e/node/traversal"
	"github.com/worldcompute/wce2e/node/traversal/proxy"
)

const (
	// dialTimeout bounds one dial of one address, security handshake included.
	// It is longer than what the transports allow themselves (TCP 5 s, QUIC
	// 5 s, WebSocket wsTimeout): a dial that its context ends tells nothing
	// about why.
	dialTimeout = 15 * time.Second
	// wsTimeout bounds TCP, TLS and the WebSocket upgrade together: four round
	// trips, on a satellite link 3 s.
	wsTimeout = 10 * time.Second
	// punchDialTimeout bounds the direct dial before a hole punch, and each of
	// its three attempts. The library's 10 s would take 40 s to fail.
	punchDialTimeout = 5 * time.Second
)

// dialsPerPeer is how many addresses of one peer are dialled at once. With the
// library's 8, a good address behind eight dead ones waits for their 5 s.
const dialsPerPeer = 32

// tuneLibrary sets what the library has only as variables of its packages. A
// dial through a circuit first connects to the relay, for which it allows 5 s:
// less than one WebSocket dial takes on a slow link.
var tuneLibrary = sync.OnceFunc(func() {
	client.DialRelayTimeout = dialTimeout
	swarm.DefaultPerPeerRateLimit = dialsPerPeer
})

// hostConfig is what the hosts of a daemon and of a single dial differ in.
type hostConfig struct {
	key        crypto.PrivKey
	rec        *recorder
	relay      bool                                // limits of a relay
	addrs      func([]ma.Multiaddr) []ma.Multiaddr // nil: announce what the library would
	traverse   bool                                // DCUtR and AutoNAT v2
	names      madns.BasicResolver                 // nil: the system's
	ways       *proxy.Finder                       // nil: TCP is dialled directly
	certs      certificates                        // of TLS listeners; nil: the host has none
	page       http.Handler                        // what WebSocket listeners tell browsers; nil: 404
	transports []string                            // of Transports; none: all
	userAgent  string
}

// newHost assembles a libp2p host that does not listen yet: TCP, QUIC,
// WebSocket and circuits, every dial of theirs recorded.
func newHost(cfg hostConfig) (host.Host, error) {
	tuneLibrary()
	limits, err := newResourceManager(cfg.relay)
	if err != nil {
		return nil, fmt.Errorf("resource manager: %w", err)
	}
	conns, err := newConnManager(cfg.relay)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connection manager: %w", err), limits.Close())
	}
	resolver, err := newMultiaddrResolver(cfg.names)
	if err != nil {
		return nil, errors.Join(err, limits.Close(), conns.Close())
	}
	var self atomic.Pointer[host.Host]
	uses := func(transport string) bool {
		h := self.Load()
		return cfg.relay || h != nil && slices.ContainsFunc((*h).Network().Conns(), func(c network.Conn) bool {
			return transportOf(c.RemoteMultiaddr()) == transport
		})
	}
	opts := []libp2p.Option{
		libp2p.Identity(cfg.key),
		resolver,
		// Noise first: its first message is 34 bytes, that of TLS 1481 with the
		// post-quantum share, more than some paths carry; and TLS would show the
		// ALPN "libp2p" to whoever looks for it.
		libp2p.Security(noise.ID, noise.New),
		libp2p.Security(libp2ptls.ID, libp2ptls.New),
		libp2p.Muxer(yamux.ID, newMuxer(cfg.relay)),
		libp2p.UserAgent(cfg.userAgent),
		libp2p.NoListenAddrs,  // see listen
		libp2p.DisableRelay(), // the circuit transport is added below, recorded
		libp2p.DisableMetrics(),
		libp2p.ResourceManager(limits),
		libp2p.ConnectionManager(conns),
		libp2p.WithDialTimeout(dialTimeout),
		// A black hole is told apart by the evidence that the counters would
		// suppress; on relays they would refuse AutoNAT's dial-backs.
		libp2p.UDPBlackHoleSuccessCounter(nil),
		libp2p.IPv6BlackHoleSuccessCounter(nil),
		libp2p.SwarmOpts(swarm.WithDialRanker(traversal.Ranker), swarm.WithDialTimeoutLocal(dialTimeout)),
		tracedTransports(cfg, uses),
		libp2p.WithFxOption(fx.Invoke(func(h host.Host, u transport.Upgrader) error {
			return addCircuits(h, u, cfg.rec)
		})),
	}
	if cfg.addrs != nil {
		opts = append(opts, libp2p.AddrsFactory(cfg.addrs))
	}
	if cfg.traverse {
		opts = append(opts, libp2p.EnableAutoNATv2(),
			libp2p.EnableHolePunching(holepunch.WithTracer(punchTracer{cfg.rec}), holepunch.DirectDialTimeout(punchDialTimeout)))
		if !cfg.relay {
			opts = append(opts, libp2p.NATManager(newPortMapping(cfg.rec))) // a home router that lends ports makes a donor reachable from anywhere
		}
	}
	h, err := libp2p.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("assemble libp2p host: %w", err)
	}
	self.Store(&h)
	return h, nil
}

// measureRTTEvery is how often yamux measures the round trip, from which it only
// derives how fast windows grow. At its default of 30 s both ends' measuring took
// a sixth of an idle donor's bytes; the first one, at once, is what matters.
const measureRTTEvery = 10 * time.Minute

func newMuxer(forRelay bool) network.Multiplexer {
	muxer := *yamux.DefaultTransport
	muxer.MeasureRTTInterval = measureRTTEvery
	if forRelay {
		return thriftyMuxer{&muxer}
	}
	return &muxer
}

// newMultiaddrResolver has the swarm ask the same resolver as everybody else.
func newMultiaddrResolver(names madns.BasicResolver) (libp2p.Option, error) {
	if names == nil {
		return libp2p.ChainOptions(), nil
	}
	r, err := madns.NewResolver(madns.WithDefaultResolver(names))
	if err != nil {
		return nil, fmt.Errorf("make a resolver of multiaddrs: %w", err)
	}
	return libp2p.MultiaddrResolver(swarm.ResolverFromMaDNS{Resolver: r}), nil
}

// testsOther is why AutoNAT dials: on behalf of a peer that asked whether it is
// reachable. It does so from a second host, with an identity of its own.
const testsOther = "AutoNAT: a peer asked whether it can be reached there"

// tracedTransports are the transports, each inside a tracedTransport. The
// parameters of the constructors are filled in by libp2p, once for the host and
// once for AutoNAT's.
func tracedTransports(cfg hostConfig, uses func(transport string) bool) libp2p.Option {
	through, in := new(nat64), newArrivals(cfg.rec, handshakesPerAddress(cfg.relay))
	traced := func(t transport.Transport, key crypto.PrivKey, err error) (*tracedTransport, error) {
		if key.Equals(cfg.key) {
			return &tracedTransport{Transport: t, rec: cfg.rec, nat64: through}, err
		}
		return &tracedTransport{Transport: t, rec: cfg.rec, nat64: through, why: testsOther, uses: uses}, err
	}
	all := map[string]libp2p.Option{
		"tcp": libp2p.Transport(func(key crypto.PrivKey, u transport.Upgrader, rm network.ResourceManager, shared *tcpreuse.ConnMgr) (*tracedTransport, error) {
			t, err := newTCPTransport(in.watch(u, "tcp"), rm, shared, cfg.ways)
			return traced(t, key, err)
		}),
		"quic": libp2p.Transport(func(key crypto.PrivKey, cm *quicreuse.ConnManager, psk pnet.PSK, gater connmgr.ConnectionGater, rm network.ResourceManager) (*tracedTransport, error) {
			t, err := quic.NewTransport(key, cm, psk, gater, rm)
			return traced(t, key, err)
		}),
		"webtransport": libp2p.Transport(func(key crypto.PrivKey, cm *quicreuse.ConnManager, psk pnet.PSK, gater connmgr.ConnectionGater, rm network.ResourceManager) (*tracedTransport, error) {
			t, err := webtransport.New(key, psk, cm, gater, rm)
			return traced(t, key, err)
		}),
		"web": libp2p.Transport(func(key crypto.PrivKey, u transport.Upgrader, rm network.ResourceManager, shared *tcpreuse.ConnMgr) (*tracedTransport, error) {
			t, err := newWebTransport(cfg, in.watch(u, ""), rm, shared)
			return traced(t, key, err)
		}),
	}
	var opts []libp2p.Option
	for _, name := range orAll(cfg.transports) {
		opts = append(opts, all[name])
	}
	return libp2p.ChainOptions(opts...)
}

// Transports are the words of Config.Transports, all of which a node speaks
// unless it is told otherwise. web is WebSocket, and ordinary HTTPS requests.
var Transports = []string{"quic", "tcp", "web", "webtransport"}

func orAll(transports []string) []string {
	if len(transports) == 0 {
		return Transports
	}
	return transports
}

// checkTransports tells which words of a configuration are none of Transports.
func checkTransports(words []string) error {
	for _, w := range words {
		if !slices.Contains(Transports, w) {
			return fmt.Errorf("transport %q: is none of %s", w, strings.Join(Transports, ", "))
		}
	}
	return nil
}

// transportWord is the word of Config.Transports for an address; empty for one
// that no transport of ours speaks.
func transportWord(a ma.Multiaddr) string {
	switch t := transportOf(a); t {
	case "quic-v1":
		return "quic"
	case "ws", "wss", "http", "https":
		return "web"
	case "tcp", "webtransport":
		return t
	}
	return ""
}

// addCircuits adds the relay client, as the library's AddTransport does, but
// recorded.
func addCircuits(h host.Host, u transport.Upgrader, rec *recorder) error {
	n, ok := h.Network().(transport.TransportNetwork)
	if !ok {
		return fmt.Errorf("add circuit transport: %T takes no transports", h.Network())
	}
	c, err := client.New(h, u)
	if err != nil {
		return fmt.Errorf("add circuit transport: %w", err)
	}
	if err := n.AddTransport(&tracedTransport{Transport: c, rec: rec}); err != nil {
		return fmt.Errorf("add circuit transport: %w", err)
	}
	if err := n.Listen(ma.StringCast("/p2p-circuit")); err != nil {
		return fmt.Errorf("listen for circuits: %w", err)
	}
	c.Start()
	return nil
}
