// Package discovery finds further relays, and announces this node where it is
// one. A donor joins by a short list of peers; when those are full, blocked or
// gone, it needs others, and a volunteer's relay is of no use that nobody finds.
//
//	    relay A <== gossip: "I relay, at these addresses", signed ==> relay B
//	     ^    ^                                                        |
//	     |    '-- DHT: who provides the key "relays of this mesh"? ----'
//	     |
//	exchange: "you refuse me; whom do you know?"
//	     |
//	   donor ---> relays.json: who gave me a reservation, and by which way
//
// Four sources, since each fails where another works: the DHT finds any relay
// of the mesh but needs a peer that speaks it; gossip brings news without being
// asked, but only to those who are connected; the exchange takes one round trip
// to any peer of the mesh at the moment of a refusal; the cache needs nobody.
//
// # Trust
//
// Anybody can announce anything, so what is learned here are candidates and no
// more: the handshake proves who answers, and a reservation that he relays.
// What strangers say is bounded, in memory (table), in rate (quota, report) and
// in where it can make us dial: in the public mesh only public IP addresses,
// and no names, since a name leads wherever its owner likes at that moment.
// Relays that have given us a reservation outrank all of it and are not driven
// out by it.
//
// # On the wire
//
// The mesh's prefix is /worldcompute, or /worldcompute/NAME for a private one.
// A private mesh is apart, not secret.
//
//	PREFIX/kad/1.0.0        the DHT (libp2p kad-dht); relays are providers of
//	                        sha2-256("PREFIX/relays/1"); no values are kept
//	PREFIX/meshsub/1.1.0    gossip (libp2p gossipsub), topic PREFIX/relays/1
//	PREFIX/relays/1.0.0     the exchange
//
// A gossip message is one byte, the version 1, and a record: a libp2p signed
// envelope (domain "libp2p-peer-record") of the relay's own peer record, at most
// MaxRecord bytes with at most MaxAddrs addresses. Messages carry no author,
// sequence number or signature of gossipsub's own; their ID is the first 16
// bytes of their SHA-256.
//
// In an exchange the asking peer opens a stream, writes one CBOR map and closes
// its writing side; the other writes one CBOR map and closes:
//
//	{"max": 16}               how many are wanted; MaxAnswer at most are given
//	{"relays": [h'...', ...]} as many records, as above, of relays that the
//	                          answering peer is connected to or has just heard of
//
// Unknown keys are ignored. See libp2p/specs kad-dht, pubsub/gossipsub, RFC
// 0002 (signed envelopes), RFC 0003 (peer records).
package discovery
