package lab

import "time"

// Truth is what a profile does to a donor behind it: what runs and diagnoses are
// graded against. It follows from how the profile is built, not from what a donor
// was seen to do there. The submitter is at home (profile home), and the relay
// listens on TCP and QUIC 4001, WebTransport, and WebSocket over TLS on 443.
type Truth struct {
	// Ways are the transports by which a donor reaches a relay, as
	// node/wire.TransportOf names them. None: it cannot join.
	Ways []string
	// Direct are those by which the relayed connection can be upgraded to a direct
	// one. None: it stays relayed.
	Direct []string
	// Verdicts are those of the claims that do not pass, by claim: fail or
	// inconclusive.
	Verdicts map[string]string
	// Lifetime is how long a connection lasts at most. A longer hold fails. 0: for
	// ever.
	Lifetime time.Duration
	// Events happen to the network during a run, at its hold.
	Events []Event
	// Causes are what a diagnosis finds, none of them where nothing is in the way.
	Causes []string
}

// Event is something that a network does by itself.
type Event struct {
	After time.Duration // since the start of the run's hold
	Do    string        // a fault's name, as inventories write it
}
