package traversal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/worldcompute/wce2e/node/netcheck"
	"github.com/worldcompute/wce2e/node/wire"
)

// Outer is what was seen around libp2p's own handshake: a proxy, web traffic.
type Outer struct {
	Route    string // by which proxy, as in wire.Event
	TLS      bool   // there was any
	Verified bool   // the chain leads to an authority that this machine trusts
	Leaf     []byte // SHA-256 of the certificate
	Issuer   string // who has signed it, as it says
}

// routeOf is by which proxy a connection goes; empty when by none.
func (k *Keeper) routeOf(conn interface{ As(any) bool }) string {
	if k.Outer == nil {
		return ""
	}
	outer, _ := k.Outer(conn)
	return outer.Route
}

// errInspected is a TLS interceptor on the path that ends the connection.
var errInspected = errors.New("a TLS interceptor sits on the path")

// look is one look at a new connection: what the relay says of its certificates.
type look struct {
	keeper *Keeper
	conn   network.Conn
	outer  Outer
	cancel context.CancelFunc
	done   chan struct{} // closed when the fields below are set; nil: there is nothing to look at
	said   statement
	err    error
}

// lookAt asks the relay at the far end, beside whatever else is asked of it. Only
// web traffic is looked at: nothing else is known to be intercepted.
func (k *Keeper) lookAt(ctx context.Context, conn network.Conn) *look {
	l := &look{keeper: k, conn: conn, cancel: func() {}}
	if k.Outer == nil {
		return l
	}
	var web bool
	if l.outer, web = k.Outer(conn); !web || !l.outer.TLS {
		return l
	}
	ctx, l.cancel = context.WithCancel(ctx)
	l.done = make(chan struct{})
	go func() {
		defer close(l.done)
		if l.said, l.err = askStatement(ctx, conn, 0, statementTimeout); isTimeout(l.err) {
			l.said, l.err = askStatement(ctx, conn, 0, 2*statementTimeout) // a slow path, or a lossy one
		}
	}()
	return l
}

func (l *look) end() {
	l.cancel()
	if l.done != nil {
		<-l.done
	}
}

// inspected tells whether a TLS interceptor sits on the path, nil when that is
// not known, and an error when the connection is not to be used for it. Who the
// relay is, libp2p's handshake inside has proven in any case: an interceptor
// sees when and how much we talk, and can cut it off.
func (l *look) inspected() (*bool, error) {
	if l.done == nil {
		return nil, nil
	}
	<-l.done
	yes := l.err == nil && !slices.ContainsFunc(l.said.Certificates, func(hash []byte) bool { return bytes.Equal(hash, l.outer.Leaf) })
	switch {
	case l.err == nil && !yes:
		return &yes, nil
	case l.err != nil && l.outer.Verified:
		return nil, nil // a relay that does not say, with a certificate that is in order
	case isTimeout(l.err):
		return nil, fmt.Errorf("whether the certificate is the relay's could not be asked: %w", l.err)
	}
	return &yes, l.judge(l.outer)
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
