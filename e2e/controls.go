package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/wire"
)

const (
	// dialTimeout is longer than the transports' own (TCP 5 s, QUIC 5 s,
	// security negotiation 15 s), so that their reasons arrive.
	dialTimeout = 20 * time.Second
	// maxNegative bounds the donor's addresses that the submitter tries: a NAT
	// with a pool shows another one to each peer.
	maxNegative = 16
)

// probe is one dial to be made from a host.
type probe struct {
	from      *host
	purpose   evidence.Purpose
	phase     evidence.Phase
	transport string
	blocked   string
	addr      string // with /p2p/<peer>
}

// dial carries out a probe and writes down what came of it.
func (r *run) dial(ctx context.Context, p probe) (wire.DialResult, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout+quickTimeout)
	defer cancel()
	var result wire.DialResult
	res, err := p.from.exec(ctx, "node", "dial", "--to", p.addr, "--timeout", dialTimeout.String(), "--json")
	if err != nil {
		return result, err
	}
	if err := json.Unmarshal(res.Stdout, &result); err != nil {
		return result, fmt.Errorf("node dial: exit %d: %s", res.Code, lastLine(res.Stderr))
	}
	return result, r.note(evidence.DialProbed, p.from.Name, evidence.Probe{
		Purpose: p.purpose, Phase: p.phase, Transport: p.transport, Blocked: p.blocked,
		Result: json.RawMessage(strings.TrimSpace(string(res.Stdout))),
	})
}

// controls makes the negative control and its positive ones, all at once: what
// a firewall drops takes its whole timeout.
func (r *run) controls(ctx context.Context) {
	probes := r.plan()
	err := inParallel(probes, func(p probe) error {
		_, err := r.dial(ctx, p)
		if err != nil {
			r.missed(p.from.Name, fmt.Sprintf("dial %s (%s)", p.addr, p.purpose), err)
		}
		return err
	})
	if err == nil {
		r.talk.Note(fmt.Sprintf("%d control dials made", len(probes)))
	}
}

// plan lists the controls: for every transport the donor listens on, the
// submitter tries the donor's own addresses, the donor's host tries the donor,
// and the submitter tries a relay by the same transport.
func (r *run) plan() []probe {
	donor, submitter := r.donor(), r.submitter()
	listens := listening(donor.node.said(), donor.node.peer)
	var probes []probe
	for _, a := range negativeAddrs(donor.node.said(), listens, donor.node.peer) {
		probes = append(probes, probe{from: submitter, purpose: evidence.NegativeControl, transport: transportOf(a), addr: a})
	}
	wanted := map[string]bool{}
	for _, l := range listens {
		if t := transportOf(l); !wanted[t] {
			wanted[t] = true
			probes = append(probes, probe{from: donor, purpose: evidence.LocalControl, transport: t, addr: l})
		}
	}
	for _, word := range donor.ExpectBlocked {
		t, ok := blockedTransport[word]
		if !ok {
			continue // "inbound" is the negative control itself
		}
		wanted[t] = true
		for _, a := range r.relayAddrs(t) {
			probes = append(probes, probe{from: donor, purpose: evidence.ExpectBlocked, transport: t, blocked: word, addr: a})
		}
	}
	for t := range wanted {
		for _, a := range r.relayAddrs(t) {
			probes = append(probes, probe{from: submitter, purpose: evidence.RelayControl, transport: t, addr: a})
		}
	}
	for i := range probes {
		probes[i].phase = evidence.BeforeHold
	}
	return probes
}

// blockedTransport is by which transport a word of expect_blocked is tried. The
// mesh's only protocols over UDP are QUIC's, so "udp" is tried by QUIC as well.
var blockedTransport = map[string]string{
	"udp": "quic-v1", "quic": "quic-v1", "tcp-high-ports": "tcp", "libp2p": "tcp",
}

// listening gives the donor's own direct listen addresses that can be dialled
// from its host.
func listening(events []wire.Event, peer string) []string {
	var addrs []string
	for _, e := range events {
		switch {
		case e.Kind == wire.ListenAddr && e.Relay == "":
			addrs = append(addrs, withPeer(e.Addr, peer))
		case e.Kind == wire.ListenClosed && e.Relay == "":
			addrs = slices.DeleteFunc(addrs, func(a string) bool { return a == withPeer(e.Addr, peer) })
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(addrs)))
}

// negativeAddrs are where the donor would be reached if nothing were in the
// way: the addresses that peers saw it come from, and at their IP addresses the
// ports it listens on.
func negativeAddrs(events []wire.Event, listens []string, peer string) []string {
	var addrs []string
	add := func(a string) {
		if !slices.Contains(addrs, a) && len(addrs) < maxNegative {
			addrs = append(addrs, a)
		}
	}
	var observed []string
	for _, e := range events {
		if e.Kind == wire.ObservedAddr && !strings.Contains(e.Addr, "/p2p-circuit") {
			observed = append(observed, e.Addr)
		}
	}
	for _, o := range observed {
		ip, ok := ipOf(o)
		if !ok {
			continue
		}
		for _, l := range listens {
			if at, ok := atIP(l, ip); ok {
				add(at)
			}
		}
	}
	for _, o := range observed {
		if t := transportOf(o); t == "ws" || t == "wss" {
			o = plainTCP(o) // a mapping's port, whatever was spoken through it
		}
		add(withPeer(o, peer))
	}
	return addrs
}

// relayAddrs are the relays' addresses of one transport: our own relays', else
// those that the submitter's node got through to.
func (r *run) relayAddrs(transport string) []string {
	var addrs []string
	add := func(a string) {
		if transportOf(a) == transport && !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	for _, h := range r.relays() {
		for _, a := range h.node.addrs {
			add(a)
		}
	}
	if len(addrs) > 0 {
		return addrs
	}
	for _, e := range r.submitter().node.said() {
		if e.Kind == wire.DialEnded && e.Outcome == wire.OK && e.Peer != r.donor().node.peer {
			add(withPeer(e.Addr, e.Peer))
		}
	}
	return addrs[:min(len(addrs), 2)]
}

// transportOf names the transport of a multiaddr as node/wire does.
func transportOf(addr string) string {
	has := func(proto string) bool {
		return strings.Contains(addr+"/", "/"+proto+"/")
	}
	switch {
	case has("p2p-circuit"):
		return "circuit"
	case has("webtransport"):
		return "webtransport"
	case has("quic-v1"):
		return "quic-v1"
	case has("wss"), has("tls") && has("ws"):
		return "wss"
	case has("ws"):
		return "ws"
	case has("tcp"):
		return "tcp"
	}
	return ""
}

// withPeer adds /p2p/<peer> unless the address ends in it.
func withPeer(addr, peer string) string {
	suffix := "/p2p/" + peer
	if strings.HasSuffix(addr, suffix) {
		return addr
	}
	return addr + suffix
}

func ipOf(addr string) (netip.Addr, bool) {
	m, err := ma.NewMultiaddr(addr)
	if err != nil {
		return netip.Addr{}, false
	}
	for _, code := range []int{ma.P_IP4, ma.P_IP6} {
		if v, err := m.ValueForProtocol(code); err == nil {
			ip, err := netip.ParseAddr(v)
			return ip, err == nil
		}
	}
	return netip.Addr{}, false
}

// atIP is a listen address moved to another IP address of the same family.
func atIP(listen string, ip netip.Addr) (string, bool) {
	old, ok := ipOf(listen)
	if !ok || old.Is4() != ip.Is4() {
		return "", false
	}
	return strings.Replace(listen, "/"+old.String()+"/", "/"+ip.String()+"/", 1), true
}

// plainTCP cuts a multiaddr after its TCP port.
func plainTCP(addr string) string {
	parts := strings.Split(addr, "/") // "", ip4, A, tcp, P, ...
	return strings.Join(parts[:min(len(parts), 5)], "/")
}
