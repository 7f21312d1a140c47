package check

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/wire"
)

// egress is the public addresses that others saw a host come from, each with the
// lines of the trace that say so.
type egress map[netip.Addr][]uint64

// egressOf collects what others saw of a host: the peers of its node, the relays
// of the inventory, and the peers that its probes reached.
func (h *history) egressOf(x *host) egress {
	seen := egress{}
	for _, e := range x.of(wire.ObservedAddr) {
		seen.add(e.Addr, e.line)
	}
	for _, r := range h.hosts {
		if r.Role != "relay" {
			continue
		}
		for _, e := range r.of(wire.ConnOpened) {
			if x.is(e.Peer) && e.Direction == "inbound" {
				seen.add(e.Remote, e.line)
			}
		}
	}
	for _, p := range h.probes {
		if p.host == x.Name && p.result.Outcome == wire.OK {
			seen.add(p.result.Observed, p.seq)
		}
	}
	return seen
}

// add takes an address that somebody saw, unless it is one of a circuit, or one
// that says nothing about the way out.
func (g egress) add(addr string, line uint64) {
	a, ok := parseAddr(addr)
	if ok && a.transport != "circuit" {
		g.addIP(a.ip, line)
	}
}

func (g egress) addIP(ip netip.Addr, line uint64) {
	if public(ip) {
		g[ip] = append(g[ip], line)
	}
}

// carrierNAT is RFC 6598's shared address space.
var carrierNAT = netip.MustParsePrefix("100.64.0.0/10")

func public(ip netip.Addr) bool {
	return ip.IsValid() && ip.IsGlobalUnicast() && !ip.IsPrivate() && !carrierNAT.Contains(ip)
}

// site is what an egress address has in common with others of its site: all of
// an IPv4 address, the first 56 bits of an IPv6 one, since a site of ordinary
// size is given that much (RFC 6177).
func site(ip netip.Addr) netip.Prefix {
	bits := 32
	if ip.Is6() {
		bits = 56
	}
	p, _ := ip.Prefix(bits) // bits fit, by the lines above
	return p
}

// sharedEgress are addresses of a whose site is one of b's.
func sharedEgress(a, b egress) []netip.Addr {
	var shared []netip.Addr
	for ip := range a {
		for other := range b {
			if site(ip) == site(other) {
				shared = append(shared, ip)
				break
			}
		}
	}
	slices.SortFunc(shared, netip.Addr.Compare)
	return shared
}

func (g egress) families() map[string]bool {
	out := map[string]bool{}
	for ip := range g {
		out[family(ip)] = true
	}
	return out
}

// lines are the first lines that say of each address that it was seen.
func (g egress) lines() []uint64 {
	var out []uint64
	for _, l := range g {
		out = append(out, l[0])
	}
	return out
}

func (g egress) String() string {
	var ips []netip.Addr
	for ip := range g {
		ips = append(ips, ip)
	}
	slices.SortFunc(ips, netip.Addr.Compare)
	words := make([]string, len(ips))
	for i, ip := range ips {
		words[i] = ip.String()
	}
	return strings.Join(words, ", ")
}

// otherEgress makes sure that donor and submitter leave for the internet at
// different places. Otherwise nothing between them has been crossed.
func (h *history) otherEgress(f *finding, donor, submitter *host) (ok bool) {
	ofDonor, ofSubmitter := h.egressOf(donor), h.egressOf(submitter)
	for _, x := range []struct {
		host *host
		seen egress
	}{{donor, ofDonor}, {submitter, ofSubmitter}} {
		if len(x.seen) == 0 {
			f.lack("Nobody saw a public address of %s.", x.host.Name)
		}
	}
	if len(ofDonor) == 0 || len(ofSubmitter) == 0 {
		return false
	}
	f.cite(ofDonor.lines()...)
	f.cite(ofSubmitter.lines()...)
	if shared := sharedEgress(ofDonor, ofSubmitter); len(shared) > 0 {
		f.lack("%s and %s leave for the internet from the same place, %s: they are not on different networks.", donor.Name, submitter.Name, shared[0])
		return false
	}
	for fam := range ofDonor.families() {
		if ofSubmitter.families()[fam] {
			return true
		}
	}
	f.lack("%s was seen only at %s, %s only at %s: they cannot be compared.", donor.Name, ofDonor, submitter.Name, ofSubmitter)
	return false
}

// failureOf names the failure of a probe.
func failureOf(p probe) string { return word(p.result.Failure, "unnamed failure") }

func word(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// probesFor gives the probes of one purpose that a host made.
func (h *history) probesFor(x *host, purpose evidence.Purpose) []probe {
	var out []probe
	for _, p := range h.probes {
		if p.host == x.Name && p.Purpose == purpose {
			out = append(out, p)
		}
	}
	return out
}
