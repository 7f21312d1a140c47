package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/pion/stun/v3"

	"github.com/worldcompute/wce2e/node/netcheck"
)

// Datagrams, in bytes of UDP's payload.
const (
	leastInitial = 1200 // the least that a QUIC server answers (RFC 9000, section 14.1)
	usualInitial = 1280 // what our QUIC sends first
	fullDatagram = 1452 // what fills an Ethernet's packet, with IPv6 or a PPPoE to spare
)

// datagramAgain is when a datagram is sent again that was not answered.
const datagramAgain = 600 * time.Millisecond

// StunServers are asked for our address by default: whether they answer shows
// whether UDP is alive, and what they answer which NAT we are behind. Two companies
// run them, so that they have different addresses. Both are at STUN's own port,
// which networks let out that know what it is for; Google's, which everybody knows, is
// at 19302.
var StunServers = []string{"stun.cloudflare.com:3478", "global.stun.twilio.com:3478"}

// errOther is a datagram that is no answer to what was sent.
var errOther = errors.New("the datagram that came is no answer")

// exchangeUDP sends a datagram until it is answered, and tells of ICMP errors.
func exchangeUDP(ctx context.Context, t *transaction, r *netcheck.Record, to string, out []byte, fits func([]byte) error) error {
	conn, err := new(net.Dialer).DialContext(ctx, "udp", to)
	if err != nil {
		return err
	}
	defer conn.Close()
	socket := conn.(*net.UDPConn)
	watchICMP(socket)
	c := &counted{Conn: conn}
	t.traffic = c.traffic
	in := make([]byte, 2048)
	for {
		if _, err = c.Write(out); err == nil {
			_ = c.SetReadDeadline(time.Now().Add(datagramAgain)) // of a socket that is open
			var n int
			if n, err = c.Read(in); err == nil {
				if err = fits(in[:n]); err != nil {
					r.Facts.FirstByte = c.came()
				}
				return err
			}
		}
		if what := icmpOf(socket); what != "" {
			r.ICMP = what
		}
		if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// greasedVersion is reserved for those who want to hear which versions there are
// (RFC 9000, section 15). A firewall that looks for version 1 lets it pass.
const greasedVersion = 0x1a2a3a4a

// pokeUDP tells, once for each address, whether UDP of another kind than QUIC 1
// gets to where QUIC goes, and back: also where QUIC does, so that others can compare.
//
// UDP to port 443 of the same machine is poked as well, since networks block it by
// itself. Where nobody listens there, the machine says so, by ICMP: that comes back
// only if the datagram got there.
func (p *prober) pokeUDP(ctx context.Context, w way) {
	for _, to := range []string{hostport(w.lead.addr), net.JoinHostPort(w.lead.addr[0].Value(), "443")} {
		if p.news("udp "+to) && w.routed() {
			p.work.Go(func() { p.negotiate(ctx, w, to, leastInitial) })
		}
	}
}

// negotiate sends a QUIC server a datagram of a version that does not exist, which
// it has to answer with the versions that do.
func (p *prober) negotiate(ctx context.Context, w way, to string, size int) {
	t := p.transactionOf(w)
	t.shared.Addr = to
	op := netcheck.Size
	if size == leastInitial {
		op = netcheck.Datagram
	}
	t.shared.Proto = "quic-version"
	_ = t.step(ctx, op, p.layer, func(ctx context.Context, r *netcheck.Record) error {
		r.Facts.Bytes = size
		id := make([]byte, 8)
		rand.Read(id) // never fails
		return exchangeUDP(ctx, t, r, r.Addr, versionProbe(id, size), func(in []byte) error {
			if !isNegotiation(in, id) {
				return errOther
			}
			return nil
		})
	}) // the record has the error
}

// versionProbe is a long header with a version of its own (RFC 8999, section 5.1),
// filled up to size.
func versionProbe(id []byte, size int) []byte {
	b := []byte{0xc0, byte(greasedVersion >> 24), byte(greasedVersion >> 16 & 0xff), byte(greasedVersion >> 8 & 0xff), byte(greasedVersion & 0xff)}
	b = append(b, byte(len(id)))
	b = append(b, id...) // destination
	b = append(b, byte(len(id)))
	b = append(b, id...) // source
	return append(b, make([]byte, size-len(b))...)
}

// isNegotiation tells whether a datagram is Version Negotiation (RFC 8999, section 6)
// in answer to a probe.
func isNegotiation(in, id []byte) bool {
	const head = 5 // flags and version 0
	want := append([]byte{byte(len(id))}, id...)
	return len(in) >= head+2*len(want)+4 && in[0]&0x80 != 0 && bytes.Equal(in[1:head], make([]byte, 4)) &&
		bytes.Equal(in[head:head+len(want)], want) && bytes.Equal(in[head+len(want):head+2*len(want)], want)
}

// askSTUN asks servers for our address.
func (p *prober) askSTUN(ctx context.Context, server string) {
	t := p.transaction(netcheck.Record{Target: -1, Proto: "stun", Addr: server})
	to, err := p.locate(ctx, server)
	if err != nil {
		p.log.Debug("STUN server", "addr", server, "err", err)
		return // of whom there is no address nothing was asked
	}
	t.shared.Addr = to
	err = t.step(ctx, netcheck.Datagram, p.layer, func(ctx context.Context, r *netcheck.Record) error {
		q, err := newBinding()
		if err != nil {
			return err
		}
		return exchangeUDP(ctx, t, r, to, q.Raw, func(in []byte) error {
			at, err := q.seen(in)
			if err == nil {
				r.Facts.Observed = at.String()
			}
			return err
		})
	})
	if server, bad := netip.ParseAddrPort(to); err == nil && bad == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.answered = append(p.answered, server)
	}
}

// binding is STUN's question where we are seen.
type binding struct{ *stun.Message }

func newBinding() (*binding, error) {
	q, err := stun.Build(stun.TransactionID, stun.BindingRequest)
	if err != nil {
		return nil, fmt.Errorf("make a STUN request: %w", err)
	}
	return &binding{q}, nil
}

// seen is where the server sees us, if a datagram is the answer to the question.
func (b *binding) seen(in []byte) (netip.AddrPort, error) {
	answer := &stun.Message{Raw: in}
	var at stun.XORMappedAddress
	if err := answer.Decode(); err != nil || answer.TransactionID != b.TransactionID || at.GetFrom(answer) != nil {
		return netip.AddrPort{}, errOther
	}
	ip, ok := netip.AddrFromSlice(at.IP)
	if !ok {
		return netip.AddrPort{}, errOther
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(at.Port)), nil
}

// locate finds an address on the internet for host:port, of IPv4 where there is one
// and a route to it: behind NAT64 there is none. Others are lies: networks answer every
// name with an address of their own.
func (p *prober) locate(ctx context.Context, server string) (string, error) {
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, p.question)
	defer cancel()
	found, err := p.resolver.LookupIPAddr(ctx, host)
	if err != nil {
		return "", err
	}
	found = slices.DeleteFunc(found, func(a net.IPAddr) bool {
		return net.ParseIP(host) == nil && (a.IP.IsPrivate() || !a.IP.IsGlobalUnicast())
	})
	if len(found) == 0 {
		return "", fmt.Errorf("locate %s: %w", server, netcheck.ErrNoAnswer)
	}
	routed := slices.DeleteFunc(slices.Clone(found), func(a net.IPAddr) bool {
		return hasRoute(net.JoinHostPort(a.String(), port)) != nil
	})
	if len(routed) > 0 {
		found = routed
	}
	at := max(0, slices.IndexFunc(found, func(a net.IPAddr) bool { return a.IP.To4() != nil }))
	return net.JoinHostPort(found[at].String(), port), nil
}
