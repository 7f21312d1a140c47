// Package web is the transport for everything that goes out as web traffic:
// what is left where a firewall lets nothing else through.
//
//	/ip4/…/tcp/80/ws                     WebSocket
//	/ip4/…/tcp/443/tls/ws                WebSocket over TLS
//	/ip4/…/tcp/443/tls/sni/NAME/ws       the same, to a server that has a name
//	/ip4/…/tcp/443/tls/http              ordinary HTTPS requests (see package tunnel),
//	/ip4/…/tcp/443/tls/sni/NAME/http       for where Upgrade is stripped
//	/ip4/…/tcp/80/http
//
// One port serves all that share it, and an ordinary web page beside them:
//
//	            a donor's firewall, proxy,      one port of a relay
//	            inspector of TLS
//	                    |                  .--> Upgrade: WebSocket  --.
//	donor --- TCP --- TLS? --- HTTP -------+--> /libp2p-tunnel/…    --+--> libp2p
//	                    |                  '--> anything else: the page
//
// Inside each of them libp2p's own handshake proves who the peer is. TLS and HTTP
// are there to pass; a certificate that does not verify does not end a dial.
// What was seen of it is kept (see Outer), for the node to judge.
//
// It speaks with the library's own WebSocket transport in both directions. It is
// in its place because that one ignores the dial's context where there is a name,
// drops the status of an answer, knows proxies from the environment only, and keeps
// a connection of the page's visitors in the books as a libp2p one.
//
// A trap: the swarm takes /tcp/443/tls/http for raw TCP, for whose sake it does
// not dial /tcp/443/tls/ws of the same peer. Do not advertise the one beside the
// other; who can dial /tls/ws can put together the address of the tunnel.
package web
