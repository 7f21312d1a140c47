package localnet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// macPatience bounds the wait for a gateway that the system has not spoken with
// lately to tell its hardware address. In a wired network that takes less than a
// millisecond; the kernel itself asks three times, a second apart.
const macPatience = 500 * time.Millisecond

// Fingerprint names the network that this machine is in: 32 hexadecimal
// characters, the same after a restart in the same network, others in another
// network, and "" when the machine is in none.
//
// It is a hash of the gateway's address and hardware address, the own subnet,
// and the DNS servers and search domains; of IPv4 where both families lead out,
// since what IPv6 tells arrives later and changes more often. So it names no
// place to a reader, though somebody who has seen the same network from inside
// could compute it. In a network without a way out (one with a proxy, say) the
// subnets stand for it.
//
// Just after a change, name servers may be missing that come a moment later:
// take it anew when something is to be remembered. An error means that the
// system does not tell.
func Fingerprint(ctx context.Context) (string, error) {
	s, err := look()
	if err != nil {
		return "", fmt.Errorf("fingerprint the network: %w", err)
	}
	return placeOf(ctx, s).id(), nil
}

// place is what a network is told by. Two places that are equal are the same.
type place struct {
	gateway, mac    string
	subnets         []string
	servers, search []string // of DNS
}

func placeOf(ctx context.Context, s survey) place {
	if len(s.ways) == 0 {
		return place{subnets: s.subnets()}.withDNS("")
	}
	w := s.ways[0]
	p := place{gateway: addrText(w.gateway), mac: gatewayMAC(ctx, w)}.withDNS(w.family)
	// The subnets of IPv6 that a provider hands out change from day to day. The
	// gateway's hardware address does not.
	if w.subnet.IsValid() && (w.family == ipv4 || p.mac == "") {
		p.subnets = []string{w.subnet.String()}
	}
	return p
}

func (s survey) subnets() []string {
	var out []string
	for _, l := range s.links {
		for _, a := range l.addrs {
			out = append(out, a.Masked().String())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// id is "" for a place of which nothing but name servers is known: they are
// what is left in a file from the last network.
func (p place) id() string {
	if p.gateway == "" && p.mac == "" && len(p.subnets) == 0 {
		return ""
	}
	lines := []string{"wce2e network 1", p.gateway, p.mac}
	for _, list := range [][]string{p.subnets, p.servers, p.search} {
		lines = append(lines, strings.Join(list, " "))
	}
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	return hex.EncodeToString(sum[:16])
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// discard is where a packet goes that has no purpose but to be sent (RFC 863).
const discard = 9

// greet sends the gateway an empty packet, so that the system finds out its
// hardware address. Whether it arrives does not matter.
func greet(gateway netip.Addr, link string) error {
	if gateway.Is6() && gateway.IsLinkLocalUnicast() {
		gateway = gateway.WithZone(link)
	}
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(gateway, discard)))
	if err != nil {
		return fmt.Errorf("greet the gateway: %w", err)
	}
	_, err = c.Write(nil)
	return errors.Join(err, c.Close())
}
