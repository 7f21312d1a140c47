package traversal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/worldcompute/wce2e/node/netcheck"
	"github.com/worldcompute/wce2e/node/wire"
)

// Outer is what was seen of the TLS around libp2p's own handshake.
type Outer struct {
	Verified bool   // the chain leads to an authority that this machine trusts
	Leaf     []byte // SHA-256 of the certificate
	Issuer   string // who has signed it, as it says
}

// errInspected is a TLS interceptor on the path that ends the connection.
var errInspected = errors.New("a TLS interceptor sits on the path")

// look is one look at a new connection: what the relay says of itself, over a
// path that carries full-size packets or does not.
type look struct {
	keeper *Keeper
	conn   network.Conn
	began  time.Time
	cancel context.CancelFunc
	done   chan struct{} // closed when the fields below are set
	said   statement
	err    error
}

// lookAt asks the relay at the far end, beside whatever else is asked of it.
func (k *Keeper) lookAt(ctx context.Context, conn network.Conn) *look {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	l := &look{keeper: k, conn: conn, began: time.Now(), cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		l.said, l.err = askStatement(ctx, conn)
	}()
	return l
}

func (l *look) end() {
	l.cancel()
	<-l.done
}

// inspected tells whether a TLS interceptor sits on the path, nil when that is
// not known, and an error when the connection is not to be used for it. Who the
// relay is, libp2p's handshake inside has proven in any case: an interceptor
// sees when and how much we talk, and can cut it off.
func (l *look) inspected() (*bool, error) {
	if l.keeper.Outer == nil {
		return nil, nil
	}
	outer, ok := l.keeper.Outer(l.conn)
	if !ok {
		return nil, nil
	}
	<-l.done
	yes := l.err == nil && !slices.ContainsFunc(l.said.Certificates, func(hash []byte) bool { return bytes.Equal(hash, outer.Leaf) })
	switch {
	case l.err == nil && !yes:
		return &yes, nil
	case l.err != nil && outer.Verified:
		return nil, nil // a relay that does not say, with a certificate that is in order
	}
	return &yes, l.judge(outer)
}

// judge records an interceptor, or a certificate that nobody vouches for, and
// tells whether that ends the connection.
func (l *look) judge(outer Outer) error {
	e := wire.Event{Kind: wire.RelayInspected, Relay: l.conn.RemotePeer().String(), Conn: l.keeper.connID(l.conn), Outcome: wire.OK,
		Detail: fmt.Sprintf("its certificate is not the relay's, and was issued by %q", outer.Issuer)}
	var err error
	switch {
	case l.err != nil:
		err = fmt.Errorf("certificate issued by %q: no authority that this machine trusts, and the relay does not vouch for it: %w", outer.Issuer, l.err)
	case !outer.Verified:
		err = fmt.Errorf("%w, issued by %q, whom this machine does not trust", errInspected, outer.Issuer)
	case l.keeper.RefuseInspected:
		err = fmt.Errorf("%w, issued by %q, and inspection is refused", errInspected, outer.Issuer)
	}
	if err != nil {
		e.Outcome, e.Err, e.Failure = wire.Failed, err.Error(), string(netcheck.TLSAuthority)
	}
	l.keeper.record(e)
	return err
}

// fits ends with an error when full-size packets vanish on the path while small
// ones pass: whoever filters ICMP has broken path MTU discovery (RFC 2923).
func (h *holding) fits(ctx context.Context, l *look) error {
	select {
	case <-l.done:
	case <-ctx.Done():
		return nil
	}
	if !isTimeout(l.err) || ctx.Err() != nil || !h.answeredSince(ctx, l.began) {
		return nil
	}
	return h.keeper.tooNarrow(h.conn)
}

// answeredSince waits for a ping that is answered after then.
func (h *holding) answeredSince(ctx context.Context, then time.Time) bool {
	k := h.keeper
	for end := time.Now().Add(pingEvery + pingTimeout); ctx.Err() == nil && time.Now().Before(end); {
		change := k.change()
		k.mu.Lock()
		answered := h.heard.After(then)
		k.mu.Unlock()
		if answered {
			return true
		}
		await(ctx, change, time.Second)
	}
	return false
}

// tooNarrow has later connections use small packets, and is an error unless this
// one did already.
func (k *Keeper) tooNarrow(conn network.Conn) error {
	if !k.beNarrow() {
		return nil
	}
	k.record(wire.Event{Kind: wire.PathNarrow, Relay: conn.RemotePeer().String(), Conn: k.connID(conn),
		Detail: fmt.Sprintf("%d bytes at once were not answered within %s, although pings were", statementPad, statementTimeout)})
	return errNarrow
}

// beNarrow has later connections use small packets, and tells whether that is
// news.
func (k *Keeper) beNarrow() bool {
	k.mu.Lock()
	was := k.narrow
	k.narrow = true
	k.mu.Unlock()
	if was || k.Narrow == nil {
		return false
	}
	k.Narrow()
	return true
}

// suspectNarrow has the next dials use small packets when this one stalled in a
// handshake: the far side's certificate may be what did not come through. Small
// packets pass everywhere, so a wrong suspicion costs nothing but some speed.
func (c *candidate) suspectNarrow(err error) {
	if c.keeper.lackingFor() > 0 && netcheck.Stalled(err) {
		c.keeper.beNarrow()
	}
}
