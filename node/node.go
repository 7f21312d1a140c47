// Package node is the daemon of the mesh: a donor that gets out of its network,
// holds a reservation on a relay and runs jobs for others, or, with Relay, the
// relay itself. It tells all it does as events (node/wire), one line each in
// events.jsonl and in the log.
//
//	            +----------------------- node ------------------------+
//	relay <---- | Keeper (node/traversal) -> circuit addresses        |
//	peers <---> | host: TCP, QUIC, WebSocket, circuits, each recorded |
//	            | jobs -> sandbox          relay service (with Relay) |
//	            +------------------ node.sock ------------------------+
//	                                    ^ status, dispatch
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/worldcompute/wce2e/node/sandbox"
	"github.com/worldcompute/wce2e/node/traversal"
	"github.com/worldcompute/wce2e/node/traversal/discovery"
	"github.com/worldcompute/wce2e/node/wire"
)

// Config of a node. Dir is required, the rest works as its zero value.
type Config struct {
	Dir         string   // identity, events, socket; made, 0700, when missing
	Bootstrap   []string // multiaddrs to join by, and Builtin; empty means Builtin, on a relay traversal.WorldCompute
	NoBootstrap bool     // join nobody
	Relay       bool     // be a relay for others, and need none
	Listen      []string // multiaddrs; empty means port 4001 (donor: any, when it is taken) on TCP and QUIC, and for a relay WebSocket over TLS on 443 too
	Announce    []string // IP addresses that the machine is reached at, where they are not on an interface
	Transports  []string // of Transports, the only ones to dial and to listen on; empty means all
	Name        string   // shown in status; empty means the hostname
	Allow       []string // peer IDs that may submit jobs, or "any"; empty means nobody
	Private     string   // name of a private mesh, apart from the public one; empty means the public one
	// RefuseInspected leaves relays to which the way leads through a TLS interceptor
	// that this machine trusts.
	RefuseInspected bool
	Version         string       // of the software, as told to peers
	Log             *slog.Logger // nil means discard

	Metrics        string // host:port to tell Prometheus at; empty means nowhere
	NoRelay        bool   // a donor: do not relay for others, not even when it is publicly reachable
	MaxCircuitRate int64  // bytes a second that each relayed circuit may carry, both ways together; 0 means any
	ACME           ACME   // a relay's certificate; the zero value is self-signed
	HTTP           bool   // a relay: listen for plain WebSocket on 80 as well

	offer hysteresis // zero but in tests
}

// Check tells everything that is wrong with a configuration as it stands, and
// nil when nothing is. It touches neither disk nor network.
func (c Config) Check() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("node directory: no path given"))
	}
	_, err := parseAddrs("listen address", c.Listen)
	errs = append(errs, err)
	_, err = newAnnouncer(c)
	errs = append(errs, err, c.ACME.check(), c.checkRelay(), checkMetrics(c.Metrics))
	errs = append(errs, checkTransports(c.Transports), discovery.CheckMesh(c.Private))
	_, err = newPolicy(c.Allow)
	return errors.Join(append(errs, err, traversal.CheckBootstrap(c.bootstrap()))...)
}

// Builtin stands for traversal.BuiltinBootstrap in Config.Bootstrap, so that one
// can add to that list.
const Builtin = "builtin"

func expandBuiltin(list []string) []string {
	var all []string
	for _, addr := range list {
		if addr == Builtin {
			all = append(all, traversal.BuiltinBootstrap...)
		} else {
			all = append(all, addr)
		}
	}
	return all
}

// bootstrap is the list to join by.
func (c Config) bootstrap() []string {
	switch {
	case c.NoBootstrap:
		return nil
	case len(c.Bootstrap) > 0:
		return expandBuiltin(c.Bootstrap)
	case c.Relay && c.Private == "": // others come to it; it has to be found by them
		return traversal.WorldCompute
	case c.Relay:
		return nil
	}
	return traversal.BuiltinBootstrap
}

// stopTimeout bounds an orderly end; a supervisor sends SIGKILL after 5 s. Its
// parts run one after another, each with a share.
const (
	stopTimeout   = 4500 * time.Millisecond
	stopAPI       = 500 * time.Millisecond
	stopTraversal = time.Second
	stopJobs      = time.Second
	stopAnswers   = 500 * time.Millisecond
	stopServices  = time.Second
)

// errStopped is why things end that had no other reason.
var errStopped = errors.New("the node stops")

// Run runs a node until ctx ends, and then ends it in order within 5 s. It
// returns nil when that was all, and an error when the node could not start
// (see ErrLocked, ListenError) or could not go on.
func Run(ctx context.Context, cfg Config) error {
	n, err := start(cfg)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return n.stop("signal")
	case err := <-n.failed:
		return errors.Join(err, n.stop(err.Error()))
	}
}

// node is a running node.
type node struct {
	cfg     Config
	log     *slog.Logger
	started time.Time
	failed  chan error // why the node cannot go on

	lock   *os.File
	events io.Closer
	rec    *recorder

	ctx    context.Context // ends when the node stops
	cancel context.CancelCauseFunc

	around    *surroundings
	host      host.Host
	announcer *announcer
	conns     *connLog
	addrs     *addrLog
	self      *selfImage
	keeper    *traversal.Keeper
	discovery *discovery.Discovery
	keeping   sync.WaitGroup
	certs     certificates
	relay     *relayService
	metrics   *metricsServer // nil: none wanted
	runner    *sandbox.Runner
	jobs      *jobServer
	submitter *submitter
	circuits  circuits // limited ones, through relays of others
	api       *apiServer
}

// start brings a node up. When a part of it fails, those that stand already
// are ended again.
func start(cfg Config) (*node, error) {
	if err := cfg.Check(); err != nil {
		return nil, fmt.Errorf("start node: %w", err)
	}
	n := newNode(cfg)
	for _, step := range n.steps() {
		if err := step(); err != nil {
			err = fmt.Errorf("start node: %w", err)
			return nil, errors.Join(err, n.stop(err.Error()))
		}
	}
	return n, nil
}

// newNode is a node of which nothing is up.
func newNode(cfg Config) *node {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Name == "" {
		cfg.Name, _ = os.Hostname() // only shown
	}
	n := &node{cfg: cfg, log: cfg.Log, started: time.Now().UTC(), failed: make(chan error, 1)}
	n.ctx, n.cancel = context.WithCancelCause(context.Background())
	return n
}

// steps are the parts of a node, in the order in which they come up. It offers
// what it serves before it listens: donors that come back at once would be told
// that a relay is none.
func (n *node) steps() []func() error {
	return []func() error{n.openDir, n.makeHost, n.serveRelay, n.serveJobs, n.makeKeeper, n.discover, n.listen, n.join, n.offerRelay, n.serveMetrics, n.serveAPI}
}

// openDir takes possession of the node's directory.
func (n *node) openDir() (err error) {
	if err := makeDir(n.cfg.Dir); err != nil {
		return err
	}
	if n.lock, err = lockDir(n.cfg.Dir); err != nil {
		return err
	}
	f, err := openEvents(filepath.Join(n.cfg.Dir, eventsFile), maxEvents)
	if err != nil {
		return err
	}
	n.events, n.rec = f, newRecorder(f, n.log)
	return nil
}

// makeHost gives the node its identity and its libp2p host.
func (n *node) makeHost() error {
	key, err := loadIdentity(n.cfg.Dir)
	if err != nil {
		return err
	}
	if n.announcer, err = newAnnouncer(n.cfg); err != nil {
		return err
	}
	if n.certs, err = newCertificates(n.cfg.Dir, n.cfg.ACME, n.log); err != nil {
		return err
	}
	n.around = newSurroundings(n.cfg.Dir, n.rec, n.log)
	n.host, err = newHost(hostConfig{
		key: key, rec: n.rec, relay: n.cfg.Relay, addrs: n.announcer.addrs, traverse: true, names: n.around.names, ways: n.around.ways, transports: n.cfg.Transports,
		userAgent: "wce2e/" + n.cfg.Version, certs: n.certs, page: n.page(),
	})
	if err != nil {
		return err
	}
	n.rec.Record(wire.Event{Kind: wire.NodeStarted, Peer: n.host.ID().String(), Detail: n.cfg.Version})
	return nil
}

// listen opens the node to its network, watched from the first moment on.
func (n *node) listen() error {
	n.self, n.conns = newSelfImage(n.rec), newConnLog(n.rec)
	var err error
	if n.addrs, err = newAddrLog(n.host, n.rec, n.announcer, n.keeper.CircuitAddrs); err != nil {
		return err
	}
	n.host.Network().Notify(n.conns)
	n.host.Network().Notify(&network.NotifyBundle{DisconnectedF: n.self.forget})
	if err := n.self.watch(n.ctx, n.host, n.addrs.update); err != nil {
		return err
	}
	addrs, err := listenAddrs(n.cfg, n.log)
	if err != nil {
		return err
	}
	if err := listen(n.host.Network(), addrs); err != nil {
		return err
	}
	n.addrs.update()
	obtainCertificate(n.ctx, n.certs)
	return nil
}

func (n *node) serveJobs() error {
	who, err := newPolicy(n.cfg.Allow)
	if err != nil {
		return err
	}
	// Jobs end with the runner, which preempts them; ending them with n.ctx
	// would make failures of them.
	ctx := context.WithoutCancel(n.ctx)
	if n.runner, err = sandbox.New(ctx, sandbox.Limits{Log: n.log}); err != nil {
		return err
	}
	n.jobs = &jobServer{
		ctx: ctx, policy: who, runner: n.runner, rec: n.rec, log: n.log, circuits: &n.circuits,
		keep: n.host.ConnManager(), receiving: make(chan struct{}, max(2*runtime.NumCPU(), minReceiving)),
		large: make(chan struct{}, maxLarge), drains: make(chan struct{}, maxDrains),
	}
	n.submitter = &submitter{router: &router{host: n.host, circuits: &n.circuits}, rec: n.rec}
	for _, v := range wire.Versions {
		n.host.SetStreamHandler(protocol.ID(v.Protocol()), n.jobs.handler(v))
	}
	return nil
}

func (n *node) serveAPI() (err error) {
	n.api, err = startAPI(filepath.Join(n.cfg.Dir, socketFile), n)
	return err
}
