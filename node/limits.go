package node

import (
	"math"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/network"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	basicmgr "github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/x/rate"
	"github.com/pbnjay/memory"
)

// The library allows 8 connections of one IPv4 address and 0.2 new ones a
// second, both ways, and counts a circuit under its relay's address: a donor
// could be reached by seven peers at once, and a relay could serve eight donors
// behind one NAT. These bounds fit whole institutions behind one address, and
// still stop one address from taking all.
const (
	donorConnsPerIP = 256
	relayConnsPerIP = 8192
	donorConnRate   = 20  // new connections a second from one address, after the burst
	relayConnRate   = 200 // a relay that restarts gets all its donors back at once
	donorConnBurst  = 256
	relayConnBurst  = 8192
)

// Watermarks of the connection manager: above high it closes the least wanted
// connections until low are left, sparing those younger than connGrace. The
// library's 160/192 would cut a relay's reservations down to 160, which it tags
// but does not protect.
const (
	donorConnsLow, donorConnsHigh = 160, 192
	relayConnsLow, relayConnsHigh = 16384, 20480
	connGrace                     = time.Minute
)

// How many connections may come in at once of which is not known yet whose they are:
// on a donor, more than one address may have of any kind. By TCP one address gets a
// quarter, on a relay enough for the 1,000 donors of a campus, all at once.
const (
	donorHandshakes = 384
	relayHandshakes = 4096
)

func handshakesPerAddress(forRelay bool) int {
	if forRelay {
		return relayHandshakes / 4
	}
	return donorHandshakes / 4
}

// newResourceManager bounds what peers can make the node spend.
func newResourceManager(forRelay bool) (network.ResourceManager, error) {
	limits := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&limits)
	concrete := donorResources(limits.AutoScale())
	perIP, perSecond, burst := donorConnsPerIP, donorConnRate, donorConnBurst
	if forRelay {
		concrete = relayResources()
		perIP, perSecond, burst = relayConnsPerIP, relayConnRate, relayConnBurst
	}
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(concrete),
		rcmgr.WithMetricsDisabled(),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: perIP}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: perIP}, {PrefixLength: 48, ConnCount: 8 * perIP}}),
		rcmgr.WithConnRateLimiters(connRates(rate.Limit{RPS: float64(perSecond), Burst: burst})))
}

// connRates limits new connections per address (IPv6: per /56), except on
// loopback, where everything is one address.
func connRates(limit rate.Limit) *rate.Limiter {
	return &rate.Limiter{
		NetworkPrefixLimits: []rate.PrefixLimit{
			{Prefix: netip.MustParsePrefix("127.0.0.0/8")},
			{Prefix: netip.MustParsePrefix("::1/128")},
		},
		SubnetRateLimiter: rate.SubnetLimiter{
			IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: limit}},
			IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 56, Limit: limit}},
			GracePeriod:      time.Minute,
		},
	}
}

// relayMemory is what all connections and circuits of a relay may take
// together, in bytes: half of the machine's, or of what GOMEMLIMIT says where
// that is less, as in a container. The other half is for what the library does
// not count: connections that are idle, TLS, the kernel's buffers, garbage.
func relayMemory() int64 {
	memory := min(int64(min(memory.TotalMemory(), math.MaxInt64)), debug.SetMemoryLimit(-1))
	if memory <= 0 { // no telling
		memory = 1 << 30
	}
	return memory / 2
}

// donorRelayMemory is what the circuits of a donor that relays beside its work
// may take, in bytes: 256 of them.
const donorRelayMemory = 256 * 2 * relayBuffer

// donorResources keeps the relay of a donor small, and has room for more connections
// than the connection manager keeps: below 16 GiB the library refuses new ones before
// there is anything to trim, and idle ones of strangers would stay for ever. All else
// is left at the library's defaults.
func donorResources(defaults rcmgr.ConcreteLimitConfig) rcmgr.ConcreteLimitConfig {
	return rcmgr.PartialLimitConfig{
		System:    rcmgr.ResourceLimits{Conns: rcmgr.Unlimited, ConnsInbound: 2*donorConnsHigh + donorHandshakes},
		Transient: rcmgr.ResourceLimits{Conns: rcmgr.Unlimited, ConnsInbound: donorHandshakes, FD: rcmgr.Unlimited},
		Service:   map[string]rcmgr.ResourceLimits{relay.ServiceName: {Memory: donorRelayMemory}},
	}.Build(defaults)
}

// What a circuit may take of a relay, in bytes: its buffers, which the library books
// for the relay service, and a window at each end, of which the books may know
// nothing (see thriftyMuxer, and QUIC). So the service gets that part of the memory
// which its buffers are of the circuits.
const (
	circuitBuffers = 2 * relayBuffer
	circuitMemory  = circuitBuffers + 2*initialWindow
)

// relayResources bounds a relay by memory and by what one peer may take.
// Everything else would only refuse donors that the memory could carry.
func relayResources() rcmgr.ConcreteLimitConfig {
	memory := rcmgr.LimitVal64(relayMemory())
	return rcmgr.PartialLimitConfig{
		System: rcmgr.ResourceLimits{Memory: memory},
		// Handshakes under way: bounded, so that half-open connections cannot
		// take all of it.
		Transient: rcmgr.ResourceLimits{Conns: rcmgr.Unlimited, ConnsInbound: relayHandshakes, ConnsOutbound: 256, Memory: memory / 4},
		PeerDefault: rcmgr.ResourceLimits{
			Conns: 32, ConnsInbound: 32, ConnsOutbound: 32,
			Streams: 2048, StreamsInbound: 1024, StreamsOutbound: 1024,
			// The windows of all circuits that one peer may have fit, with room to
			// spare: a muxer that gets no memory ends the connection.
			Memory: max(memory/8, 96<<20),
		},
		Service: map[string]rcmgr.ResourceLimits{relay.ServiceName: {Memory: memory * circuitBuffers / circuitMemory}},
	}.Build(rcmgr.InfiniteLimits)
}

func newConnManager(forRelay bool) (connmgr.ConnManager, error) {
	low, high := donorConnsLow, donorConnsHigh
	if forRelay {
		low, high = relayConnsLow, relayConnsHigh
	}
	return basicmgr.NewConnManager(low, high, basicmgr.WithGracePeriod(connGrace))
}
