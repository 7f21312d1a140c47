package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/worldcompute/wce2e/node/netcheck"
)

// What one look tells of a NAT, in the words of RFC 4787. It is taken of IPv4 only:
// with IPv6 there are addresses for all.
//
//	one socket ──┬──► a server, which sees it at X        X = Y: one mapping for all
//	             └──► another one, which sees it at Y     else: another for everybody
//
// Servers do not have to be in league for that, as those of RFC 5780, section 4.3,
// are: two that have nothing to do with each other have different addresses as well.

// Hairpinning is given this long: the router that turns packets around may be a
// carrier's, and a mobile network's round trip away. Several are sent, since the first
// ones find filters that the other end has not opened yet.
const (
	hairpinFor   = 1500 * time.Millisecond
	hairpinAgain = 200 * time.Millisecond
)

// lookAtNAT asks the STUN servers that are known to answer.
func (p *prober) lookAtNAT(ctx context.Context, local netcheck.Local) {
	servers := p.differentServers()
	if len(servers) < 2 {
		return
	}
	one, err := towards(servers[0])
	if err != nil {
		p.log.Debug("look at the NAT", "err", err)
		return
	}
	defer one.Close()
	outside, ok := p.outsideOf(ctx, one, servers[:2])
	if !ok || isOwn(local, outside.Addr()) {
		return // there is no outside by which neighbours might be reached
	}
	p.tryHairpin(ctx, end{one, outside}, servers[:2])
}

// outsideOf is where all servers see a socket.
func (p *prober) outsideOf(ctx context.Context, socket *countedUDP, servers []netip.AddrPort) (netip.AddrPort, bool) {
	seen := p.mappings(ctx, socket, servers)
	if len(seen) < len(servers) || len(slices.Compact(seen)) > 1 {
		return netip.AddrPort{}, false
	}
	return seen[0], true
}

// differentServers are STUN servers that answered, one for each IPv4 address.
func (p *prober) differentServers() (list []netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.answered {
		if s.Addr().Is4() && !slices.ContainsFunc(list, func(o netip.AddrPort) bool { return o.Addr() == s.Addr() }) {
			list = append(list, s)
		}
	}
	return list
}

// towards is a socket at the address from which a server is reached. A machine in
// several networks would else be seen at several addresses for that reason alone.
func towards(server netip.AddrPort) (*countedUDP, error) {
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(server)) // nothing is sent
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return newCountedUDP("udp4", &net.UDPAddr{IP: c.LocalAddr().(*net.UDPAddr).IP})
}

// mappings are where servers see a socket, in the order of the servers, up to the
// first that does not answer. The records of one socket are one transaction.
func (p *prober) mappings(ctx context.Context, socket *countedUDP, servers []netip.AddrPort) (seen []netip.AddrPort) {
	t := p.transaction(netcheck.Record{Target: -1, Proto: "stun"})
	t.traffic = socket.traffic
	for _, server := range servers {
		t.shared.Addr = server.String()
		err := t.step(ctx, netcheck.Mapping, p.layer, func(ctx context.Context, r *netcheck.Record) error {
			q, err := newBinding()
			if err != nil {
				return err
			}
			at, err := socket.ask(ctx, server, q)
			if err == nil {
				r.Facts.Observed = at.String()
				seen = append(seen, at)
			}
			return err
		})
		if err != nil {
			break // the record has the error
		}
	}
	return seen
}

// ask asks a server where it sees us, until it answers. An answer to an earlier
// question, which was asked more than once, is none to this one.
func (c *countedUDP) ask(ctx context.Context, server netip.AddrPort, q *binding) (at netip.AddrPort, err error) {
	for ctx.Err() == nil {
		if _, err := c.WriteTo(q.Raw, net.UDPAddrFromAddrPort(server)); err != nil {
			return netip.AddrPort{}, err
		}
		_ = c.SetReadDeadline(time.Now().Add(datagramAgain)) // of a socket that is open
		_, err = c.await(func(in []byte) bool {
			var other error
			at, other = q.seen(in)
			return other == nil
		})
		if err == nil {
			return at, nil
		}
	}
	return netip.AddrPort{}, ctx.Err()
}

// await reads until a datagram fits, and tells from where it came, or until the time
// for reading is over. Errors that some systems report meanwhile are ICMP's, about
// what was sent: they do not keep others from coming.
func (c *countedUDP) await(fits func([]byte) bool) (netip.AddrPort, error) {
	in := make([]byte, 2048)
	for {
		n, from, err := c.ReadFrom(in)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
			return netip.AddrPort{}, err
		case err == nil && fits(in[:n]):
			return from.(*net.UDPAddr).AddrPort(), nil
		}
	}
}

// isOwn tells whether an address is one of this machine's: then there is no NAT.
func isOwn(local netcheck.Local, addr netip.Addr) bool {
	return slices.ContainsFunc(local.Addrs, func(text string) bool {
		p, err := netip.ParsePrefix(text)
		return err == nil && p.Addr() == addr
	})
}

// end is a socket that knows its outside.
type end struct {
	*countedUDP
	outside netip.AddrPort
}

// tryHairpin tells whether the NAT turns around what one socket of ours sends to the
// outside of another one's mapping, as every NAT has to (RFC 4787, section 6, REQ-9).
// It is how neighbours behind one NAT would reach each other by what strangers know
// of them (RFC 5780, section 3.4).
//
// The other one is asked about by all servers as well: a NAT that draws ports for
// everybody draws the same one twice, now and then.
func (p *prober) tryHairpin(ctx context.Context, one end, servers []netip.AddrPort) {
	socket, err := towards(servers[0])
	if err != nil {
		p.log.Debug("try to reach a neighbour by the outside", "err", err)
		return
	}
	defer socket.Close()
	outside, ok := p.outsideOf(ctx, socket, servers)
	if !ok {
		return
	}
	other := end{socket, outside}
	t := p.transaction(netcheck.Record{Target: -1, Proto: "udp", Addr: other.outside.String()})
	t.traffic = func() (sent, received int64) {
		s1, r1 := one.traffic()
		s2, r2 := other.traffic()
		return s1 + s2, r1 + r2
	}
	_ = t.step(ctx, netcheck.Hairpin, hairpinFor, func(ctx context.Context, r *netcheck.Record) error {
		from, err := turnedAround(ctx, one, other)
		if err == nil {
			r.Facts.Observed = from.String()
		}
		return err
	}) // the record has the error
}

// turnedAround has two sockets send to each other's outside until something arrives
// at one of them, and tells from where it came.
func turnedAround(ctx context.Context, one, other end) (netip.AddrPort, error) {
	word := make([]byte, 16)
	rand.Read(word) // never fails
	came := make(chan netip.AddrPort, 2)
	var listening sync.WaitGroup
	defer listening.Wait()
	for _, e := range []end{one, other} {
		_ = e.SetReadDeadline(time.Time{}) // of a socket that is open, as below
		listening.Go(func() {
			from, err := e.await(func(in []byte) bool { return bytes.Equal(in, word) })
			if err == nil {
				came <- from
			}
		})
		defer func() { _ = e.SetReadDeadline(time.Now()) }() // ends the listening
	}
	again := time.NewTicker(hairpinAgain)
	defer again.Stop()
	for {
		_, err1 := one.WriteTo(word, net.UDPAddrFromAddrPort(other.outside))
		_, err2 := other.WriteTo(word, net.UDPAddrFromAddrPort(one.outside))
		if err := errors.Join(err1, err2); err != nil {
			return netip.AddrPort{}, err
		}
		select {
		case from := <-came:
			return from, nil
		case <-ctx.Done():
			return netip.AddrPort{}, ctx.Err()
		case <-again.C:
		}
	}
}
