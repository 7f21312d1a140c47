//go:build linux

package lab

import (
	"net/netip"
	"sync"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// box is a machine in a wire that looks at more than one packet: it follows
// TCP flows from their first segment on, puts their streams together, and has
// its watches look at them. What they condemn it swallows or resets. Everything
// else passes, and so does what it has not seen begin, or cannot read.
//
//	router ── near end ══[ box ]══ wire ══ core
//
// Its interfaces send packets singly (see link.singly), as they would come over
// a cable.
type box struct {
	zone    string // of the lab's DNS
	watches []watch
	inject  func(way int, frame []byte)

	mu    sync.Mutex // guards the fields below: frames come from both ends
	flows *simplelru.LRU[flowKey, *watched]
	seen  segment
}

const (
	// maxFlows is how many flows a box knows at once, more than any host of a lab
	// has; of more, it forgets the ones that were silent the longest.
	maxFlows = 4096
	// maxEarly is how many bytes of one direction it keeps that came before their
	// time. A flow that needs more passes unread.
	maxEarly = 64 << 10
)

// watch begins to look at a flow; nil when it is none of its business.
type watch func(*box, flowKey) inspector

// inspector looks at the streams of one flow.
type inspector interface {
	// look is told what comes next in the direction from one end, each byte once.
	// The box asks before it lets the segment pass.
	look(from side, data []byte) verdict
}

// side is an end of a flow.
type side int

const (
	dialler side = iota
	listener
)

func (s side) other() side { return 1 - s }

// verdict is what becomes of a flow. The zero verdict lets it pass, for now.
type verdict int

const (
	undecided verdict = iota
	harmless          // it passes, and needs no look any more
	vanishes          // it does so, from this segment on
	killed            // the same, and both ends get a reset
)

// watched is what a box knows of a flow.
type watched struct {
	inspectors []inspector
	streams    [2]stream // by the side that sends
	verdict    verdict
}

// newBox makes a box with these watches; nil without any.
func newBox(watches []watch, zone string, inject func(int, []byte)) *box {
	if len(watches) == 0 {
		return nil
	}
	flows, err := simplelru.NewLRU[flowKey, *watched](maxFlows, nil)
	if err != nil {
		panic(err) // unreachable: it refuses sizes below 1 only
	}
	b := &box{zone: zone, watches: watches, inject: inject, flows: flows}
	b.seen.init()
	return b
}

// lets tells whether a frame, which goes this way over the wire, passes.
func (b *box) lets(way int, frame []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := &b.seen
	if !s.parse(frame) {
		return true
	}
	f, from := b.flowOf(s)
	if f == nil {
		return true
	}
	before := f.verdict
	if before == undecided {
		f.follow(from, s)
	}
	switch f.verdict {
	case vanishes:
		return false
	case killed:
		b.reset(way, s, before != killed)
		return false
	}
	return true
}

// flowOf finds the flow of a segment, and the side that sent it. A SYN begins one.
func (b *box) flowOf(s *segment) (*watched, side) {
	key := s.key()
	if f, ok := b.flows.Get(key.reversed()); ok {
		return f, listener
	}
	f, ok := b.flows.Get(key)
	opens := s.tcp.SYN && !s.tcp.ACK
	if opens && (!ok || f.streams[dialler].first != s.tcp.Seq) { // a new one, perhaps from a port that another had
		f = new(watched)
		for _, w := range b.watches {
			if i := w(b, key); i != nil {
				f.inspectors = append(f.inspectors, i)
			}
		}
		b.flows.Add(key, f)
	}
	return f, dialler
}

// follow has the inspectors look at what a segment adds to its stream, until one
// of them has decided.
func (f *watched) follow(from side, s *segment) {
	half := &f.streams[from]
	if s.tcp.SYN {
		half.begin(s.tcp.Seq)
	}
	half.add(s.tcp.Seq, s.tcp.Payload, func(data []byte) {
		var left []inspector
		for _, i := range f.inspectors {
			switch v := i.look(from, data); v {
			case undecided:
				left = append(left, i)
			case harmless:
			default:
				f.verdict = max(f.verdict, v)
			}
		}
		f.inspectors = left
	})
	if f.verdict == undecided && len(f.inspectors) == 0 {
		f.verdict = harmless
		f.streams = [2]stream{dialler: {first: f.streams[dialler].first}}
	}
}

// stream puts one direction of a flow together.
type stream struct {
	known bool   // it has been seen to begin
	first uint32 // sequence number of the SYN
	next  uint32 // that of the byte that comes next
	held  map[uint32][]byte
	size  int // bytes in held
}

func (s *stream) begin(seq uint32) {
	if !s.known {
		*s = stream{known: true, first: seq, next: seq + 1}
	}
}

// add hands on what has become whole by a segment, in order.
func (s *stream) add(seq uint32, data []byte, see func([]byte)) {
	for s.known && len(data) > 0 {
		ahead := int32(seq - s.next) // sequence numbers wrap around
		switch {
		case ahead > 0:
			s.hold(seq, data)
			return
		case int(-ahead) < len(data):
			fresh := data[-ahead:]
			s.next += uint32(len(fresh))
			see(fresh)
		}
		seq, data = s.release()
	}
}

// hold keeps a segment that came before its time.
func (s *stream) hold(seq uint32, data []byte) {
	if s.size += len(data); s.size > maxEarly {
		*s = stream{first: s.first} // which is not followed any more
		return
	}
	if s.held == nil {
		s.held = map[uint32][]byte{}
	}
	s.size -= len(s.held[seq])
	s.held[seq] = append([]byte(nil), data...)
}

// release takes a segment out whose time has come, or has passed.
func (s *stream) release() (seq uint32, data []byte) {
	for seq, data = range s.held {
		if int32(seq-s.next) <= 0 {
			delete(s.held, seq)
			s.size -= len(data)
			return seq, data
		}
	}
	return 0, nil
}

// flowKey names a flow by its ends.
type flowKey struct{ dialler, listener netip.AddrPort }

func (k flowKey) reversed() flowKey { return flowKey{k.listener, k.dialler} }

// segment is a frame with a TCP segment in it, taken apart. It is used again and
// again.
type segment struct {
	ether   layers.Ethernet
	ip4     layers.IPv4
	ip6     layers.IPv6
	tcp     layers.TCP
	decoder *gopacket.DecodingLayerParser
	layers  []gopacket.LayerType
}

func (s *segment) init() {
	s.decoder = gopacket.NewDecodingLayerParser(layers.LayerTypeEthernet, &s.ether, &s.ip4, &s.ip6, &s.tcp)
	s.decoder.IgnoreUnsupported = true // UDP, ICMP, what TCP carries
}

// parse tells whether a frame is a TCP segment, and not a fragment of one.
func (s *segment) parse(frame []byte) bool {
	if len(frame) < virtioSize {
		return false
	}
	err := s.decoder.DecodeLayers(frame[virtioSize:], &s.layers)
	return err == nil && len(s.layers) == 3 && s.layers[2] == layers.LayerTypeTCP
}

func (s *segment) is6() bool { return s.layers[1] == layers.LayerTypeIPv6 }

func (s *segment) key() flowKey {
	from, to := s.ip4.SrcIP, s.ip4.DstIP
	if s.is6() {
		from, to = s.ip6.SrcIP, s.ip6.DstIP
	}
	a, _ := netip.AddrFromSlice(from) // which has 4 or 16 bytes
	b, _ := netip.AddrFromSlice(to)
	return flowKey{netip.AddrPortFrom(a, uint16(s.tcp.SrcPort)), netip.AddrPortFrom(b, uint16(s.tcp.DstPort))}
}

// end is the sequence number behind a segment.
func (s *segment) end() uint32 {
	n := uint32(len(s.tcp.Payload))
	if s.tcp.SYN {
		n++
	}
	if s.tcp.FIN {
		n++
	}
	return s.tcp.Seq + n
}

// reset answers a segment of a flow that is killed as its receiver would: with
// the sequence number that its sender waits for, since RFC 5961 has ends take no
// other. The receiver is told as well, the first time; should it wait for another
// one, it says so, and is answered in its turn.
func (b *box) reset(way int, s *segment, first bool) {
	if s.tcp.RST {
		return
	}
	ack := s.end()
	if s.tcp.ACK {
		b.inject(1-way, s.resetTo(true, s.tcp.Ack, ack))
	}
	if first {
		b.inject(way, s.resetTo(false, s.tcp.Seq, s.tcp.Ack))
	}
}

// resetTo makes a frame that resets the flow of s, for its sender or its receiver.
func (s *segment) resetTo(sender bool, seq, ack uint32) []byte {
	const ttl = 64
	ether, ports := s.ether, [2]layers.TCPPort{s.tcp.SrcPort, s.tcp.DstPort}
	ip4 := layers.IPv4{Version: 4, TTL: ttl, Flags: layers.IPv4DontFragment, Protocol: layers.IPProtocolTCP, SrcIP: s.ip4.SrcIP, DstIP: s.ip4.DstIP}
	ip6 := layers.IPv6{Version: 6, HopLimit: ttl, NextHeader: layers.IPProtocolTCP, SrcIP: s.ip6.SrcIP, DstIP: s.ip6.DstIP}
	if sender {
		ether.SrcMAC, ether.DstMAC = ether.DstMAC, ether.SrcMAC
		ports[0], ports[1] = ports[1], ports[0]
		ip4.SrcIP, ip4.DstIP = ip4.DstIP, ip4.SrcIP
		ip6.SrcIP, ip6.DstIP = ip6.DstIP, ip6.SrcIP
	}
	tcp := layers.TCP{SrcPort: ports[0], DstPort: ports[1], Seq: seq, Ack: ack, RST: true, ACK: true}
	parts := []gopacket.SerializableLayer{gopacket.Payload(make([]byte, virtioSize)), &ether, &ip4, &tcp}
	if s.is6() {
		parts[2] = &ip6
		_ = tcp.SetNetworkLayerForChecksum(&ip6) // it knows both kinds
	} else {
		_ = tcp.SetNetworkLayerForChecksum(&ip4)
	}
	out := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(out, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, parts...); err != nil {
		panic(err) // unreachable: all addresses are those of a segment that was read
	}
	return out.Bytes()
}
