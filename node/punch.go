package node

import (
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"

	"github.com/worldcompute/wce2e/node/wire"
)

// punchTracer records what DCUtR tried and how that ended.
type punchTracer struct{ rec *recorder }

func (t punchTracer) Trace(e *holepunch.Event) {
	switch v := e.Evt.(type) {
	case *holepunch.DirectDialEvt:
		t.ended(e.Remote, "direct dial", v.Success, v.EllapsedTime, v.Error)
	case *holepunch.StartHolePunchEvt:
		t.rec.Record(wire.Event{
			Kind: wire.HolePunch, Peer: e.Remote.String(),
			Detail: "punching to " + strings.Join(v.RemoteAddrs, " "), MS: millis(v.RTT),
		})
	case *holepunch.EndHolePunchEvt:
		t.ended(e.Remote, "punch", v.Success, v.EllapsedTime, v.Error)
	case *holepunch.ProtocolErrorEvt:
		t.ended(e.Remote, "agreeing on a punch", false, 0, v.Error)
	}
}

func (t punchTracer) ended(p peer.ID, what string, ok bool, took time.Duration, err string) {
	outcome := wire.OK
	if !ok {
		outcome = wire.Failed
	}
	t.rec.Record(wire.Event{Kind: wire.HolePunch, Peer: p.String(), Outcome: outcome, Detail: what, Err: err, MS: millis(took)})
}
