package node

import (
	"context"
	"errors"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/transport/tcpreuse"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/node/traversal"
	"github.com/worldcompute/wce2e/node/traversal/proxy"
	"github.com/worldcompute/wce2e/node/traversal/web"
)

// webTransport is what leaves as web traffic. A way on which TLS came to nothing,
// although its connection stood, is not preferred again.
type webTransport struct {
	*web.Transport
	ways *proxy.Finder // nil: TCP is dialled directly
}

func newWebTransport(cfg hostConfig, u transport.Upgrader, rm network.ResourceManager, shared *tcpreuse.ConnMgr) (transport.Transport, error) {
	c := web.Config{Page: cfg.page, HandshakeTimeout: wsTimeout}
	if cfg.ways != nil {
		c.Dial = cfg.ways.Dial
	}
	if cfg.certs != nil {
		c.Certificate = cfg.certs.Get
	}
	t, err := web.New(c, u, rm, shared)
	return &webTransport{Transport: t, ways: cfg.ways}, err
}

func (t *webTransport) Dial(ctx context.Context, a ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	c, err := t.Transport.Dial(ctx, a, p)
	var dial *web.DialError
	switch {
	case t.ways == nil:
	case err == nil:
		o, _ := web.OuterOf(c)
		t.ways.Worked(o.Route)
	case errors.As(err, &dial) && dial.Phase == web.TLS && ctx.Err() == nil:
		t.ways.CameToNothing(dial.Route)
	}
	return c, err
}

// outerOf is what was seen around libp2p's handshake on a connection of ours,
// false where there was nothing around it.
func outerOf(c interface{ As(any) bool }) (traversal.Outer, bool) {
	var via viaProxy
	if c.As(&via) {
		return traversal.Outer{Route: string(via)}, true
	}
	o, is := web.OuterOf(c)
	return traversal.Outer{Route: o.Route, TLS: o.TLS, Verified: o.Verified, Leaf: o.Leaf, Issuer: o.Issuer}, is
}
