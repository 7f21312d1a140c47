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

	"github.com/worldcompute/wce2e/e2e/check"
	"github.com/worldcompute/wce2e/e2e/remote"
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
func (r *run) controls(ctx context.Context) error {
	if err := r.submitterOut(ctx); err != nil {
		r.missed(r.submitter().Name, "controls", err)
		return nil
	}
	probes := r.plan()
	inParallel(probes, func(p probe) error {
		if _, err := r.dial(ctx, p); err != nil {
			r.missed(p.from.Name, fmt.Sprintf("dial %s (%s)", p.addr, p.purpose), err)
		}
		return nil
	})
	r.talk.Note(fmt.Sprintf("%d control dials made", len(probes)))
	return r.clearOfClocks(ctx)
}

// clearOfClocks waits for as long as the hosts' clocks may be wrong. What comes
// next, a hole punch by a circuit, say, is then after the controls by anybody's
// clock; with fast hosts it came within a second of them, and the controls were
// void.
func (r *run) clearOfClocks(ctx context.Context) error {
	wrong := 0.0
	for _, h := range r.hosts {
		wrong = max(wrong, h.facts.ClockErrorMS)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(check.ClockSlack + time.Duration(wrong*float64(time.Millisecond)) + clearance):
		return nil
	}
}

// clearance is for the write of the last control's result, which carries its time.
const clearance = 200 * time.Millisecond

// submitterOut waits until the submitter's node has reached anybody: its dials
// are what the donor's are compared with.
func (r *run) submitterOut(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, outTimeout)
	defer cancel()
	node := r.submitter().node
	return remote.Await(ctx, "the submitter's first connection", reserveEvery, func(context.Context) (bool, string, error) {
		if exit := node.ended(); exit != nil {
			return false, "", fmt.Errorf("the submitter ended: %s", describe(*exit))
		}
		events := node.said()
		return len(reached(events)) > 0, attempts(events), nil
	})
}

// outTimeout is three rounds of the slowest dials, and names that do not resolve.
const outTimeout = 60 * time.Second

// plan lists the controls: for every transport the donor listens on, the
// submitter tries the donor's own addresses, the donor's host tries the donor
// at each port, and the submitter tries a relay by the same transport.
func (r *run) plan() []probe {
	donor, submitter := r.donor(), r.submitter()
	listens := listening(donor.node.said(), donor.node.peer)
	var probes []probe
	for _, a := range negativeAddrs(donor.node.said(), listens, donor.node.peer) {
		probes = append(probes, probe{from: submitter, purpose: evidence.NegativeControl, transport: wire.TransportOf(a), addr: a})
	}
	transports, ports := map[string]bool{}, map[string]bool{}
	for _, l := range listens {
		transports[wire.TransportOf(l)] = true
		if at, _ := atIP(l, anyOf(l)); !ports[at] { // one interface is as good as another
			ports[at] = true
			probes = append(probes, probe{from: donor, purpose: evidence.LocalControl, transport: wire.TransportOf(l), addr: l})
		}
	}
	for _, word := range donor.ExpectBlocked {
		t, ok := blockedTransport[word]
		if !ok {
			continue // "inbound" is the negative control itself
		}
		transports[t] = true
		for _, a := range r.relayAddrs(t) {
			probes = append(probes, probe{from: donor, purpose: evidence.ExpectBlocked, transport: t, blocked: word, addr: a})
		}
	}
	for t := range transports {
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
		if t := wire.TransportOf(o); t == "ws" || t == "wss" {
			o = plainTCP(o) // a mapping's port, whatever was spoken through it
		}
		add(withPeer(o, peer))
	}
	return addrs
}

// perFamily bounds the addresses of strangers that are dialled as a control, of
// one transport and IP version: enough that one dead one does not matter.
const perFamily = 2

// relayAddrs are addresses of one transport at which the submitter's dials
// should work: our own relays', else those of peers that its node reached by
// any transport.
func (r *run) relayAddrs(transport string) []string {
	var addrs []string
	for _, h := range r.relays() {
		for _, a := range h.node.addrs {
			if wire.TransportOf(a) == transport {
				addrs = append(addrs, a)
			}
		}
	}
	if len(addrs) > 0 {
		return addrs
	}
	count := map[bool]int{} // is IPv4 -> addresses taken
	events := r.submitter().node.said()
	peers := reached(events)
	delete(peers, r.donor().node.peer)
	for _, a := range toldOf(events, peers) {
		ip, ok := ipOf(a)
		if ok && wire.TransportOf(a) == transport && count[ip.Is4()] < perFamily {
			count[ip.Is4()]++
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// reached are the peers that a node got through to.
func reached(events []wire.Event) map[string]bool {
	peers := map[string]bool{}
	for _, e := range events {
		if e.Kind == wire.DialEnded && e.Outcome == wire.OK {
			peers[e.Peer] = true
		}
	}
	return peers
}

// toldOf are the direct addresses of some peers that a node has heard of,
// whether it dialled them or not, with /p2p/<peer>, each once.
func toldOf(events []wire.Event, peers map[string]bool) []string {
	var addrs []string
	add := func(a, peer string) {
		a = withPeer(a, peer)
		if peers[peer] && !slices.Contains(addrs, a) && !strings.Contains(a, "/p2p-circuit") {
			addrs = append(addrs, a)
		}
	}
	for _, e := range events {
		if e.Kind == wire.DialStarted {
			add(e.Addr, e.Peer)
		}
		if e.Kind != wire.ResolveEnded {
			continue
		}
		for _, a := range e.Addrs {
			if _, peer, ok := strings.Cut(a, "/p2p/"); ok {
				add(a, peer)
			}
		}
	}
	return addrs
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

// anyOf is the unspecified address of a listen address's family.
func anyOf(listen string) netip.Addr {
	if ip, ok := ipOf(listen); ok && ip.Is6() {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// plainTCP cuts a multiaddr after its TCP port.
func plainTCP(addr string) string {
	parts := strings.Split(addr, "/") // "", ip4, A, tcp, P, ...
	return strings.Join(parts[:min(len(parts), 5)], "/")
}
