package node

import (
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/wire"
)

// connLog records every connection of the host: one conn.opened, and one
// conn.closed when it ends. It is a network.Notifiee.
type connLog struct {
	rec *recorder

	mu   sync.Mutex // guards the field below
	open map[string]openConn
}

type openConn struct {
	event wire.Event // conn.opened
	since time.Time
}

func newConnLog(rec *recorder) *connLog { return &connLog{rec: rec, open: map[string]openConn{}} }

func (l *connLog) Connected(_ network.Network, c network.Conn) {
	ev := connEvent(c)
	ev.Kind = wire.ConnOpened
	l.mu.Lock()
	l.open[ev.Conn] = openConn{ev, c.Stat().Opened}
	l.mu.Unlock()
	l.rec.Record(ev)
}

func (l *connLog) Disconnected(_ network.Network, c network.Conn) { l.closed(connID(c), "") }

func (l *connLog) Listen(network.Network, ma.Multiaddr)      {}
func (l *connLog) ListenClose(network.Network, ma.Multiaddr) {}

func (l *connLog) closed(id, why string) {
	l.mu.Lock()
	c, ok := l.open[id]
	delete(l.open, id)
	l.mu.Unlock()
	if !ok {
		return
	}
	ev := c.event
	ev.Kind, ev.MS, ev.Err = wire.ConnClosed, millis(time.Since(c.since)), why
	l.rec.Record(ev)
}

// closeRest records the end of connections that the library did not report.
func (l *connLog) closeRest(why string) {
	l.mu.Lock()
	ids := make([]string, 0, len(l.open))
	for id := range l.open {
		ids = append(ids, id)
	}
	l.mu.Unlock()
	for _, id := range ids {
		l.closed(id, why)
	}
}

// connEvent describes a connection.
func connEvent(c network.Conn) wire.Event {
	state := c.ConnState()
	outer, _ := outerOf(c)
	return wire.Event{
		Conn:      connID(c),
		Peer:      c.RemotePeer().String(),
		Direction: direction(c),
		Local:     c.LocalMultiaddr().String(),
		Remote:    c.RemoteMultiaddr().String(),
		Relay:     relayOf(c.RemoteMultiaddr()),
		Transport: transportOf(c.RemoteMultiaddr()),
		Route:     outer.Route,
		Security:  string(state.Security),
		Muxer:     string(state.StreamMultiplexer),
	}
}

func direction(c network.Conn) string {
	if c.Stat().Direction == network.DirInbound {
		return "inbound"
	}
	return "outbound"
}
