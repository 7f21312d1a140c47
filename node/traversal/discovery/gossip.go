package discovery

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// gossipVersion is the first byte of every message.
	gossipVersion = 1
	// maxRPC bounds what gossipsub packs together: a dozen records.
	maxRPC = 64 << 10
	// staleAfter is how old a record may be, by our clock: a relay's word is
	// repeated before. fromFuture is how much its clock may be ahead of ours.
	// Records outside are dropped, not held against who passed them on: it may be
	// our clock that is wrong, and then there are still the other sources.
	staleAfter = 2 * time.Hour
	fromFuture = 15 * time.Minute
	// relayedEvery and relayedBurst are how many records one neighbour may bring;
	// relayedCrowd times as many all of them together: 40 a minute, which at 300
	// bytes and 3 copies each come to 600 bytes/s while under attack.
	relayedEvery = 6 * time.Second
	relayedBurst = 32
	relayedCrowd = 4
	// announcedPerRelay stretches the time between announcements in a large mesh,
	// so that all of its relays together make at most one in so long: with 256, each
	// speaks once in 64 minutes, and a donor hears 4 records a minute.
	announcedPerRelay = 15 * time.Second
	// fewNeighbours is up to how many peers each that joins is told at once where we
	// are: it may be our first way to the rest of the mesh. A relay with many has
	// been heard, and its donors know where it is.
	fewNeighbours = 8
)

// gossip carries the records of relays to whoever is connected.
type gossip struct {
	d     *Discovery
	log   *slog.Logger
	self  host.Host
	rules policy
	quota *quota

	topic *pubsub.Topic
	news  *pubsub.Subscription
	peers *pubsub.TopicEventHandler

	changed chan struct{} // capacity 1: ask Serving again
	joined  chan struct{} // capacity 1: somebody has come
}

// startGossip joins the topic of relays, until ctx ends.
func startGossip(ctx context.Context, d *Discovery) (*gossip, error) {
	g := &gossip{
		d: d, log: d.log, self: d.cfg.Host, rules: d.rules,
		quota:   newQuota(relayedEvery, relayedBurst, relayedCrowd),
		changed: make(chan struct{}, 1),
		joined:  make(chan struct{}, 1),
	}
	ps, err := pubsub.NewGossipSub(ctx, looseHost{g.self}, g.options()...)
	if err != nil {
		return nil, fmt.Errorf("start gossip: %w", err)
	}
	if err := g.join(ps); err != nil {
		g.self.RemoveStreamHandler(d.mesh.gossip)
		return nil, fmt.Errorf("start gossip on %s: %w", d.mesh.topic, err)
	}
	return g, nil
}

func (g *gossip) join(ps *pubsub.PubSub) (err error) {
	if err := ps.RegisterTopicValidator(g.d.mesh.topic, g.judge, pubsub.WithValidatorInline(true)); err != nil {
		return err
	}
	if g.topic, err = ps.Join(g.d.mesh.topic); err != nil {
		return err
	}
	if g.peers, err = g.topic.EventHandler(); err != nil {
		return err
	}
	g.news, err = g.topic.Subscribe()
	return err
}

// options make gossipsub small and keep it from dialling: it talks to whom we
// are connected to anyway.
func (g *gossip) options() []pubsub.Option {
	p := pubsub.DefaultGossipSubParams()
	if _, relay := g.d.serving(); relay {
		// A relay has a thousand donors for neighbours. Two of its six mesh peers are
		// those that it dialled itself: other relays, through which its word gets on.
		p.D, p.Dlo, p.Dhi, p.Dout, p.Dscore = 6, 4, 8, 2, 4
	} else {
		// A donor listens; each further mesh peer would send it a further copy. One
		// that becomes a relay later is heard through these two as well.
		p.D, p.Dlo, p.Dhi, p.Dout, p.Dscore = 2, 1, 3, 0, 1
	}
	p.Dlazy = 4
	p.GossipFactor = 0.05
	p.HeartbeatInterval = g.d.pace.heartbeat
	p.PruneBackoff = 10 * time.Minute // else each of the thousand asks again every minute
	p.PrunePeers, p.Connectors = 0, 0 // nobody is dialled on a neighbour's word
	p.MaxIHaveLength, p.MaxIHaveMessages = 256, 4
	return []pubsub.Option{
		pubsub.WithGossipSubParams(p),
		pubsub.WithGossipSubProtocols([]protocol.ID{g.d.mesh.gossip}, func(f pubsub.GossipSubFeature, _ protocol.ID) bool {
			return f == pubsub.GossipSubFeatureMesh
		}),
		// What is sent is signed by whom it is about; who passes it on is no matter.
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign),
		pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(messageID),
		pubsub.WithMaxMessageSize(maxRPC),
		pubsub.WithSubscriptionFilter(pubsub.WrapLimitSubscriptionFilter(pubsub.NewAllowlistSubscriptionFilter(g.d.mesh.topic), 16)),
		// The relay in between carries circuits for jobs.
		pubsub.WithPeerFilter(func(id peer.ID, _ string) bool { return direct(g.self, id) }),
		pubsub.WithPeerOutboundQueueSize(16),
		pubsub.WithValidateWorkers(1),
		pubsub.WithLogger(slog.New(slog.DiscardHandler)),
		pubsub.WithRPCLogger(slog.New(slog.DiscardHandler)),
	}
}

func messageID(m *pb.Message) string {
	sum := sha256.Sum256(m.GetData())
	return string(sum[:16])
}

// direct tells whether we are connected to a peer without a relay in between.
func direct(h host.Host, id peer.ID) bool {
	for _, c := range h.Network().ConnsToPeer(id) {
		if _, err := c.RemoteMultiaddr().ValueForProtocol(ma.P_CIRCUIT); err != nil && !c.Stat().Limited {
			return true
		}
	}
	return false
}

// judge decides what is passed on. Rejected is what no honest peer passes on;
// its sender is not listened to for a while. The cheap questions come first.
func (g *gossip) judge(_ context.Context, from peer.ID, m *pubsub.Message) pubsub.ValidationResult {
	now := time.Now()
	if from != g.self.ID() && !g.quota.allow(from, now) {
		return pubsub.ValidationIgnore
	}
	s, err := g.read(m.GetData())
	if err != nil {
		g.log.Debug("gossip refused", "peer", from, "err", err)
		g.quota.mute(from, now)
		return pubsub.ValidationReject
	}
	if at := s.at(); now.Sub(at) > staleAfter || at.Sub(now) > fromFuture {
		return pubsub.ValidationIgnore
	}
	if old, ok := g.d.table.get(s.ID); ok && (old.seq > s.seq || old.seq == s.seq && old.source == Gossip) {
		return pubsub.ValidationIgnore // said again by somebody else
	}
	m.ValidatorData = s
	return pubsub.ValidationAccept
}

// read takes a message apart.
func (g *gossip) read(data []byte) (signed, error) {
	if len(data) == 0 || data[0] != gossipVersion {
		return signed{}, fmt.Errorf("gossip: not of version %d", gossipVersion)
	}
	s, err := openRecord(data[1:])
	if err != nil {
		return signed{}, fmt.Errorf("gossip: %w", err)
	}
	if n := len(s.Addrs); n == 0 || n > MaxAddrs {
		return signed{}, fmt.Errorf("gossip: relay %s has %d addresses", s.ID, n)
	}
	for _, a := range s.Addrs {
		if !g.rules.admits(a) {
			return signed{}, fmt.Errorf("gossip: relay %s says it is at %s", s.ID, a)
		}
	}
	return s, nil
}

// listen takes in what others announce.
func (g *gossip) listen(ctx context.Context) {
	for {
		m, err := g.news.Next(ctx)
		if err != nil {
			return // ctx ended, or the subscription was cancelled
		}
		s, ok := m.ValidatorData.(signed)
		if !ok || m.ReceivedFrom == g.self.ID() {
			continue
		}
		k := fromRecord(s, g.rules)
		k.source, k.teller, k.heard = Gossip, m.ReceivedFrom, time.Now()
		g.d.learn(k)
	}
}

// watchPeers has us announce ourselves to who joins.
func (g *gossip) watchPeers(ctx context.Context) {
	for {
		e, err := g.peers.NextPeerEvent(ctx)
		if err != nil {
			return
		}
		if e.Type == pubsub.PeerJoin && len(g.topic.ListPeers()) <= fewNeighbours {
			nudge(g.joined)
		}
	}
}

// announce tells the mesh where we are while we are a relay: every so often, when
// that changes, and when somebody joins.
func (g *gossip) announce(ctx context.Context) {
	var last announcement
	for ctx.Err() == nil {
		wait := g.turn(ctx, &last)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		case <-g.changed:
		case <-g.joined:
			last.joined = true
		}
	}
}

// turn says what is to be said now, and tells when it is our turn again.
func (g *gossip) turn(ctx context.Context, last *announcement) time.Duration {
	addrs, ok := g.d.serving()
	if hidden := g.d.hidden(); hidden != last.hidden {
		last.hidden = hidden
		if hidden {
			g.log.Warn("relay not announced: none of its addresses is one that peers of its mesh would dial")
		}
	}
	if !ok {
		last.addrs = nil
		return g.d.pace.announce
	}
	if wait := time.Until(last.due(addrs, g.d.pace, g.d.table.size())); wait > 0 {
		return wait
	}
	if err := g.publish(ctx, addrs); err != nil && ctx.Err() == nil {
		g.log.Warn("relay not announced by gossip", "err", err)
	}
	*last = announcement{at: time.Now(), addrs: addrs, luck: luck()}
	return time.Until(last.due(addrs, g.d.pace, g.d.table.size()))
}

// announcement is what was last said, and when.
type announcement struct {
	at     time.Time
	addrs  []ma.Multiaddr
	luck   float64 // so that relays which started together do not speak together
	joined bool    // somebody has come since
	hidden bool    // we relay, and may not say where
}

// due is when the next announcement is to be made, of addrs.
func (a announcement) due(addrs []ma.Multiaddr, p pace, relays int) time.Time {
	switch {
	case !sameAddrs(a.addrs, addrs):
		return a.at.Add(p.changed)
	case a.joined:
		return a.at.Add(p.joined)
	}
	every := max(p.announce, time.Duration(relays)*announcedPerRelay)
	return a.at.Add(time.Duration(float64(every) * a.luck))
}

func (g *gossip) publish(ctx context.Context, addrs []ma.Multiaddr) error {
	s, err := sealRecord(g.self, addrs)
	if err != nil {
		return err
	}
	return g.topic.Publish(ctx, append([]byte{gossipVersion}, s.envelope...))
}

// close leaves the topic. gossipsub itself ends with its context, but leaves its
// handler on the host.
func (g *gossip) close() error {
	g.peers.Cancel()
	g.news.Cancel()
	err := g.topic.Close()
	g.self.RemoveStreamHandler(g.d.mesh.gossip)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		err = nil // it has ended with its context
	}
	resetStreams(g.self, g.d.mesh.gossip)
	return err
}

// resetStreams ends what is still spoken of a protocol. The libraries leave the
// streams of theirs open, and a goroutine at each.
func resetStreams(h host.Host, id protocol.ID) {
	for _, c := range h.Network().Conns() {
		for _, s := range c.GetStreams() {
			if s.Protocol() == id {
				_ = s.Reset()
			}
		}
	}
}
