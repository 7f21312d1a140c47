package discovery

import (
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// MaxRecord is the longest record in bytes. One of 16 WebTransport addresses,
	// with two certificate hashes each, takes 2 KiB.
	MaxRecord = 4 << 10
	// MaxAddrs is how many addresses of one relay are taken.
	MaxAddrs = 16
)

// signed is a relay's own word of where it is.
type signed struct {
	peer.AddrInfo        // as signed
	seq           uint64 // larger in later records of the same relay: by custom its clock, Unix time in ns
	envelope      []byte
}

// at is when the record was made, by the relay's clock.
func (s signed) at() time.Time { return time.Unix(0, int64(min(s.seq, 1<<63-1))) }

// openRecord verifies that a record is whole and signed by the very peer that
// it is about.
func openRecord(data []byte) (signed, error) {
	if len(data) > MaxRecord {
		return signed{}, fmt.Errorf("relay's record: %d bytes, at most %d are taken", len(data), MaxRecord)
	}
	env, rec, err := record.ConsumeEnvelope(data, peer.PeerRecordEnvelopeDomain)
	if err != nil {
		return signed{}, fmt.Errorf("relay's record: %w", err)
	}
	pr, ok := rec.(*peer.PeerRecord)
	if !ok {
		return signed{}, fmt.Errorf("relay's record: is a %T", rec)
	}
	signer, err := peer.IDFromPublicKey(env.PublicKey)
	if err != nil {
		return signed{}, fmt.Errorf("relay's record: key of the signer: %w", err)
	}
	if signer != pr.PeerID {
		return signed{}, fmt.Errorf("relay's record: about %s, signed by %s", pr.PeerID, signer)
	}
	return signed{peer.AddrInfo{ID: pr.PeerID, Addrs: pr.Addrs}, pr.Seq, data}, nil
}

// sealRecord signs that h is at addrs, now.
func sealRecord(h host.Host, addrs []ma.Multiaddr) (signed, error) {
	key := h.Peerstore().PrivKey(h.ID())
	if key == nil {
		return signed{}, errors.New("sign relay's record: the host has no private key")
	}
	info := peer.AddrInfo{ID: h.ID(), Addrs: addrs}
	pr := peer.PeerRecordFromAddrInfo(info)
	env, err := record.Seal(pr, key)
	if err != nil {
		return signed{}, fmt.Errorf("sign relay's record: %w", err)
	}
	data, err := env.Marshal()
	if err != nil {
		return signed{}, fmt.Errorf("sign relay's record: %w", err)
	}
	if len(data) > MaxRecord {
		return signed{}, fmt.Errorf("sign relay's record: its %d bytes are over the %d that peers take", len(data), MaxRecord)
	}
	return signed{info, pr.Seq, data}, nil
}
