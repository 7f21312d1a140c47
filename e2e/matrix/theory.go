package matrix

import "github.com/worldcompute/wce2e/e2e/lab"

// Punchable tells whether, by theory, a direct connection can come about between
// a donor and a submitter behind these NATs, once both have learnt from the relay
// how the other is seen (DCUtR).
//
// Both send at the same time, each to where the relay sees the other. What X
// sends gets through to Y if Y's NAT lets it in there:
//
//   - it lets in anybody (full cone);
//   - or Y has sent from that very mapping to X, which takes a mapping that is
//     the same for all (endpoint-independent), and X is who Y has sent to: the
//     same address, and where the filter looks at ports, the same port.
//
// One direction is enough, for either end may be the one that dials. With QUIC it
// is the submitter at first, and the donor at the third and last attempt: where
// only the donor's packets get through, it takes 10 s longer (measured: 10.7 s in
// place of 0.4 s).
func Punchable(donor, submitter lab.NAT) bool {
	return getsThrough(submitter, donor) || getsThrough(donor, submitter)
}

// MayCollide tells whether a direct TCP connection that theory promises may fail by
// chance. At the last attempt the donor dials as well as the submitter; where only its
// packets get through, their SYNs do not meet. But from a pool, the donor's may leave by
// just the address to which the submitter's are sent: the two open one connection
// (RFC 9293, section 3.5), on which both begin the handshake, and nobody answers
// (seen: nat-pool x full-cone, "noise: message is too short").
func MayCollide(donor, submitter lab.NAT) bool {
	return donor.Pool && !getsThrough(submitter, donor)
}

func getsThrough(from, to lab.NAT) bool {
	if to.Filtering == "" || to.Filtering == lab.EndpointIndependent {
		return true
	}
	if to.Mapping == lab.PortDependent {
		return false // it has sent from another mapping
	}
	if to.Filtering == lab.AddressDependent {
		return !from.Pool
	}
	return from.Mapping != lab.PortDependent
}
