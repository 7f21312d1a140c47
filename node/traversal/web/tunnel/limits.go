package tunnel

import "time"

// What one session may hold and ask for.
const (
	// windowSize is how much of each direction each end keeps: bytes that were
	// not acknowledged, or not read. It is what can be on the way, so that 100 ms
	// of round trip let 10 MiB/s through.
	windowSize = 1 << 20
	// maxBody is the largest up. Gateways that look for viruses hold it back until
	// it is complete, and some refuse large ones; 64 kbit/s carry it in 16 s.
	maxBody = 128 << 10
	// maxFrame is the largest 'D'.
	maxFrame = 64 << 10
	// maxUps are on the way at once; with the down and an acknowledgement these
	// are the six connections that a browser makes to one server.
	maxUps = 4
	// maxConns is that number of connections, over HTTP/1.1.
	maxConns = maxUps + 2
	// maxServedUps is what the server takes of one session at once: a client that
	// gave up on a request and repeats it may have several of each.
	maxServedUps = 4 * maxConns
)

// What all sessions of one server may take.
const (
	// maxSessions is more than a relay with a thousand donors has, all of which
	// would have to sit behind gateways of the worst kind.
	maxSessions = 2048
	// maxBuffered is the memory that all windows together may take before each
	// is cut down to leanWindow: 64 busy sessions with both windows full.
	maxBuffered = 128 << 20
	leanWindow  = 64 << 10
)

// How long things may take.
const (
	// streamFor ends a streamed answer before gateways do that cut at a minute.
	streamFor = 50 * time.Second
	// pollFor is how long a poll waits: less than the 30 s after which some
	// gateways take a silent server for a dead one.
	pollFor = 20 * time.Second
	// turnFor is how long an up waits for those before it, or for room.
	turnFor = 10 * time.Second
	// bodyFor bounds the reading of one up: maxBody at 32 kbit/s, about.
	bodyFor = 40 * time.Second
	// writeFor bounds each write of an answer: a client that is gone is found out,
	// one on a satellite link that loses packets is not taken for it.
	writeFor = 30 * time.Second
	// idleFor is how long a session lives without a request. Between two downs
	// there is one round trip; a client that gave up stays away for good.
	idleFor = 20 * time.Second
	// retryFor is how long a client repeats a request before the session is
	// taken for broken: what runs inside notices a dead path in ten seconds, too.
	retryFor = 10 * time.Second
	// retryFirst and retryMost are the pauses before the second and all later tries.
	retryFirst, retryMost = 50 * time.Millisecond, time.Second
	// upFor bounds one up: its way up, its wait, and its answer.
	upFor = bodyFor + turnFor + 10*time.Second
	// firstByteFor is how long a streamed answer may hold back its first bytes,
	// beyond three times what open took (which had to connect, too). After that a
	// gateway is taken to hold it back until it is complete.
	firstByteFor = 2 * time.Second
	// idleConnFor is how long an unused connection is kept: less than the 20 s
	// after which the strictest gateways forget it without a word.
	idleConnFor = 15 * time.Second
	// closeFor is how long an end that was closed goes on delivering.
	closeFor = 5 * time.Second
)
