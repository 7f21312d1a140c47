package discovery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
)

const (
	// MaxAnswer is how many relays one answer holds.
	MaxAnswer = 16

	maxRequestBytes = 256
	maxAnswerBytes  = MaxAnswer*(MaxRecord+8) + 256
	// exchangeTimeout bounds an exchange, on both sides: two round trips on the
	// slowest link, and 64 KiB over it.
	exchangeTimeout = 10 * time.Second
	// exchangeEvery, exchangeBurst and exchangeCrowd bound what is asked of us: of
	// one peer, and of how many at once.
	exchangeEvery = 10 * time.Second
	exchangeBurst = 3
	exchangeCrowd = 100
	// aliveFor is how long after its last word in gossip a relay counts as alive.
	aliveFor = 30 * time.Minute
)

// request asks for relays.
type request struct {
	Max int `cbor:"max"`
}

// answer names relays, each by a record.
type answer struct {
	Relays [][]byte `cbor:"relays"`
}

// decMode reads what strangers write: maps of a few keys, lists of records.
var decMode = must(cbor.DecOptions{
	DupMapKey:        cbor.DupMapKeyEnforcedAPF,
	MaxNestedLevels:  4,
	MaxArrayElements: 16, // the least that the library takes
	MaxMapPairs:      16,
	IndefLength:      cbor.IndefLengthForbidden,
	TagsMd:           cbor.TagsForbidden,
}.DecMode())

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // of a constant
	}
	return v
}

// exchange answers peers that ask for relays, and asks them.
type exchange struct {
	d     *Discovery
	log   *slog.Logger
	host  host.Host
	id    protocol.ID
	quota *quota

	mu   sync.Mutex         // guards the fields below
	here map[peer.ID]signed // the records of relays of the mesh that we have met; at most maxKnown
}

func newExchange(d *Discovery) *exchange {
	return &exchange{
		d: d, log: d.log, host: d.cfg.Host, id: d.mesh.exchange,
		quota: newQuota(exchangeEvery, exchangeBurst, exchangeCrowd),
		here:  map[peer.ID]signed{},
	}
}

// met keeps the record that a relay of the mesh has sent as it identified itself:
// the library throws it away. Other people's relays are not ours to recommend.
func (x *exchange) met(e event.EvtPeerIdentificationCompleted) {
	if e.SignedPeerRecord == nil || !slices.Contains(e.Protocols, x.id) || !slices.Contains(e.Protocols, proto.ProtoIDv2Hop) {
		return
	}
	data, err := e.SignedPeerRecord.Marshal()
	if err != nil {
		return
	}
	s, err := openRecord(data)
	if err != nil || s.ID != e.Peer {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.here) >= maxKnown {
		for id := range x.here {
			if !direct(x.host, id) {
				delete(x.here, id)
			}
		}
	}
	if len(x.here) < maxKnown {
		x.here[s.ID] = s
	}
}

// relaysHere are the records of the relays that we are directly connected to.
func (x *exchange) relaysHere() []signed {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out []signed
	for id, s := range x.here {
		hop, err := x.host.Peerstore().SupportsProtocols(id, proto.ProtoIDv2Hop)
		if err == nil && len(hop) > 0 && direct(x.host, id) {
			out = append(out, s)
		}
	}
	return out
}

// recordOf is the record of a relay that we have met.
func (x *exchange) recordOf(id peer.ID) (signed, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	s, ok := x.here[id]
	return s, ok
}

// serve answers one request.
func (x *exchange) serve(ctx context.Context, s network.Stream) error {
	from := s.Conn().RemotePeer()
	if !x.quota.allow(from, time.Now()) {
		return fmt.Errorf("answer %s: asks too often", from)
	}
	_ = s.SetDeadline(time.Now().Add(exchangeTimeout))
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	data, err := readAll(s, maxRequestBytes)
	if err != nil {
		return fmt.Errorf("answer %s: %w", from, err)
	}
	var ask request
	if err := decMode.Unmarshal(data, &ask); err != nil {
		return fmt.Errorf("answer %s: %w", from, err)
	}
	out, err := cbor.Marshal(answer{x.alive(from, min(max(ask.Max, 0), MaxAnswer))})
	if err != nil {
		return fmt.Errorf("answer %s: %w", from, err)
	}
	if _, err := s.Write(out); err != nil {
		return fmt.Errorf("answer %s: %w", from, err)
	}
	return nil
}

// alive are up to most records of relays that answer now, to our knowledge: those
// of the mesh that we are connected to, and those just heard of. Not of ourselves:
// who asks us knows us.
func (x *exchange) alive(asking peer.ID, most int) [][]byte {
	out := [][]byte{}
	seen := map[peer.ID]bool{asking: true}
	add := func(s signed) {
		if len(out) < most && !seen[s.ID] && len(x.d.rules.of(s.AddrInfo).Addrs) > 0 {
			seen[s.ID] = true
			out = append(out, s.envelope)
		}
	}
	for _, s := range x.relaysHere() {
		add(s)
	}
	for _, k := range x.d.table.best() {
		if k.source == Gossip && time.Since(k.heard) < aliveFor {
			add(signed{k.AddrInfo, k.seq, k.record})
		}
	}
	return out
}

// ask asks a peer that we are connected to.
func (x *exchange) ask(ctx context.Context, id peer.ID) ([]signed, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	ctx = network.WithAllowLimitedConn(network.WithNoDial(ctx, string(x.id)), string(x.id))
	s, err := x.host.NewStream(ctx, id, x.id)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	got, err := converse(s)
	if err != nil {
		_ = s.Reset()
		return nil, err
	}
	_ = s.Close()
	return got, nil
}

// converse sends a request and reads the answer.
func converse(s network.Stream) ([]signed, error) {
	ask, err := cbor.Marshal(request{Max: MaxAnswer})
	if err != nil {
		return nil, err
	}
	if _, err := s.Write(ask); err != nil {
		return nil, err
	}
	if err := s.CloseWrite(); err != nil {
		return nil, err
	}
	data, err := readAll(s, maxAnswerBytes)
	if err != nil {
		return nil, err
	}
	return decodeAnswer(data)
}

// decodeAnswer takes an answer apart. One bad record spoils it: an honest peer
// has verified what it passes on.
func decodeAnswer(data []byte) ([]signed, error) {
	if len(data) > maxAnswerBytes {
		return nil, errTooLong
	}
	var a answer
	if err := decMode.Unmarshal(data, &a); err != nil {
		return nil, fmt.Errorf("relays: %w", err)
	}
	if len(a.Relays) > MaxAnswer {
		return nil, fmt.Errorf("relays: %d, at most %d were asked for", len(a.Relays), MaxAnswer)
	}
	out := make([]signed, 0, len(a.Relays))
	for _, r := range a.Relays {
		s, err := openRecord(bytes.Clone(r))
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

var errTooLong = errors.New("message too long")

// readAll reads to the end of what the other side sends, or of what we take.
func readAll(r io.Reader, most int) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, int64(most)+1))
	if err != nil {
		return nil, err
	}
	if len(data) > most {
		return nil, errTooLong
	}
	return data, nil
}
