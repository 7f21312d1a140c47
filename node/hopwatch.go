package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	manet "github.com/multiformats/go-multiaddr/net"
	"golang.org/x/time/rate"

	"github.com/worldcompute/wce2e/node/traversal"
	"github.com/worldcompute/wce2e/node/wire"
)

// hopWatch tells what the library's relay does, by reading along on its
// streams: the library itself reports neither who reserves nor who connects
// to whom.
//
//	peer --> floodGate --> hopStream --> relay.Relay
//	                           |
//	                           +--> the request and the answer, then bytes
//
// It lasts as long as the node, which may start and stop to relay meanwhile.
type hopWatch struct {
	rec  *recorder
	gate *floodGate
	rate int64 // bytes a second of one circuit; 0: any
	most int   // circuits whose source is at one address

	mu       sync.Mutex // guards the fields below
	circuits uint64
	open     map[string]*hopStream // by circuit
	from     map[netip.Prefix]int  // circuits that stand or are asked for, by where their source is
	closed   bool                  // no circuit is recorded any more
	held     map[peer.ID]holder
	bytes    int64             // of circuits that have ended
	refused  map[string]uint64 // requests, by reason
}

func newHopWatch(rec *recorder, limits wire.RelayLimits) *hopWatch {
	return &hopWatch{
		rec: rec, gate: newFloodGate(limits.CircuitsPerPeer), rate: limits.CircuitBytesPerSecond, most: limits.CircuitsPerAddress,
		open: map[string]*hopStream{}, from: map[netip.Prefix]int{}, held: map[peer.ID]holder{}, refused: map[string]uint64{},
	}
}

// holder is a peer with a reservation, and the connection on which it asked for
// it last.
type holder struct {
	wire.Held
	conn network.Conn
}

// hopHost is the host that the relay is given.
type hopHost struct {
	host.Host
	watch *hopWatch
}

func (h hopHost) SetStreamHandler(id protocol.ID, handle network.StreamHandler) {
	if id == proto.ProtoIDv2Hop {
		handle = h.watch.guarded(handle)
	}
	h.Host.SetStreamHandler(id, handle)
}

// NewStream reaches the peer of a circuit by the connection on which it reserved
// last. The library would take whichever it likes best: after a router has
// forgotten its flows that may be a dead one, for as long as it takes to notice.
func (h hopHost) NewStream(ctx context.Context, to peer.ID, ids ...protocol.ID) (network.Stream, error) {
	if conn := h.watch.connOf(to); conn != nil && len(ids) == 1 && ids[0] == proto.ProtoIDv2Stop {
		return traversal.OpenStream(ctx, conn, ids[0])
	}
	return h.Host.NewStream(ctx, to, ids...)
}

// connOf is the connection by which a peer with a reservation is reached; nil:
// none that stands.
func (w *hopWatch) connOf(id peer.ID) network.Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	if h, known := w.held[id]; known && !h.conn.IsClosed() {
		return h.conn
	}
	return nil
}

// guarded lets the relay handle what the gate lets pass.
func (w *hopWatch) guarded(relay network.StreamHandler) network.StreamHandler {
	return func(s network.Stream) {
		if !w.gate.admits(s.Conn(), time.Now()) {
			w.count(refusedRate)
			turnAwayHop(s)
			return
		}
		hop := &hopStream{Stream: s, watch: w}
		if w.rate > 0 {
			hop.pace = rate.NewLimiter(rate.Limit(w.rate), relayBuffer)
		}
		relay(hop)
		if hop.circuit == "" { // none came of it
			w.leave(hop)
		}
	}
}

// enter takes a place among the circuits from the address of s, unless all are taken.
func (w *hopWatch) enter(s *hopStream) bool {
	from := sourceOf(s.Conn())
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.from[from] >= w.most {
		return false
	}
	w.from[from]++
	s.entered = true
	return true
}

// leave gives back the place of s, if it has one. Nobody else uses s meanwhile.
func (w *hopWatch) leave(s *hopStream) {
	if !s.entered {
		return
	}
	from := sourceOf(s.Conn())
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.from[from]--; w.from[from] == 0 {
		delete(w.from, from)
	}
}

// sourceOf is what counts as one address: of IPv6 the /56 that a customer has at
// least. The zero Prefix is that of all without an IP.
func sourceOf(c network.Conn) netip.Prefix {
	ip, err := manet.ToIP(c.RemoteMultiaddr())
	if err != nil {
		return netip.Prefix{}
	}
	addr, _ := netip.AddrFromSlice(ip)
	addr = addr.Unmap()
	bits := 32
	if addr.Is6() {
		bits = 56
	}
	from, _ := addr.Prefix(bits)
	return from
}

// notifiee forgets a reservation as the relay does: with its peer's last
// connection.
func (w *hopWatch) notifiee() network.Notifiee {
	return &network.NotifyBundle{DisconnectedF: func(n network.Network, c network.Conn) {
		if n.Connectedness(c.RemotePeer()) == network.Connected {
			return
		}
		w.gate.forget(c.RemotePeer())
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.held, c.RemotePeer())
	}}
}

// forgetAll drops what the relay has forgotten by ending.
func (w *hopWatch) forgetAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.held)
}

// count counts a request that was refused.
func (w *hopWatch) count(why string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refused[why]++
}

// counts sums up.
func (w *hopWatch) counts() wire.Serving {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expire(now)
	out := wire.Serving{
		Reservations: len(w.held), CircuitsOpen: len(w.open), Circuits: w.circuits,
		Bytes: w.bytes, Refused: maps.Clone(w.refused),
	}
	for _, s := range w.open {
		out.Bytes += int64(s.bytes.Load())
	}
	return out
}

// expire wants mu held.
func (w *hopWatch) expire(now time.Time) {
	maps.DeleteFunc(w.held, func(_ peer.ID, h holder) bool { return h.Expires.Before(now) })
}

func (w *hopWatch) reservations(now time.Time) []wire.Held {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expire(now)
	out := make([]wire.Held, 0, len(w.held))
	for _, h := range w.held {
		out = append(out, h.Held)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Since.Before(out[j].Since) })
	return out
}

// reserved records the answer to RESERVE.
func (w *hopWatch) reserved(c network.Conn, answer *pb.HopMessage) {
	ev := wire.Event{
		Kind: wire.RelayReservation, Peer: c.RemotePeer().String(), Conn: connID(c), Remote: c.RemoteMultiaddr().String(),
		Outcome: wire.OK,
	}
	if status := answer.GetStatus(); status != pb.Status_OK {
		ev.Outcome, ev.Err = wire.Failed, status.String()
		w.count("reserve " + strings.ToLower(ev.Err))
		w.rec.Record(ev)
		return
	}
	now := time.Now().UTC()
	ev.Expires = time.Unix(int64(answer.GetReservation().GetExpire()), 0).UTC()
	w.mu.Lock()
	before, stands := w.held[c.RemotePeer()]
	ev.Renewal = stands && before.Expires.After(now)
	since := now
	if ev.Renewal {
		since = before.Since
	}
	if !c.IsClosed() { // else the peer has gone, or never got the answer
		w.held[c.RemotePeer()] = holder{wire.Held{PeerID: ev.Peer, Remote: ev.Remote, Since: since, Expires: ev.Expires}, c}
	}
	w.mu.Unlock()
	w.rec.Record(ev)
	if stands && before.conn != c && !before.conn.IsClosed() {
		go endIfDead(before.conn)
	}
}

// formerPatience is how long a connection may take to answer whose peer has come
// back by another one.
const formerPatience = 5 * time.Second

// endIfDead closes a former connection that its peer has lost. With it end the
// circuits over it, and whoever waits for an answer there is told.
func endIfDead(former network.Conn) {
	if traversal.Dead(context.Background(), former, formerPatience) {
		_ = former.Close() // of somebody who has gone
	}
}

// opened names a circuit and records it.
func (w *hopWatch) opened(s *hopStream) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.circuits++
	s.circuit, s.opened = fmt.Sprintf("r%05d", w.circuits), time.Now()
	w.open[s.circuit] = s
	w.rec.Record(wire.Event{
		Kind: wire.RelayCircuitOpened, Circuit: s.circuit,
		Peer: s.Conn().RemotePeer().String(), Target: s.target, Remote: s.Conn().RemoteMultiaddr().String(),
	})
}

// closeRest records the end of circuits that the relay has not closed, and
// nothing of later ones.
func (w *hopWatch) closeRest() {
	w.mu.Lock()
	w.closed = true
	rest := slices.Collect(maps.Values(w.open))
	w.mu.Unlock()
	for _, s := range rest {
		s.ended()
	}
}

// hopStream is the stream of one request to the relay. The relay reads the
// request, writes the answer, and then, for a circuit, copies bytes from two
// goroutines; at the end it closes the stream, once both are done.
type hopStream struct {
	network.Stream
	watch *hopWatch

	request, answer sniffer // used by one goroutine, before copying starts
	entered         bool    // it has a place, see enter
	turnedAway      bool    // it got none, and its peer was told
	circuit         string  // set when the circuit stands
	target          string
	opened          time.Time
	pace            *rate.Limiter // nil: any speed
	bytes           atomic.Uint64
	finished        sync.Once
}

func (s *hopStream) Read(b []byte) (int, error) {
	n, err := s.Stream.Read(b)
	if s.circuit != "" {
		s.carried(n)
	} else {
		s.request.feed(b[:n])
		if s.lacksPlace() {
			s.turnedAway = true
			turnAwayHop(s.Stream)
			s.failed(pb.Status_RESOURCE_LIMIT_EXCEEDED.String())
			return 0, errNoPlace
		}
	}
	return n, err
}

// errNoPlace is what the relay gets to read instead of a request for a circuit that
// its peer's address may not have. It would answer that the request is malformed.
var errNoPlace = errors.New("too many circuits from this address")

// lacksPlace tells whether a circuit has just been asked for and there is no place.
func (s *hopStream) lacksPlace() bool {
	msg := s.request.msg
	if msg == nil || msg.GetType() != pb.HopMessage_CONNECT || s.entered {
		return false
	}
	s.target = targetOf(msg)
	return !s.watch.enter(s)
}

// targetOf is the peer to which a circuit is asked for; empty: the request names none.
func targetOf(request *pb.HopMessage) string {
	target, err := util.PeerToPeerInfoV2(request.GetPeer())
	if err != nil {
		return ""
	}
	return target.ID.String()
}

// carried counts n bytes, and waits until the circuit's rate allows for them.
// Neither is read on meanwhile, so the sender slows down.
func (s *hopStream) carried(n int) {
	s.bytes.Add(uint64(n))
	for n > 0 && s.pace != nil {
		part := min(n, s.pace.Burst())
		time.Sleep(s.pace.ReserveN(time.Now(), part).Delay())
		n -= part
	}
}

func (s *hopStream) Write(b []byte) (int, error) {
	if s.turnedAway {
		return len(b), nil
	}
	n, err := s.Stream.Write(b)
	if s.circuit != "" {
		s.carried(n)
		return n, err
	}
	s.answer.feed(b[:n])
	if s.answer.msg != nil && err == nil {
		s.answered(s.answer.msg)
	}
	return n, err
}

// answered records the relay's decision.
func (s *hopStream) answered(answer *pb.HopMessage) {
	request := s.request.msg
	switch {
	case request == nil: // malformed: nothing was asked for
	case request.GetType() == pb.HopMessage_RESERVE:
		s.watch.reserved(s.Conn(), answer)
	case request.GetType() == pb.HopMessage_CONNECT:
		if status := answer.GetStatus(); status != pb.Status_OK {
			s.failed(status.String())
			return
		}
		s.watch.opened(s)
	}
}

func (s *hopStream) failed(why string) {
	s.finished.Do(func() {
		s.watch.count("connect " + strings.ToLower(why))
		s.watch.rec.Record(wire.Event{
			Kind: wire.RelayCircuitFailed, Peer: s.Conn().RemotePeer().String(), Target: s.target, Err: why,
		})
	})
}

// Close is the relay's last call on a circuit that stood.
func (s *hopStream) Close() error {
	err := s.Stream.Close()
	if s.circuit != "" {
		s.ended()
	}
	return err
}

// ended records the end of a circuit, once.
func (s *hopStream) ended() {
	s.finished.Do(func() {
		s.watch.mu.Lock()
		delete(s.watch.open, s.circuit)
		s.watch.bytes += int64(s.bytes.Load())
		s.watch.mu.Unlock()
		s.watch.leave(s)
		s.watch.rec.Record(wire.Event{
			Kind: wire.RelayCircuitClosed, Circuit: s.circuit,
			Peer: s.Conn().RemotePeer().String(), Target: s.target,
			Bytes: s.bytes.Load(), MS: millis(time.Since(s.opened)),
		})
	})
}

// Reset without a Close is how a circuit ends that never stood.
func (s *hopStream) Reset() error {
	err := s.Stream.Reset()
	if s.circuit == "" && s.request.msg != nil && s.request.msg.GetType() == pb.HopMessage_CONNECT {
		s.failed("the answer could not be sent")
	}
	return err
}

// sniffer reads one length-delimited message that passes by in pieces.
type sniffer struct {
	seen []byte
	msg  *pb.HopMessage // nil until it is complete
	gone bool           // it is complete, or no such message
}

func (s *sniffer) feed(b []byte) {
	if s.gone {
		return
	}
	s.seen = append(s.seen, b...)
	var msg pb.HopMessage
	in := util.NewDelimitedReader(&pieces{s.seen}, maxHopMessage)
	defer in.Close()
	switch err := in.ReadMsg(&msg); err {
	case nil:
		s.msg, s.gone = &msg, true
	case io.EOF, io.ErrUnexpectedEOF: // more to come
	default:
		s.gone = true
	}
	if s.gone {
		s.seen = nil
	}
}

// maxHopMessage is the library's own bound.
const maxHopMessage = 4096

// pieces reads what has passed so far.
type pieces struct{ rest []byte }

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}
