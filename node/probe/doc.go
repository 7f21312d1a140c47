// Package probe looks at a network from inside: it takes every address of a
// bootstrap list layer by layer as far as it goes, and writes down each layer as one
// record of a netcheck.Report. It judges nothing.
//
//	name of the list
//	   | resolve      system, UDP, TCP, DoT, DoH: each is asked by itself
//	   v
//	address ---+--- directly ------+--- connect ---------------------+
//	           +--- each proxy ----+--- proxy -----------------------+
//	           |                                                     v
//	           |    security <- multistream <- (upgrade <- tls, for WebSocket)
//	           |       |
//	           |       +-> muxer -+-> identify -> reserve -> keepalive
//	           +--- quic ---------+
//
// A way ends at the first layer that fails. What that failure could mean is then
// told apart beside it: other bytes to the same address (harmless), smaller packets
// (size), other UDP to the same port (datagram). And there is what belongs to no
// address: a captive portal, the clock, an address at which nobody is.
//
// Everything is done with an identity and sockets made for it, so that a daemon that
// runs meanwhile is not disturbed, and none is needed.
package probe
