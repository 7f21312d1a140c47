package node

import (
	"net"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
)

const (
	// initialWindow, in bytes, is what yamux books for a stream as soon as it is
	// open. Nothing is allocated until data lies there unread.
	initialWindow = 256 << 10
	// freeWindows is how many streams of a connection are open before their initial
	// windows count: a donor keeps three at its relay, which are idle (a ping, and
	// gossip each way). With all of them counted, a relay held an eighth of the
	// donors that its memory carries. QUIC's connections start with as much, for
	// which the library books nothing.
	freeWindows = 3
)

// thriftyMuxer is a muxer that does not count the initial windows of a connection's
// first few streams. Whatever windows grow by, it counts.
type thriftyMuxer struct{ network.Multiplexer }

func (m thriftyMuxer) NewConn(c net.Conn, isServer bool, scope network.PeerScope) (network.MuxedConn, error) {
	if scope != nil {
		scope = &windows{PeerScope: scope}
	}
	return m.Multiplexer.NewConn(c, isServer, scope)
}

// windows are those of one connection, in the books of its peer.
type windows struct {
	network.PeerScope

	mu   sync.Mutex // guards the field below, and that what is booked follows it
	open int
}

// BeginSpan is what the muxer asks for each stream.
func (w *windows) BeginSpan() (network.ResourceScopeSpan, error) {
	span, err := w.PeerScope.BeginSpan()
	if err != nil {
		return nil, err
	}
	return &window{ResourceScopeSpan: span, of: w}, nil
}

func (w *windows) opened() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open >= freeWindows {
		if err := w.PeerScope.ReserveMemory(initialWindow, network.ReservationPriorityAlways); err != nil {
			return err
		}
	}
	w.open++
	return nil
}

func (w *windows) closed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open--
	if w.open >= freeWindows {
		w.PeerScope.ReleaseMemory(initialWindow)
	}
}

// window is that of one stream.
type window struct {
	network.ResourceScopeSpan
	of *windows

	mu   sync.Mutex // guards the field below
	open bool
}

// ReserveMemory is called once with the highest priority, for the initial window,
// and with a lower one whenever the window would grow.
func (s *window) ReserveMemory(size int, prio uint8) error {
	if prio != network.ReservationPriorityAlways || size != initialWindow {
		return s.ResourceScopeSpan.ReserveMemory(size, prio)
	}
	if err := s.of.opened(); err != nil {
		s.ResourceScopeSpan.Done() // yamux gives this stream up without it
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = true
	return nil
}

// Done may be called twice.
func (s *window) Done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open {
		s.open = false
		s.of.closed()
	}
	s.ResourceScopeSpan.Done()
}
