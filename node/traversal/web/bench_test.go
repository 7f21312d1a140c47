package web

import (
	"io"
	"testing"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/worldcompute/wce2e/node/traversal/web/internal/gateway"
)

// pair makes two connected hosts.
type pair struct {
	name string
	make func(*testing.B) (donor host.Host, relay peer.ID)
}

// pairs are what is measured side by side: the library's transport, ours, and the
// tunnel, over HTTP/2 and behind a gateway.
var pairs = []pair{
	{"library wss", func(b *testing.B) (host.Host, peer.ID) {
		relay, donor := newLibraryHost(b, "/ip4/127.0.0.1/tcp/0/tls/ws"), newLibraryHost(b)
		dial(b, donor, relay.ID(), relay.Network().ListenAddresses()[0])
		return donor, relay.ID()
	}},
	{"wss", func(b *testing.B) (host.Host, peer.ID) {
		relay, donor := newNode(b, Config{}, "/ip4/127.0.0.1/tcp/0/tls/ws"), newNode(b, Config{})
		dial(b, donor, relay.ID(), relay.Network().ListenAddresses()[0])
		return donor, relay.ID()
	}},
	{"tunnel", func(b *testing.B) (host.Host, peer.ID) {
		relay, donor := newNode(b, Config{}, "/ip4/127.0.0.1/tcp/0/tls/http"), newNode(b, Config{})
		dial(b, donor, relay.ID(), relay.Network().ListenAddresses()[0])
		return donor, relay.ID()
	}},
	{"tunnel behind a gateway", func(b *testing.B) (host.Host, peer.ID) {
		relay := newNode(b, Config{}, "/ip4/127.0.0.1/tcp/0/tls/http")
		a := relay.Network().ListenAddresses()[0]
		g := gateway.New(b, must(parse(a)).hostport())
		donor := newNode(b, Config{Dial: intercepted(g, "")})
		dial(b, donor, relay.ID(), a)
		return donor, relay.ID()
	}},
}

// BenchmarkRoundTrip is one byte there and back on a stream that is open.
func BenchmarkRoundTrip(b *testing.B) {
	for _, p := range pairs {
		b.Run(p.name, func(b *testing.B) {
			donor, relay := p.make(b)
			s, err := donor.NewStream(b.Context(), relay, "/echo")
			if err != nil {
				b.Fatal(err)
			}
			word := make([]byte, 1)
			for b.Loop() {
				if _, err := s.Write(word); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(s, word); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkUpload and BenchmarkDownload move 16 MiB.
func BenchmarkUpload(b *testing.B) {
	benchmarkBulk(b, func(s network.Stream, size int64) error {
		_, err := io.CopyN(s, zeros{}, size)
		_ = s.CloseWrite()
		_, end := s.Read(make([]byte, 1)) // the other end has read all of it
		if end != io.EOF {
			return end
		}
		return err
	}, "/sink")
}

func BenchmarkDownload(b *testing.B) {
	benchmarkBulk(b, func(s network.Stream, size int64) error {
		_ = s.CloseWrite()
		n, err := io.Copy(io.Discard, s)
		if n != size {
			return io.ErrUnexpectedEOF
		}
		return err
	}, "/source")
}

func benchmarkBulk(b *testing.B, move func(network.Stream, int64) error, protocol protocol.ID) {
	for _, p := range pairs {
		b.Run(p.name, func(b *testing.B) {
			donor, relay := p.make(b)
			b.SetBytes(bulk)
			for b.Loop() {
				s, err := donor.NewStream(b.Context(), relay, protocol)
				if err != nil {
					b.Fatal(err)
				}
				if err := move(s, bulk); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

const bulk = 16 << 20

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
