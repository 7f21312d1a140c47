package check

import (
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
)

// voucherTerms is what a reservation voucher must say.
type voucherTerms struct {
	relay, peer string    // peer IDs
	expires     time.Time // as the reservation says; zero: it does not say
	after       time.Time // when it was received: it must not have run out by then
}

// verifyVoucher verifies a reservation voucher (libp2p circuit relay v2
// specification, "Reservation Vouchers"; RFC 0002, signed envelopes): the relay's
// signature, by the key that its peer ID commits to, and the terms.
func verifyVoucher(envelope []byte, want voucherTerms) error {
	var v proto.ReservationVoucher
	e, err := record.ConsumeTypedEnvelope(envelope, &v)
	if err != nil {
		return fmt.Errorf("read the signed voucher: %w", err)
	}
	signer, err := peer.IDFromPublicKey(e.PublicKey)
	if err != nil {
		return fmt.Errorf("read the voucher's key: %w", err)
	}
	switch {
	case signer.String() != want.relay:
		return fmt.Errorf("it is signed by %s, not by the relay %s", signer, want.relay)
	case v.Relay.String() != want.relay:
		return fmt.Errorf("it is about the relay %s, not %s", v.Relay, want.relay)
	case v.Peer.String() != want.peer:
		return fmt.Errorf("it is made out to %s, not to %s", v.Peer, want.peer)
	case !v.Expiration.After(want.after):
		return fmt.Errorf("it ran out at %s, before it was received", v.Expiration.UTC().Format(time.RFC3339))
	case !want.expires.IsZero() && !sameExpiry(v.Expiration, want.expires):
		return fmt.Errorf("it runs out at %s, the reservation at %s", v.Expiration.UTC().Format(time.RFC3339), want.expires.UTC().Format(time.RFC3339))
	}
	return nil
}
