package node

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	libp2prate "github.com/libp2p/go-libp2p/x/rate"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/worldcompute/wce2e/node/netcheck"
	"github.com/worldcompute/wce2e/node/wire"
)

// A public relay is scanned all day, and what strangers send is no news: at this
// rate it takes them two days to fill maxEvents. A donor whose dials all die makes a
// few dozen of them in its first minute.
const (
	arrivalRate, arrivalBurst           = 1, 512 // events a second in all, after the burst
	arrivalRatePerIP, arrivalBurstPerIP = 0.5, 128
)

// arrivals tells what came of connections that came in by TCP and ended before
// libp2p's security handshake on them had succeeded: what arrived of it, and who
// ended it. From the other end a reset by the network looks like one of ours.
//
//	TCP --> watchedListener --> resource manager --> admitted --> the library's upgrader
//	            arrival                              bookedScope
//
// A web server's visitors are left out, as is what arrives by QUIC. It also keeps
// one address from taking all places for handshakes with connections that say nothing.
type arrivals struct {
	rec   *recorder
	rates *libp2prate.Limiter
	most  int // that one address may have unsettled

	mu        sync.Mutex           // guards the field below
	unsettled map[netip.Prefix]int // by address; IPv6: by /56
}

func newArrivals(rec *recorder, most int) *arrivals {
	rates := connRates(libp2prate.Limit{RPS: arrivalRatePerIP, Burst: arrivalBurstPerIP})
	rates.GlobalLimit = libp2prate.Limit{RPS: arrivalRate, Burst: arrivalBurst}
	return &arrivals{rec: rec, rates: rates, most: most, unsettled: map[netip.Prefix]int{}}
}

// enter counts an arrival, and says whether its address may have one more.
func (w *arrivals) enter(a *arrival) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unsettled[a.from]++
	return w.unsettled[a.from] <= w.most
}

// leave is the end of every enter.
func (w *arrivals) leave(a *arrival) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.unsettled[a.from]--; w.unsettled[a.from] == 0 {
		delete(w.unsettled, a.from)
	}
}

// addressOf is whose connection it is, as connRates counts.
func addressOf(c manet.Conn) netip.Prefix {
	at, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Prefix{}
	}
	from, bits := at.Addr().Unmap(), 32
	if from.Is6() {
		bits = 56
	}
	of, _ := from.Prefix(bits) // it has as many
	return of
}

// watch is an upgrader that has the TCP ports watched which a transport gives it.
// What they speak is not known before it is spoken on a web server's: empty.
func (w *arrivals) watch(u transport.Upgrader, speaks string) transport.Upgrader {
	return watchedUpgrader{u, w, speaks}
}

type watchedUpgrader struct {
	transport.Upgrader
	arrivals *arrivals
	speaks   string
}

func (u watchedUpgrader) GateMaListener(l manet.Listener) transport.GatedMaListener {
	return admitted{u.Upgrader.GateMaListener(watchedListener{l, u.arrivals, u.speaks})}
}

// watchedListener is a port before the resource manager looks at what comes.
type watchedListener struct {
	manet.Listener
	arrivals *arrivals
	speaks   string
}

func (l watchedListener) Accept() (manet.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		tcp, ok := c.(tcpConn)
		if !ok {
			return c, nil // what comes inside of a connection that is watched already
		}
		a := &arrival{tcpConn: tcp, at: l, from: addressOf(c), since: time.Now()}
		if l.arrivals.enter(a) {
			return a, nil
		}
		_ = a.Close() // which tells of it
	}
}

// admitted is the same port behind the resource manager.
type admitted struct{ transport.GatedMaListener }

func (l admitted) Accept() (manet.Conn, network.ConnManagementScope, error) {
	c, scope, err := l.GatedMaListener.Accept()
	if a, ok := c.(*arrival); ok && err == nil {
		a.admitted.Store(true)
		scope = bookedScope{scope, a}
	}
	return c, scope, err
}

// bookedScope is an arrival in the resource manager's books, where it gets a peer
// once the handshake has succeeded. One that is taken out of the books while its
// connection stands has turned out to be a web server's visitor.
type bookedScope struct {
	network.ConnManagementScope
	arrival *arrival
}

func (s bookedScope) SetPeer(p peer.ID) error {
	err := s.ConnManagementScope.SetPeer(p)
	if err == nil {
		s.arrival.settle()
	} else {
		s.arrival.came(err)
	}
	return err
}

func (s bookedScope) Done() {
	s.arrival.settle()
	s.ConnManagementScope.Done()
}

// tcpConn is what the library's TCP transport wants of a connection.
type tcpConn interface {
	manet.Conn
	SetLinger(seconds int) error
	SetKeepAlive(bool) error
	SetKeepAlivePeriod(time.Duration) error
}

// arrival is a connection that came in. Until it is settled, it counts.
type arrival struct {
	tcpConn
	at       watchedListener
	from     netip.Prefix
	since    time.Time
	admitted atomic.Bool // the resource manager let it in
	settled  atomic.Bool // it is a peer's, or a visitor's, or was told of

	received, sent atomic.Int64
	reading        atomic.Int32 // calls of Read under way

	mu   sync.Mutex // guards the field below
	last error      // what the last operation on it came to
}

func (a *arrival) Read(b []byte) (int, error) {
	if a.settled.Load() {
		return a.tcpConn.Read(b)
	}
	a.reading.Add(1)
	n, err := a.tcpConn.Read(b)
	a.received.Add(int64(n))
	a.came(err)
	a.reading.Add(-1)
	return n, err
}

func (a *arrival) Write(b []byte) (int, error) {
	if a.settled.Load() {
		return a.tcpConn.Write(b)
	}
	n, err := a.tcpConn.Write(b)
	a.sent.Add(int64(n))
	if err != nil {
		a.came(err)
	}
	return n, err
}

func (a *arrival) came(to error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = to
}

func (a *arrival) Close() error {
	if a.settle() {
		a.tell(a.why())
	}
	return a.tcpConn.Close()
}

// settle says whether it was not settled yet.
func (a *arrival) settle() bool {
	if a.settled.Swap(true) {
		return false
	}
	a.at.arrivals.leave(a)
	return true
}

// Why an arrival ends that nobody else has ended, in words that Classify knows.
var (
	errNoRoom = fmt.Errorf("refused unread: %w", network.ErrResourceLimitExceeded)
	errInVain = fmt.Errorf("waited in vain for more: %w", os.ErrDeadlineExceeded)
)

// errNoHandshake is our own hanging up, which Classify knows as a cancelled context.
type errNoHandshake struct{}

func (errNoHandshake) Error() string        { return "what came is no handshake of ours" }
func (errNoHandshake) Is(target error) bool { return target == context.Canceled }

// why is asked before the connection is closed: a Read under way still waits for
// the other end.
func (a *arrival) why() error {
	waiting := a.reading.Load() > 0
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case !a.admitted.Load():
		return errNoRoom
	case a.last != nil:
		return a.last
	case waiting:
		return errInVain
	}
	return errNoHandshake{}
}

func (a *arrival) tell(why error) {
	from, err := netip.ParseAddrPort(a.RemoteAddr().String())
	if err == nil && !a.at.arrivals.rates.Allow(from.Addr().Unmap()) {
		return
	}
	a.at.arrivals.rec.Record(wire.Event{
		Kind: wire.ArrivalFailed, Local: a.LocalMultiaddr().String(), Remote: a.RemoteMultiaddr().String(), Transport: a.at.speaks,
		Received: uint64(a.received.Load()), Sent: uint64(a.sent.Load()), MS: millis(time.Since(a.since)),
		Failure: string(netcheck.Classify(why)), Err: why.Error(),
	})
}
