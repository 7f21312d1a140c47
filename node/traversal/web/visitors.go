package web

import (
	"net"
	"net/netip"
	"sync"
)

// visitors counts the connections of a port that are in use for something else than
// WebSockets, in all and by where they come from. The zero value is none.
type visitors struct {
	mu   sync.Mutex // guards the fields below
	all  int
	from map[netip.Prefix]int
}

// enter returns false when there are too many, in all or from there.
func (v *visitors) enter(a net.Addr) bool {
	place := placeOf(a)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.all >= maxWeb || v.from[place] >= maxWebFrom {
		return false
	}
	if v.from == nil {
		v.from = map[netip.Prefix]int{}
	}
	v.all++
	v.from[place]++
	return true
}

// leave is for one that has entered.
func (v *visitors) leave(a net.Addr) {
	place := placeOf(a)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.all--
	if v.from[place]--; v.from[place] == 0 {
		delete(v.from, place)
	}
}

// placeOf is what counts as one address: of IPv6 the /56 that a customer has at
// least, as for libp2p's connections. The zero Prefix is that of all without an IP.
func placeOf(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 56
	}
	place, _ := ip.Prefix(bits)
	return place
}
