package discovery

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/record"
	ma "github.com/multiformats/go-multiaddr"
)

// sealed is a record of id, signed by key, made at a time.
func sealed(t testing.TB, key crypto.PrivKey, id peer.ID, at time.Time, addrs ...ma.Multiaddr) []byte {
	t.Helper()
	env, err := record.Seal(&peer.PeerRecord{PeerID: id, Addrs: addrs, Seq: uint64(at.UnixNano())}, key)
	if err != nil {
		t.Fatal(err)
	}
	data, err := env.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// honest is a record as a relay makes it, at an address of its own network.
func honest(t testing.TB, n int) (peer.ID, []byte) {
	key, id := stranger(t)
	return id, sealed(t, key, id, time.Now(), addr(fmt.Sprintf("/ip4/45.%d.%d.1/tcp/443/tls/ws", n/256, n%256)))
}

func TestGossipPassesOnWhatARelaySaysOfItselfAndNothingElse(t *testing.T) {
	public := addr("/ip4/9.9.9.9/tcp/443/tls/ws")
	key, id := stranger(t)
	otherKey, _ := stranger(t)
	now := time.Now()
	many := func(n int) (out []ma.Multiaddr) {
		for i := range n {
			out = append(out, addr(fmt.Sprintf("/ip4/9.9.9.%d/udp/4001/quic-v1", i)))
		}
		return out
	}
	v1 := func(rec []byte) []byte { return append([]byte{gossipVersion}, rec...) }
	good := sealed(t, key, id, now, public)
	tampered := bytes.Clone(good)
	tampered[len(tampered)/2] ^= 1
	for _, c := range []struct {
		what string
		data []byte
		want pubsub.ValidationResult
	}{
		{"an honest record", v1(good), pubsub.ValidationAccept},
		{"16 addresses", v1(sealed(t, key, id, now, many(16)...)), pubsub.ValidationAccept},
		{"a clock 10 minutes ahead", v1(sealed(t, key, id, now.Add(10*time.Minute), public)), pubsub.ValidationAccept},
		{"an old record", v1(sealed(t, key, id, now.Add(-3*time.Hour), public)), pubsub.ValidationIgnore},
		{"a record of tomorrow", v1(sealed(t, key, id, now.Add(24*time.Hour), public)), pubsub.ValidationIgnore},
		{"nothing", nil, pubsub.ValidationReject},
		{"a version alone", v1(nil), pubsub.ValidationReject},
		{"a later version", append([]byte{2}, good...), pubsub.ValidationReject},
		{"a record about somebody else", v1(sealed(t, otherKey, id, now, public)), pubsub.ValidationReject},
		{"a changed record", v1(tampered), pubsub.ValidationReject},
		{"half a record", v1(good[:len(good)/2]), pubsub.ValidationReject},
		{"a record that is too large", v1(sealed(t, key, id, now, many(255)...)), pubsub.ValidationReject},
		{"17 addresses", v1(sealed(t, key, id, now, many(17)...)), pubsub.ValidationReject},
		{"no address", v1(sealed(t, key, id, now)), pubsub.ValidationReject},
		{"a private address", v1(sealed(t, key, id, now, public, addr("/ip4/192.168.1.1/tcp/80"))), pubsub.ValidationReject},
		{"loopback", v1(sealed(t, key, id, now, addr("/ip4/127.0.0.1/tcp/6379"))), pubsub.ValidationReject},
		{"a name", v1(sealed(t, key, id, now, addr("/dns4/rebind.example.org/tcp/443/tls/ws"))), pubsub.ValidationReject},
		{"a place behind another relay", v1(sealed(t, key, id, now, addr("/ip4/9.9.9.9/tcp/443/tls/ws/p2p/"+id.String()+"/p2p-circuit"))), pubsub.ValidationReject},
	} {
		n := newQuietly(t, Config{})
		if got := n.gossip.judge(context.Background(), "neighbour", message(c.data)); got != c.want {
			t.Errorf("%s: verdict %d, want %d", c.what, got, c.want)
		}
		muted := !n.gossip.quota.allow("neighbour", time.Now())
		if muted != (c.want == pubsub.ValidationReject) {
			t.Errorf("%s: neighbour muted: %v", c.what, muted)
		}
	}
}

// newQuietly starts a Discovery of the public mesh, at its usual pace.
func newQuietly(t *testing.T, cfg Config) *Discovery {
	t.Helper()
	cfg.Host = newHost(t)
	d, err := Start(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func message(data []byte) *pubsub.Message { return &pubsub.Message{Message: &pb.Message{Data: data}} }

func TestARecordIsNotReplacedByAnOlderOne(t *testing.T) {
	d := newQuietly(t, Config{})
	key, id := stranger(t)
	now := time.Now()
	s, err := openRecord(sealed(t, key, id, now, addr("/ip4/9.9.9.9/tcp/443/tls/ws")))
	if err != nil {
		t.Fatal(err)
	}
	k := fromRecord(s, d.rules)
	k.source, k.heard = Gossip, now
	d.learn(k)
	for _, age := range []time.Duration{0, time.Minute} {
		old := append([]byte{gossipVersion}, sealed(t, key, id, now.Add(-age), addr("/ip4/8.8.8.8/tcp/443/tls/ws"))...)
		if got := d.gossip.judge(context.Background(), "neighbour", message(old)); got != pubsub.ValidationIgnore {
			t.Errorf("a record %s older: verdict %d", age, got)
		}
	}
}

// evil is a member of the public mesh's gossip without any scruples.
type evil struct {
	host  host.Host
	topic *pubsub.Topic
}

func newEvil(t *testing.T, m mesh) *evil {
	t.Helper()
	e := &evil{host: newHost(t)}
	ps, err := pubsub.NewGossipSub(t.Context(), e.host,
		pubsub.WithGossipSubProtocols([]protocol.ID{m.gossip}, func(f pubsub.GossipSubFeature, _ protocol.ID) bool { return f == pubsub.GossipSubFeatureMesh }),
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(), pubsub.WithMessageIdFn(messageID), pubsub.WithFloodPublish(true))
	if err != nil {
		t.Fatal(err)
	}
	if e.topic, err = ps.Join(m.topic); err != nil {
		t.Fatal(err)
	}
	if _, err := e.topic.Subscribe(); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *evil) say(t *testing.T, rec []byte) {
	t.Helper()
	if err := e.topic.Publish(t.Context(), append([]byte{gossipVersion}, rec...)); err != nil {
		t.Fatal(err)
	}
}

func TestAFloodOfHonestLookingRelaysIsBoundedAndDoesNotDriveOutOurs(t *testing.T) {
	victim := newNode(t, func(_ *node, cfg *Config) { cfg.Log = nil })
	further := newNode(t)
	_, ours := stranger(t)
	victim.Remember(peer.AddrInfo{ID: ours}, addr("/ip4/9.9.9.9/tcp/443/tls/ws"))
	e := newEvil(t, victim.mesh)
	connect(t, e.host, victim.Host)
	connect(t, victim.Host, further.Host)
	eventually(t, "neighbour in gossip", 2*time.Second, func() bool { return len(e.topic.ListPeers()) == 1 })
	for i := range 600 {
		_, rec := honest(t, i)
		e.say(t, rec)
	}
	eventually(t, "relay of the flood", 2*time.Second, func() bool { return victim.table.size() > 10 })
	time.Sleep(500 * time.Millisecond) // for what else there is
	if n := victim.table.size(); n > maxPerTeller+1 {
		t.Errorf("%d relays were taken from one neighbour", n-1)
	}
	if k, there := victim.table.get(ours); !there || k.granted.IsZero() {
		t.Error("our own relay was driven out")
	}
	if n := further.table.size(); n > relayedBurst+2 {
		t.Errorf("%d records of the flood were passed on, %d are allowed at once", n, relayedBurst)
	}
	victim.mu.Lock()
	defer victim.mu.Unlock()
	if n := len(victim.found); n > foundBurst+2 {
		t.Errorf("%d relays were handed on within a second", n)
	}
}

func TestWhoSendsAForgeryIsNotListenedToAnyMore(t *testing.T) {
	victim := newNode(t)
	e := newEvil(t, victim.mesh)
	connect(t, e.host, victim.Host)
	eventually(t, "neighbour in gossip", 2*time.Second, func() bool { return len(e.topic.ListPeers()) == 1 })
	key, _ := stranger(t)
	_, about := stranger(t)
	first, rec := honest(t, 1)
	e.say(t, rec)
	eventually(t, "honest record", 2*time.Second, victim.has(first))
	e.say(t, sealed(t, key, about, time.Now(), addr("/ip4/9.9.9.9/tcp/443/tls/ws")))
	eventually(t, "muted neighbour", 2*time.Second, func() bool { return !victim.gossip.quota.allow(e.host.ID(), time.Now()) })
	second, rec := honest(t, 2)
	e.say(t, rec)
	time.Sleep(200 * time.Millisecond)
	if victim.has(about)() || victim.has(second)() {
		t.Error("a forger is believed")
	}
}

func TestTheExchangeRefusesWhatIsNotOfIt(t *testing.T) {
	n, asker := newNode(t), newHost(t)
	connect(t, asker, n.Host)
	for _, c := range []struct {
		what string
		ask  []byte
		ok   bool
	}{
		{"a request", enc(t, request{Max: 16}), true},
		{"a newer request", enc(t, map[string]any{"max": 3, "since": "yesterday"}), true},
		{"too much", enc(t, map[string]any{"max": 3, "pad": strings.Repeat("x", 300)}), false},
		{"no map", enc(t, "hello"), false},
		{"nothing", nil, false},
		{"a negative wish", enc(t, request{Max: -1}), true},
		{"a boundless wish", enc(t, request{Max: 1 << 40}), true},
	} {
		n.exchange.quota = newQuota(exchangeEvery, exchangeBurst, exchangeCrowd)
		s, err := asker.NewStream(t.Context(), n.ID(), n.mesh.exchange)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = s.Write(c.ask)
		_ = s.CloseWrite()
		data, err := readAll(s, maxAnswerBytes)
		if err == nil {
			_, err = decodeAnswer(data)
		}
		if (err == nil) != c.ok {
			t.Errorf("%s: answered %x, %v", c.what, data, err)
		}
		_ = s.Reset()
	}
}

func TestOnePeerIsNotAnsweredWithoutEnd(t *testing.T) {
	n, asker := newNode(t), newNode(t)
	conn := connect(t, asker.Host, n.Host)
	var answered int
	for range 10 {
		if asker.Exchange(t.Context(), conn) == nil {
			answered++
		}
	}
	if answered != exchangeBurst {
		t.Errorf("%d of 10 requests were answered, want %d", answered, exchangeBurst)
	}
}

func enc(t testing.TB, v any) []byte {
	t.Helper()
	data, err := cbor.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestAnAnswerWithAForgeryIsRefusedAsAWhole(t *testing.T) {
	key, _ := stranger(t)
	_, about := stranger(t)
	_, fine := honest(t, 1)
	forged := sealed(t, key, about, time.Now(), addr("/ip4/9.9.9.9/tcp/443/tls/ws"))
	liar, n := newHost(t), newNode(t)
	liar.SetStreamHandler(n.mesh.exchange, func(s network.Stream) {
		_, _ = readAll(s, maxRequestBytes)
		_, _ = s.Write(enc(t, answer{[][]byte{fine, forged}}))
		_ = s.Close()
	})
	err := n.Exchange(t.Context(), connect(t, n.Host, liar))
	if err == nil || !strings.Contains(err.Error(), "signed by") || n.table.size() > 0 {
		t.Errorf("error %v and %d relays taken in", err, n.table.size())
	}
}

func TestASilentPeerHoldsUpAnExchangeOnlyForAsLongAsItsContext(t *testing.T) {
	silent, n := newHost(t), newNode(t)
	silent.SetStreamHandler(n.mesh.exchange, func(s network.Stream) { _, _ = s.Read(make([]byte, 1)) })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := n.Exchange(ctx, connect(t, n.Host, silent)); err == nil || time.Since(began) > 2*time.Second {
		t.Errorf("error %v after %s", err, time.Since(began))
	}
}

func TestAnAnswerHoldsWhatOthersOfThePublicMeshMayDial(t *testing.T) {
	d := newQuietly(t, Config{})
	key, id := stranger(t)
	s, err := openRecord(sealed(t, key, id, time.Now(), addr("/ip4/10.0.0.1/tcp/1"), addr("/ip4/9.9.9.9/tcp/443/tls/ws")))
	if err != nil {
		t.Fatal(err)
	}
	k := fromRecord(s, d.rules)
	if len(k.Addrs) != 1 || !k.Addrs[0].Equal(addr("/ip4/9.9.9.9/tcp/443/tls/ws")) {
		t.Errorf("of a private and a public address we would dial %s", k.Addrs)
	}
}

func FuzzAnswer(f *testing.F) {
	_, rec := honest(f, 1)
	for _, v := range []any{answer{}, answer{[][]byte{rec}}, answer{[][]byte{rec, rec[:10]}}, map[string]any{"relays": []int{1}}, request{Max: 3}} {
		f.Add(enc(f, v))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := decodeAnswer(data)
		if err != nil && got != nil {
			t.Error("both an answer and an error")
		}
		if len(got) > MaxAnswer {
			t.Errorf("%d relays", len(got))
		}
		for _, s := range got {
			if !bytes.Contains(data, s.envelope) || s.ID == "" {
				t.Error("a record that was not sent")
			}
		}
	})
}

func FuzzGossip(f *testing.F) {
	_, rec := honest(f, 1)
	f.Add(append([]byte{gossipVersion}, rec...))
	f.Add([]byte{gossipVersion})
	f.Fuzz(func(t *testing.T, data []byte) {
		g := &gossip{}
		s, err := g.read(data)
		if err == nil && (slices.ContainsFunc(s.Addrs, func(a ma.Multiaddr) bool { return !g.rules.admits(a) }) || s.ID.Validate() != nil) {
			t.Errorf("accepted %v", s)
		}
	})
}
