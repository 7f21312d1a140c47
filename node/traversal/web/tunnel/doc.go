// Package tunnel carries a byte stream over ordinary HTTP requests: the last way
// out of networks whose gateway opens up HTTPS, strips Upgrade (so that there is
// no WebSocket), speaks HTTP/1.1 only, holds back a request until its body is
// complete, and cuts or holds back long responses.
//
//	client                     gateway                      server
//	  | POST …/open              |                            |  a session
//	  |------------------------->|--------------------------->|
//	  | GET  …/down?off=0        |                            |  one long response, which
//	  |<=========================|<===========================|  carries what the server sends
//	  | POST …/up?off=0          |                            |
//	  |------------------------->|--------------------------->|  short requests, which carry
//	  | POST …/up?off=131072     |                            |  what the client sends,
//	  |------------------------->|--------------------------->|  up to four at a time
//
// It knows nothing of libp2p, and protects nothing: who is at the other end,
// and that nobody reads along, is for what runs inside (here Noise) to see to.
//
// # Protocol
//
// Each direction is a stream of bytes with absolute offsets that begin at 0. All
// that the protocol knows about loss and order follows from them: who sends bytes
// keeps them until they are acknowledged, bytes that were there already are
// ignored, and a request that broke is made again, at the offset reached.
//
// A session is named by 128 random bits of the client's choice, in 32 lower-case
// hex digits: ID. Requests go to /libp2p-tunnel/1/ID/, below which are
//
//	POST open                            begins a session; harmless when repeated
//	POST up?off=N&ack=M[&fin=1]          the body is the client's bytes from N on
//	GET  down?off=N&mode=stream&n=K      asks for the server's bytes from N on
//	GET  down?off=N&mode=poll&n=K        the same, in short answers
//
// Numbers are decimal. The body of an up has at most 128 KiB. ack (and the offset
// of a down) says that the client has all of the server's bytes below it. fin says
// that the client's stream ends with this body. n only makes each URL unlike all
// before, for caches. No more than four ups with bytes should be on the way at
// once; they may arrive in any order, and each waits at the server for its turn,
// ten seconds at most.
//
// The answer to open and up is status 200 with 13 bytes: "LPT1", a byte of state
// (0 open, 1: the server's end is closed and what was sent is lost), and the
// offset below which the server has everything, 8 bytes, big endian. An offset
// that is less than the end of the body sent: the rest is to be sent again.
//
// The answer to a down is status 200 with "LPT1" and then frames: a byte of kind,
// a length of 4 bytes, big endian, and so many bytes.
//
//	'D'  the next bytes of the server's stream, 1 to 65536
//	'E'  this answer is over, ask for the next one; empty
//	'F'  the server's stream is over; empty
//
// With mode=stream the answer is sent piece by piece as there is something to
// send, and ends after 50 seconds. With mode=poll the server waits up to 20
// seconds for the first byte and answers with what it has, so that even a gateway
// that holds back an answer until it is complete lets the stream pass; a client
// that does not see the first four bytes of a streamed answer soon asks that way. An
// answer that ends without 'E' or 'F' was cut: the bytes that came count. A new
// down ends the one before.
//
// Other statuses: 404 the session is not there (any more), 400 the request makes
// no sense, 429 and 503 too much is going on, later. A client makes a request that
// broke, or was answered 408, 425, 429 or 5xx, again, for ten seconds; every other
// answer ends the session. A session for which there was no request for 20
// seconds is over.
package tunnel
