package traversal

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/netcheck"
	"github.com/worldcompute/wce2e/node/wire"
)

// Where whoever is in charge filters ICMP, path MTU discovery is broken (RFC
// 2923): packets that are too large for some link vanish, and TCP sends them
// again and again while all that follows waits. There are three signs of it on
// the way to a reservation, by when the first large message is due. QUIC
// measures the path by itself.

// suspectNarrow is the first sign: a connection was made, and its handshake was
// not answered; the far side's certificate may be what did not come through. It
// is none where another connection over TCP stands: then somebody looks into
// ours.
func (c *candidate) suspectNarrow(err error) {
	k := c.keeper
	if k.lackingFor() == 0 || !netcheck.Stalled(err) {
		return
	}
	for _, conn := range k.Host.Network().Conns() {
		if has(conn.RemoteMultiaddr(), ma.P_TCP) {
			return
		}
	}
	k.tooNarrow(c.id, "", time.Now(), "a connection was made, and then its handshake was not answered")
}

// mutePatience bounds a request to a peer that has not even said what it speaks.
const mutePatience = 3 * time.Second

// reserve asks for a reservation. The second sign is a peer on a new connection
// that never says a word after its handshake: what it speaks fills a packet.
func (c *candidate) reserve(ctx context.Context, conn network.Conn) (reservation, error) {
	if c.keeper.hopOf(c.id) != hopUnknown {
		return reserve(ctx, conn)
	}
	mute, cancel := context.WithTimeout(ctx, mutePatience)
	defer cancel()
	r, err := reserve(mute, conn)
	if isTimeout(err) && ctx.Err() == nil && measured(conn) &&
		c.keeper.tooNarrow(c.id, c.keeper.connID(conn), conn.Stat().Opened, "no message of the peer arrived after its handshake") {
		_ = conn.Close()
	}
	return r, err
}

// fits is the third: it sends a full-size message both ways on a path on which
// small ones have brought a reservation, and ends with an error when neither
// that nor anything since is answered.
func (h *holding) fits(ctx context.Context) error {
	if !measured(h.conn) || !h.pingAnswered(ctx) {
		return nil
	}
	began := time.Now()
	_, err := askStatement(ctx, h.conn, fullSize, statementTimeout)
	if ctx.Err() != nil || !isTimeout(err) || h.heardSince(began) ||
		!h.keeper.tooNarrow(h.conn.RemotePeer(), h.id, h.conn.Stat().Opened, fmt.Sprintf("%d bytes at once were not answered within %s", fullSize, statementTimeout)) {
		return nil
	}
	return errNarrow
}

// pingAnswered waits for the first ping, which would look like an answer to what is
// sent meanwhile.
func (h *holding) pingAnswered(ctx context.Context) bool {
	k := h.keeper
	for end := time.Now().Add(pingTimeout); ctx.Err() == nil && time.Now().Before(end); {
		k.mu.Lock()
		change, answered := k.changed, !h.heard.IsZero()
		k.mu.Unlock()
		if answered {
			return true
		}
		await(ctx, change, time.Until(end))
	}
	return false
}

// measured tells whether a connection is of the kind that can be too narrow.
// Ordinary HTTP requests are cut and collected by others on the way.
func measured(conn network.Conn) bool {
	switch TransportName(conn.RemoteMultiaddr()) {
	case "tcp", "ws", "wss":
		return true
	}
	return false
}

// heardSince tells whether a ping that was sent after then has been answered.
func (h *holding) heardSince(then time.Time) bool {
	h.keeper.mu.Lock()
	defer h.keeper.mu.Unlock()
	return h.heard.After(then)
}

// tooNarrow has later connections use small packets, and tells whether one that was
// opened then still has large ones, which is the reason. conn may be empty: a dial
// did not get as far.
func (k *Keeper) tooNarrow(peer peer.ID, conn string, opened time.Time, why string) bool {
	k.mu.Lock()
	news := k.narrowLocked(true)
	large := opened.Before(k.narrowSince)
	k.mu.Unlock()
	if news {
		k.record(wire.Event{Kind: wire.PathNarrow, Relay: peer.String(), Conn: conn, Detail: why})
	}
	return large
}

// narrowLocked tells whoever dials whether to use small packets, and returns
// whether that was news to somebody. k.mu is held.
func (k *Keeper) narrowLocked(yes bool) bool {
	if k.narrow == yes || k.Narrow == nil {
		return false
	}
	k.narrow, k.narrowSince = yes, time.Now()
	k.Narrow(yes)
	return true
}
