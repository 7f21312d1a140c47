//go:build linux

package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/multiformats/go-multiaddr"

	"github.com/worldcompute/wce2e/inventory"
)

// conversation is a TCP flow as a box sees it. Sequence numbers wrap around in it.
type conversation struct {
	t    *testing.T
	box  *box
	ends [2]netip.AddrPort // dialler, listener
	next [2]uint32

	opened   uint32        // times
	injected [2][]*segment // by way
}

const nearEnd, farEnd = "192.0.2.1:4001", "198.51.100.1:443"

func converse(t *testing.T, dialler, listener string, watches ...watch) *conversation {
	c := &conversation{t: t, ends: [2]netip.AddrPort{netip.MustParseAddrPort(dialler), netip.MustParseAddrPort(listener)}}
	c.box = newBox(watches, defaultZone, func(way int, frame []byte) {
		s := new(segment)
		s.init()
		if !s.parse(bytes.Clone(frame)) {
			t.Fatal("the box injects what is no TCP segment")
		}
		c.injected[way] = append(c.injected[way], s)
	})
	c.connect()
	return c
}

func (c *conversation) connect() {
	c.opened++
	c.next = [2]uint32{1<<32 - 10 - c.opened, 1<<32 - 2000 - c.opened}
	if !c.send(dialler, layers.TCP{SYN: true, Seq: c.next[dialler]}, "") || !c.send(listener, layers.TCP{SYN: true, ACK: true, Seq: c.next[listener], Ack: c.next[dialler] + 1}, "") {
		c.t.Fatal("the handshake does not pass")
	}
	c.next[dialler]++
	c.next[listener]++
}

// say sends the next text of a side, and tells whether it passes.
func (c *conversation) say(from side, text string) bool {
	seq := c.next[from]
	c.next[from] += uint32(len(text))
	return c.at(from, seq, text)
}

func (c *conversation) at(from side, seq uint32, text string) bool {
	return c.send(from, layers.TCP{ACK: true, PSH: true, Seq: seq, Ack: c.next[from.other()]}, text)
}

func (c *conversation) send(from side, tcp layers.TCP, text string) bool {
	return c.box.lets(int(from), c.frame(from, tcp, text))
}

func (c *conversation) frame(from side, tcp layers.TCP, text string) []byte {
	a, b := c.ends[from], c.ends[from.other()]
	tcp.SrcPort, tcp.DstPort, tcp.Window = layers.TCPPort(a.Port()), layers.TCPPort(b.Port()), 65535
	near, core := accessMACs(0)
	if from == listener {
		near, core = core, near
	}
	ether := &layers.Ethernet{SrcMAC: near, DstMAC: core, EthernetType: layers.EthernetTypeIPv4}
	var ip interface {
		gopacket.SerializableLayer
		gopacket.NetworkLayer
	} = &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: a.Addr().AsSlice(), DstIP: b.Addr().AsSlice()}
	if a.Addr().Is6() {
		ether.EthernetType = layers.EthernetTypeIPv6
		ip = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: a.Addr().AsSlice(), DstIP: b.Addr().AsSlice()}
	}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		c.t.Fatal(err)
	}
	out := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(out, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		gopacket.Payload(make([]byte, virtioSize)), ether, ip, &tcp, gopacket.Payload(text))
	if err != nil {
		c.t.Fatal(err)
	}
	return out.Bytes()
}

// heard is an inspector that writes down what it is told.
type heard struct {
	streams [2]strings.Builder
	verdict func(*heard) verdict
}

func (h *heard) look(from side, data []byte) verdict {
	h.streams[from].Write(data)
	if h.verdict == nil {
		return undecided
	}
	return h.verdict(h)
}

func (h *heard) watch(*box, flowKey) inspector { return h }

func TestABoxReadsAStreamHoweverItComes(t *testing.T) {
	text := make([]byte, 5000)
	chance := rand.New(rand.NewPCG(1, 2))
	for i := range text {
		text[i] = byte(chance.Uint32())
	}
	for range 50 {
		h := new(heard)
		c := converse(t, nearEnd, farEnd, h.watch)
		type piece struct{ from, to int }
		var pieces []piece
		for at := 0; at < len(text); {
			n := min(1+chance.IntN(400), len(text)-at)
			pieces = append(pieces, piece{max(0, at-chance.IntN(50)), at + n}) // some of it a second time
			at += n
		}
		pieces = append(pieces, pieces[:len(pieces)/2]...) // whole segments, too
		chance.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
		start := c.next[dialler]
		for _, p := range pieces {
			if !c.at(dialler, start+uint32(p.from), string(text[p.from:p.to])) {
				t.Fatal("a segment does not pass")
			}
		}
		if got := h.streams[dialler].String(); got != string(text) {
			t.Fatalf("the box reads another stream, of %d bytes", len(got))
		}
		if h.streams[listener].Len() != 0 {
			t.Fatal("the other end is said to have said something")
		}
	}
}

func TestABoxLetsWhatItDoesNotUnderstandPass(t *testing.T) {
	h := &heard{verdict: func(*heard) verdict { return killed }}
	c := converse(t, nearEnd, farEnd, h.watch)
	tcp := c.frame(dialler, layers.TCP{ACK: true, Seq: 1}, "text")
	fragment := bytes.Clone(tcp)
	fragment[virtioSize+etherSize+7] = 9 // not the packet's first
	udp := bytes.Clone(tcp)
	udp[virtioSize+etherSize+9] = 17
	stranger := bytes.Clone(tcp)
	stranger[virtioSize+etherSize+15]++ // an address of which it has seen no flow begin
	for what, frame := range map[string][]byte{"nothing": nil, "a short frame": tcp[:20], "a cut header": tcp[:virtioSize+etherSize+30],
		"a fragment": fragment, "UDP": udp, "a flow that it has not seen begin": stranger} {
		if !c.box.lets(0, frame) {
			t.Errorf("%s does not pass", what)
		}
	}
	if c.say(dialler, "text") {
		t.Error("and neither does it kill what it understands")
	}
}

func TestAKilledFlowIsResetAtBothEndsWithNumbersTheyTake(t *testing.T) {
	for _, ends := range [][2]string{{nearEnd, farEnd}, {"[2001:db8::1]:4001", "[2001:db8::2]:443"}} {
		for _, speaker := range []side{dialler, listener} {
			h := &heard{verdict: func(h *heard) verdict {
				if strings.HasSuffix(h.streams[speaker].String(), "bad") {
					return killed
				}
				return undecided
			}}
			c := converse(t, ends[0], ends[1], h.watch)
			c.say(speaker, "good")
			c.say(speaker.other(), "good")
			before := c.next
			if c.say(speaker, "bad") {
				t.Error("what is bad passes")
			}
			back, on := c.injected[1-speaker], c.injected[speaker]
			if len(back) != 1 || len(on) != 1 {
				t.Fatalf("%d resets to who spoke, %d to who listens", len(back), len(on))
			}
			c.isReset(back[0], speaker.other(), before[speaker.other()], c.next[speaker])
			c.isReset(on[0], speaker, before[speaker], before[speaker.other()])

			// Whoever goes on is answered, and nobody else.
			if c.say(speaker.other(), "anything") {
				t.Error("the flow goes on")
			}
			if back, on := c.injected[1-speaker], c.injected[speaker]; len(back) != 1 || len(on) != 2 {
				t.Errorf("then %d resets to who spoke, %d to who goes on", len(back), len(on))
			}
			if c.send(speaker, layers.TCP{RST: true, Seq: c.next[speaker]}, "") || len(c.injected[1-speaker]) != 1 {
				t.Error("a reset is answered by one, or passes")
			}

			// The same ports are used again, for a flow that says nothing bad.
			c.connect()
			h.streams[speaker].Reset()
			if !c.say(speaker, "good") {
				t.Error("a new flow from the same ports is dead from its beginning")
			}
		}
	}
}

// isReset checks a frame that is said to come from a side.
func (c *conversation) isReset(s *segment, from side, seq, ack uint32) {
	c.t.Helper()
	if want := (flowKey{c.ends[from], c.ends[from.other()]}); s.key() != want {
		c.t.Errorf("a reset goes %v, want %v", s.key(), want)
	}
	if !s.tcp.RST || !s.tcp.ACK || s.tcp.Seq != seq || s.tcp.Ack != ack {
		c.t.Errorf("a reset with seq %d, ack %d, want %d and %d", s.tcp.Seq, s.tcp.Ack, seq, ack)
	}
	near, core := accessMACs(0)
	if from == listener {
		near, core = core, near
	}
	if !bytes.Equal(s.ether.SrcMAC, near) || !bytes.Equal(s.ether.DstMAC, core) {
		c.t.Errorf("a reset goes from %s to %s", s.ether.SrcMAC, s.ether.DstMAC)
	}
	// Over what a checksum covers, the checksum included, the sum is 0.
	var pseudo []byte
	header := s.ip4.Contents
	if s.is6() {
		header = nil
		pseudo = append(append(pseudo, s.ip6.SrcIP...), s.ip6.DstIP...)
	} else {
		pseudo = append(append(pseudo, s.ip4.SrcIP.To4()...), s.ip4.DstIP.To4()...)
	}
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(s.tcp.Contents)))
	pseudo = append(pseudo, 0, 0, 0, 6)
	if checksum(header) != 0 || checksum(append(pseudo, s.tcp.Contents...)) != 0 {
		c.t.Error("the checksums of a reset are wrong")
	}
}

// checksum is RFC 1071's.
func checksum(b []byte) uint16 {
	if len(b) == 0 {
		return 0
	}
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func TestABoxForgetsTheFlowsThatAreSilentTheLongest(t *testing.T) {
	h := new(heard)
	c := converse(t, nearEnd, farEnd, h.watch)
	first, other := c.ends[dialler], netip.MustParseAddr("203.0.113.1")
	for i := range maxFlows {
		c.ends[dialler] = netip.AddrPortFrom(other, uint16(i+1))
		c.connect()
	}
	if n := c.box.flows.Len(); n != maxFlows {
		t.Errorf("%d flows are known, want %d", n, maxFlows)
	}
	c.ends[dialler] = first
	c.say(dialler, "unread")
	if got := h.streams[dialler].String(); got != "" {
		t.Errorf("a flow that was to be forgotten is read: %q", got)
	}
}

func TestABoxHoldsSoMuchAndNoMore(t *testing.T) {
	h := new(heard)
	c := converse(t, nearEnd, farEnd, h.watch)
	start := c.next[dialler]
	for i := range 2 * maxEarly / 1000 {
		if !c.at(dialler, start+uint32(1+i*1000), strings.Repeat("x", 1000)) {
			t.Fatal("a segment that comes before its time does not pass")
		}
	}
	f, _ := c.box.flows.Get(flowKey{c.ends[dialler], c.ends[listener]})
	if s := f.streams[dialler]; s.size > maxEarly || len(s.held)*1000 > maxEarly {
		t.Errorf("%d bytes are held, want at most %d", s.size, maxEarly)
	}
}

func FuzzABoxStandsAnyFrame(f *testing.F) {
	c := &conversation{ends: [2]netip.AddrPort{netip.MustParseAddrPort(nearEnd), netip.MustParseAddrPort(farEnd)}}
	f.Add(c.frame(dialler, layers.TCP{SYN: true, Seq: 1}, ""), c.frame(dialler, layers.TCP{ACK: true, Seq: 2}, plainHandshake))
	f.Add(c.frame(dialler, layers.TCP{SYN: true, Seq: 1}, ""), c.frame(dialler, layers.TCP{ACK: true, Seq: 2}, helloTo("relay1.example")))
	rules := new(firewall)
	for _, r := range []rule{killStream(multistreamHeader), killAfterHandshake, swallowLengths, onlyNames(true), capBytes(443, 1)} {
		r.apply(rules)
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		b := newBox(rules.watches, defaultZone, func(int, []byte) {})
		for way, frame := range [][]byte{first, second, first, second} {
			b.lets(way%2, frame)
		}
	})
}

// exchanged is what a real dialler and listener say, in the order in which it passes.
func exchanged(t *testing.T, security libp2p.Option) dialogue {
	t.Helper()
	listens, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
	if err != nil {
		t.Fatal(err)
	}
	defer listens.Close()
	dials, err := libp2p.New(libp2p.NoListenAddrs, security)
	if err != nil {
		t.Fatal(err)
	}
	defer dials.Close()
	port, err := listens.Addrs()[0].ValueForProtocol(multiaddr.P_TCP)
	if err != nil {
		t.Fatal(err)
	}
	between, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer between.Close()
	var mu sync.Mutex // guards said
	var said dialogue
	pass := func(s side, from, to net.Conn) {
		buf := make([]byte, 64<<10)
		for {
			n, err := from.Read(buf)
			if err != nil {
				to.Close()
				return
			}
			mu.Lock()
			said = append(said, line{s, string(buf[:n])})
			mu.Unlock()
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
	}
	go func() {
		a, err := between.Accept()
		if err != nil {
			return
		}
		b, err := net.Dial("tcp4", "127.0.0.1:"+port)
		if err != nil {
			a.Close()
			return
		}
		go pass(dialler, a, b)
		pass(listener, b, a)
	}()
	_, at, _ := net.SplitHostPort(between.Addr().String())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := dials.Connect(ctx, peer.AddrInfo{ID: listens.ID(), Addrs: []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/127.0.0.1/tcp/" + at)}}); err != nil {
		t.Fatal(err)
	}
	pongs := 0
	for pong := range ping.Ping(ctx, dials, listens.ID()) { // so that both have said something
		if pong.Error != nil {
			t.Fatal(pong.Error)
		}
		mu.Lock()
		if pongs++; pongs == 3 {
			defer mu.Unlock()
			return append(dialogue{}, said...)
		}
		mu.Unlock()
	}
	t.Fatal("the pings end")
	return nil
}

// fate is what an inspector says of a dialogue, and after how many of its lines.
func (d dialogue) fate(i inspector) (verdict, int) {
	for n, l := range d {
		if v := i.look(l.from, []byte(l.text)); v != undecided {
			return v, n
		}
	}
	return undecided, len(d)
}

// inBytes is the same, said byte by byte.
func (d dialogue) inBytes() (bytes dialogue) {
	for _, l := range d {
		for _, b := range []byte(l.text) {
			bytes = append(bytes, line{l.from, string([]byte{b})})
		}
	}
	return bytes
}

func TestLibp2pIsKnownByTheLengthOfItsHandshake(t *testing.T) {
	for name, security := range map[string]libp2p.Option{
		"Noise": libp2p.Security(noise.ID, noise.New), "TLS": libp2p.Security(libp2ptls.ID, libp2ptls.New), "either": libp2p.DefaultSecurity,
	} {
		real := exchanged(t, security)
		for how, d := range map[string]dialogue{"as it came": real, "byte by byte": real.inBytes()} {
			if v, _ := d.fate(new(handshakeLengths)); v != vanishes {
				t.Errorf("%s, %s: the lengths are not recognised: %.700s", name, how, fmt.Sprint(d))
			}
			v, at := d.fate(new(handshakeDone))
			if v != killed {
				t.Errorf("%s, %s: its handshake does not end: %.700s", name, how, fmt.Sprint(d))
			} else if how == "as it came" && at < 6 {
				t.Errorf("%s: the handshake ends after %d messages", name, at)
			}
		}
	}
	https := dialogue{{dialler, helloTo("www.example.org")}, {listener, strings.Repeat("s", 3000)}, {dialler, strings.Repeat("f", 64)}, {listener, "data"}, {dialler, "more"}}
	ssh := dialogue{{listener, "SSH-2.0-OpenSSH_10.0\r\n"}, {dialler, "SSH-2.0-OpenSSH_10.0\r\n"}, {dialler, strings.Repeat("k", 1500)}, {listener, strings.Repeat("k", 1100)}}
	for what, d := range map[string]dialogue{"HTTPS": https, "SSH": ssh} {
		for _, i := range []inspector{new(handshakeLengths), new(handshakeDone)} {
			if v, _ := append(d, d...).fate(i); v == killed || v == vanishes {
				t.Errorf("%s is taken for libp2p by %T", what, i)
			}
		}
	}
}

func TestAServersNameIsReadAsSoonAsItIsThere(t *testing.T) {
	hello := helloTo("relay1.example")
	for n := range len(hello) {
		if name, err := serverName([]byte(hello[:n])); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("after %d of %d bytes: %q %v", n, len(hello), name, err)
		}
	}
	if name, err := serverName([]byte(hello + "more")); name != "relay1.example" || err != nil {
		t.Errorf("%q %v", name, err)
	}
	if name, err := serverName([]byte(helloTo(""))); name != "" || err != nil {
		t.Errorf("of a hello without a name: %q %v", name, err)
	}
	for _, other := range []string{"\x16\x03\x01\x00\x05hello", "\x16 is no TLS at all, and goes on"} {
		if _, err := serverName([]byte(other)); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q: %v", other, err)
		}
	}
}

// BenchmarkFrame is what a wire does to each frame beyond moving it, on a plain
// link and with a box in it that knows nothing, or is done with the flow, or reads it.
func BenchmarkFrame(b *testing.B) {
	for name, watches := range map[string][]watch{
		"plain":     nil,
		"harmless":  {func(*box, flowKey) inspector { return &opening{text: plainHandshake, verdict: killed} }},
		"inspected": {func(*box, flowKey) inspector { return &byteCap{left: 1 << 60} }},
	} {
		b.Run(name, func(b *testing.B) {
			c := &conversation{ends: [2]netip.AddrPort{netip.MustParseAddrPort(nearEnd), netip.MustParseAddrPort(farEnd)}}
			w := new(wire)
			w.set(link{Link: inventory.Link{Delay: 10 * time.Millisecond}})
			w.box.Store(newBox(watches, defaultZone, nil))
			one := &way{wire: w, course: newCourse(0)}
			const bytes = 1448
			one.lets(c.frame(dialler, layers.TCP{SYN: true, Seq: 0}, ""), w.link.Load())
			frame := c.frame(dialler, layers.TCP{ACK: true, Seq: 1}, strings.Repeat("x", bytes))
			seq := frame[virtioSize+etherSize+20+4:]
			now := time.Now()
			n := uint32(1)
			for b.Loop() {
				binary.BigEndian.PutUint32(seq, n)
				n += bytes
				l := w.link.Load()
				if !one.lets(frame, l) {
					b.Fatal("a frame is lost")
				}
				one.course.takes(l, len(frame), now)
			}
			b.SetBytes(bytes)
		})
	}
}
