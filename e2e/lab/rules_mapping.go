//go:build linux

package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// iifname "wan" meta l4proto udp dnat ip to udp dport map @mapped-udp; the same for tcp
// iifname "wan" ct status dnat accept
//
// The maps are empty until a service fills them on behalf of hosts: portMap.
var mappedPorts = rule{name: "mapped-ports", does: "ports that hosts have asked for lead to them from outside", apply: func(f *firewall) {
	for _, proto := range []transport{viaTCP, viaUDP} {
		set := mappedSet(f.table, proto)
		f.addSet(set)
		f.add(f.prerouting(), in(wan), family(unix.NFPROTO_IPV4), protocol(byte(proto)),
			load(expr.PayloadBaseTransportHeader, destinationPort, 2, 1), []expr.Any{
				&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: set.Name, SetID: set.ID},
				// Register 1 is four of 32 bits: the address is in the first, the port in the second.
				&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: unix.NFT_REG32_01},
			})
	}
	f.add(f.forward, in(wan), translatedIn(), accept())
}, proof: provesMappedPorts}

// provesMappedPorts maps a port of either protocol, and takes it away again.
func provesMappedPorts(t *trial) error {
	const outside, inside = 7001, 4001
	ports := &portMap{ns: t.router.ns}
	for _, proto := range []transport{viaTCP, viaUDP} {
		if err := ports.add(proto, mapping{outside: outside, inside: t.host.at(inside)}); err != nil {
			return err
		}
		if err := t.leadsIn(proto, outside, inside); err != nil {
			return err
		}
		if n, err := ports.remove(proto, func(m mapping) bool { return m.outside == outside }); err != nil || n != 1 {
			return fmt.Errorf("%d mappings of %s are removed: %w", n, proto, err)
		}
		if err := t.leadsNowhere(proto, outside, inside); err != nil {
			return fmt.Errorf("after its end: %w", err)
		}
		t.saw("%s port %d leads to %s, until it is taken away", proto, outside, t.host.at(inside))
	}
	return nil
}

// leadsIn is nil when what the server sends to a port of the router arrives at
// one of the host, and the answer at the server.
func (t *trial) leadsIn(proto transport, outside, inside uint16) error {
	err := t.sendIn(proto, outside, inside, answerWait)
	if err != nil {
		err = fmt.Errorf("%s port %d does not lead to the host: %w", proto, outside, err)
	}
	return err
}

// leadsNowhere is nil when it vanishes.
func (t *trial) leadsNowhere(proto transport, outside, inside uint16) error {
	if err := t.sendIn(proto, outside, inside, silence); !timedOut(err) {
		return fmt.Errorf("%s port %d leads somewhere: %w", proto, outside, orConnects(err))
	}
	return nil
}

func (t *trial) sendIn(proto transport, outside, inside uint16, wait time.Duration) error {
	to := netip.AddrPortFrom(t.egress, outside)
	if proto == viaTCP {
		l, err := t.listen(t.host, inside)
		if err != nil {
			return err
		}
		defer l.Close()
		far, err := t.dial(t.server, 0, to, wait)
		if err != nil {
			return err
		}
		near, err := t.accept(l, wait)
		if err != nil {
			return err
		}
		return flow{near, far}.alive()
	}
	near, err := t.packets(t.host, inside, netip.AddrPort{})
	if err != nil {
		return err
	}
	defer near.packet.Close()
	far, err := t.packets(t.server, 0, to)
	if err != nil {
		return err
	}
	_, from, err := far.pass(near, "a question", wait)
	if err != nil {
		return err
	}
	near.peer = from
	return near.says(far, "an answer")
}

func mappedSet(table *nftables.Table, proto transport) *nftables.Set {
	return &nftables.Set{Table: table, Name: "mapped-" + proto.String(), IsMap: true, HasTimeout: true,
		KeyType: nftables.TypeInetService, DataType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)}
}

// transport is a protocol with ports, by its number.
type transport byte

const (
	viaTCP transport = unix.IPPROTO_TCP
	viaUDP transport = unix.IPPROTO_UDP
)

func (t transport) String() string {
	if t == viaTCP {
		return "tcp"
	}
	return "udp"
}

// mapping is a port of the router that leads to one of a host.
type mapping struct {
	outside uint16
	inside  netip.AddrPort
	life    time.Duration // that is left; 0: for ever
}

// portMap has the mappings of a router. They stand in its firewall and nowhere
// else: what makes that anew, such as a reboot, ends them.
type portMap struct {
	ns netNS
	mu sync.Mutex // held from looking to changing
}

// errTaken is a port that leads to another host.
var errTaken = errors.New("the port leads to another host")

// add makes a mapping, or renews the host's own.
func (p *portMap) add(proto transport, m mapping) error {
	return p.change(proto, func(all []mapping) (gone, added []mapping, err error) {
		i := slices.IndexFunc(all, func(old mapping) bool { return old.outside == m.outside })
		if i < 0 {
			return nil, []mapping{m}, nil
		}
		if all[i].inside.Addr() != m.inside.Addr() {
			return nil, nil, errTaken
		}
		return all[i : i+1], []mapping{m}, nil
	})
}

// remove ends the mappings that match, and tells how many.
func (p *portMap) remove(proto transport, match func(mapping) bool) (n int, err error) {
	err = p.change(proto, func(all []mapping) (gone, _ []mapping, _ error) {
		gone = slices.DeleteFunc(all, func(m mapping) bool { return !match(m) })
		n = len(gone)
		return gone, nil, nil
	})
	return n, err
}

// list has the mappings by their outside ports.
func (p *portMap) list(proto transport) (all []mapping, err error) {
	err = p.change(proto, func(now []mapping) ([]mapping, []mapping, error) {
		all = now
		return nil, nil, nil
	})
	return all, err
}

// change takes out and puts in what decide says, in one step: no packet finds
// a mapping missing that is renewed.
func (p *portMap) change(proto transport, decide func(now []mapping) (gone, added []mapping, err error)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	conn, err := nftables.New(nftables.WithNetNSFd(p.ns.fd))
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	set := mappedSet(&nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}, proto)
	elements, err := conn.GetSetElements(set)
	if err != nil {
		return fmt.Errorf("read the set %s: %w", set.Name, err)
	}
	var now []mapping
	for _, e := range elements {
		now = append(now, mappingOf(e))
	}
	slices.SortFunc(now, func(a, b mapping) int { return int(a.outside) - int(b.outside) })
	gone, added, err := decide(now)
	if err != nil {
		return err
	}
	for _, m := range gone {
		err = errors.Join(err, conn.SetDeleteElements(set, []nftables.SetElement{m.element()}))
	}
	for _, m := range added {
		err = errors.Join(err, conn.SetAddElements(set, []nftables.SetElement{m.element()}))
	}
	if err = errors.Join(err, conn.Flush()); err != nil {
		return fmt.Errorf("change the set %s: %w", set.Name, err)
	}
	return nil
}

// element is how nftables writes a mapping: ports in network byte order, each
// part of the data filled up to 32 bits.
func (m mapping) element() nftables.SetElement {
	data := append(m.inside.Addr().AsSlice(), binaryutil.BigEndian.PutUint16(m.inside.Port())...)
	return nftables.SetElement{Key: binaryutil.BigEndian.PutUint16(m.outside), Val: append(data, 0, 0), Timeout: m.life}
}

func mappingOf(e nftables.SetElement) mapping {
	return mapping{
		outside: binary.BigEndian.Uint16(e.Key),
		inside:  netip.AddrPortFrom(netip.AddrFrom4([4]byte(e.Val[:4])), binary.BigEndian.Uint16(e.Val[4:6])),
		life:    e.Expires,
	}
}
