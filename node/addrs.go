package node

import (
	"fmt"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/wire"
)

// addrLog records the addresses that the node listens on, as they come and go:
// those of interfaces, and those through relays.
type addrLog struct {
	host     host.Host
	rec      *recorder
	ann      *announcer
	circuits func() []ma.Multiaddr // full, but for /p2p/<self>
	hurry    event.Emitter         // makes the host ask the announcer again, at once

	changing sync.Mutex // held by relaysChanged, over all of it

	mu     sync.Mutex            // guards the fields below, and the order of events
	listed map[string]wire.Event // listen.addr by address
	closed bool
}

func newAddrLog(h host.Host, rec *recorder, ann *announcer, circuits func() []ma.Multiaddr) (*addrLog, error) {
	hurry, err := h.EventBus().Emitter(new(event.EvtAutoRelayAddrsUpdated))
	if err != nil {
		return nil, fmt.Errorf("announce relay addresses: %w", err)
	}
	return &addrLog{host: h, rec: rec, ann: ann, circuits: circuits, hurry: hurry, listed: map[string]wire.Event{}}, nil
}

// relaysChanged is called when a reservation was made or lost, by whoever saw
// it. One call is done before the next one asks: an older answer, announced
// last, would be an address that leads nowhere.
func (l *addrLog) relaysChanged() {
	l.changing.Lock()
	defer l.changing.Unlock()
	circuits := l.circuits()
	l.ann.setCircuits(circuits)
	// The library would ask again within 5 s. An error says that the host is
	// closed, and nobody needs to know then.
	_ = l.hurry.Emit(event.EvtAutoRelayAddrsUpdated{RelayAddrs: circuits})
	l.update()
}

// update records what has changed since the last call.
func (l *addrLog) update() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.diff(slices.Concat(l.withSelf(l.interfaces()), l.withSelf(l.circuits())))
}

// close records that the node listens no more.
func (l *addrLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	l.diff(nil)
	l.hurry.Close()
}

// diff wants mu held.
func (l *addrLog) diff(now []ma.Multiaddr) {
	current := map[string]bool{}
	for _, a := range now {
		current[a.String()] = true
	}
	for addr, ev := range l.listed {
		if !current[addr] {
			delete(l.listed, addr)
			ev.Kind = wire.ListenClosed
			l.rec.Record(ev)
		}
	}
	for _, a := range now {
		addr := a.String()
		if _, known := l.listed[addr]; known {
			continue
		}
		ev := wire.Event{Kind: wire.ListenAddr, Addr: addr, Relay: relayOf(a), Transport: transportOf(a)}
		l.listed[addr] = ev
		l.rec.Record(ev)
	}
}

// interfaces are the listen addresses, 0.0.0.0 and :: replaced by those of the
// interfaces.
func (l *addrLog) interfaces() []ma.Multiaddr {
	addrs, err := l.host.Network().InterfaceListenAddresses()
	if err != nil {
		l.rec.log.Warn("interface addresses cannot be told", "err", err)
		addrs = l.host.Network().ListenAddresses()
	}
	return ma.FilterAddrs(addrs, func(a ma.Multiaddr) bool { return !has(a, ma.P_CIRCUIT) })
}

func (l *addrLog) withSelf(addrs []ma.Multiaddr) []ma.Multiaddr {
	self := ma.StringCast("/p2p/" + l.host.ID().String())
	out := make([]ma.Multiaddr, len(addrs))
	for i, a := range addrs {
		out[i] = ma.Join(a, self)
	}
	return out
}
