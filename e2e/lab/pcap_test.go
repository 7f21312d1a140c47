//go:build linux

package lab

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// recordedFrame is a frame of a recording.
type recordedFrame struct {
	link     string
	at       time.Time
	outgoing bool
	length   int // on the link
	packet   gopacket.Packet
}

func (s recordedFrame) tcp() *layers.TCP {
	tcp, _ := s.packet.Layer(layers.LayerTypeTCP).(*layers.TCP)
	return tcp
}

func (s recordedFrame) addrs() (from, to netip.Addr) {
	ip, _ := s.packet.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	if ip == nil {
		return
	}
	from, _ = netip.AddrFromSlice(ip.SrcIP.To4())
	to, _ = netip.AddrFromSlice(ip.DstIP.To4())
	return from, to
}

// recorded captures while something happens.
func (l *Lab) recorded(t testing.TB, c Capture, during func()) []byte {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	started, ended := make(chan struct{}), make(chan error, 1)
	var file bytes.Buffer
	go func() { ended <- l.Capture(ctx, c, &file, func() { close(started) }) }()
	select {
	case <-started:
	case err := <-ended:
		t.Fatal(err)
	}
	during()
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// readCapture takes a recording apart, with the frames that were lost by link.
func readCapture(t testing.TB, file []byte) (frames []recordedFrame, lost map[string]uint64) {
	t.Helper()
	r, err := pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	for {
		data, info, options, err := r.ReadPacketDataWithOptions()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		i, err := r.Interface(info.InterfaceIndex)
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, recordedFrame{link: i.Name, at: info.Timestamp, length: info.Length,
			outgoing: options.Flags.Direction == pcapgo.NgEpbFlagDirectionOutbound,
			packet:   gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.Default)})
	}
	lost = map[string]uint64{}
	for n := range r.NInterfaces() {
		i, err := r.Interface(n)
		if err != nil {
			t.Fatal(err)
		}
		lost[i.Name] = i.Statistics.PacketsDropped
	}
	return frames, lost
}

func TestACaptureShowsAConnectionOnBothSidesOfARouter(t *testing.T) {
	l := bring(t, Config{Lab: small()})
	from, to := l.hand(t, "laptop"), l.hand(t, "relay1")
	to.do(order{Do: "listen", Network: "tcp4", Addr: ":4001"})
	relay, laptop := l.host(t, "relay1"), l.host(t, "laptop")
	before := time.Now()
	file := l.recorded(t, Capture{Links: []string{"laptop", "house", "relay1", "house/wan"}}, func() {
		from.do(order{Do: "dial", Network: "tcp4", Addr: relay.Addr.String() + ":4001", Timeout: patience})
	})
	frames, lost := readCapture(t, file)
	syn := map[string]recordedFrame{}
	var answered time.Time
	for _, f := range frames {
		if f.at.Before(before) || f.at.After(time.Now()) {
			t.Errorf("a frame on %s was seen at %s", f.link, f.at)
		}
		if f.packet.Layer(layers.LayerTypeIPv6) != nil {
			t.Errorf("a lab without IPv6 has some on %s: %s", f.link, f.packet)
		}
		switch tcp := f.tcp(); {
		case tcp == nil || !tcp.SYN:
		case !tcp.ACK:
			if _, twice := syn[f.link]; twice {
				t.Errorf("%s carried the first segment twice", f.link)
			}
			syn[f.link] = f
		case f.link == "laptop":
			answered = f.at
		}
	}
	for _, c := range []struct {
		link     string
		from     netip.Addr
		outgoing bool
	}{{"laptop", laptop.Addr, true}, {"house/lan", laptop.Addr, false}, {"house/wan", laptop.Egress, true}, {"relay1", laptop.Egress, false}} {
		source, destination := syn[c.link].addrsIfAny()
		if source != c.from || destination != relay.Addr || syn[c.link].outgoing != c.outgoing {
			t.Errorf("%s: from %s to %s, outgoing %t; want from %s to %s, outgoing %t",
				c.link, source, destination, syn[c.link].outgoing, c.from, relay.Addr, c.outgoing)
		}
		if n, ok := lost[c.link]; !ok || n > 0 {
			t.Errorf("%s: %d frames lost, of which the recording tells: %t", c.link, n, ok)
		}
	}
	// Two wires of 10 ms, there and back.
	if way := syn["relay1"].at.Sub(syn["laptop"].at); way < 20*time.Millisecond {
		t.Errorf("%s from the laptop to the relay: less than light takes", way)
	}
	if trip := answered.Sub(syn["laptop"].at); trip < 40*time.Millisecond {
		t.Errorf("%s to the relay and back: less than light takes", trip)
	}
	for _, want := range []string{"profile home", "wce2e", "before it is cut up"} {
		if !bytes.Contains(file, []byte(want)) {
			t.Errorf("the recording does not say %q", want)
		}
	}
	if tcpdump, err := exec.LookPath("tcpdump"); err != nil {
		t.Log("SKIPPED: reading it with tcpdump, which is not on this machine")
	} else {
		path := filepath.Join(t.TempDir(), "c.pcapng")
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(tcpdump, "-n", "-r", path).CombinedOutput(); err != nil || !strings.Contains(string(out), relay.Addr.String()+".4001: Flags [S]") {
			t.Errorf("tcpdump: %v\n%s", err, out)
		}
	}
}

func (s recordedFrame) addrsIfAny() (from, to netip.Addr) {
	if s.packet == nil {
		return
	}
	return s.addrs()
}

func TestFramesOfSeveralLinksAreSortedByTime(t *testing.T) {
	now := time.Now()
	waiting := make(chan captured, 2)
	waiting <- captured{tap: 1, at: now}
	waiting <- captured{tap: 2, at: now.Add(2)}
	close(waiting)
	var order []int
	for _, f := range inOrder(captured{tap: 3, at: now.Add(1)}, waiting) {
		order = append(order, f.tap)
	}
	if !slices.Equal(order, []int{1, 3, 2}) {
		t.Errorf("in the order %v", order)
	}
}

func TestACaptureKeepsNoMoreOfAFrameThanAsked(t *testing.T) {
	l := bring(t, Config{Lab: pair(0)})
	a, b := l.hand(t, "a"), l.hand(t, "b")
	s := b.do(order{Do: "listen", Network: "udp4", Addr: ":4001"}).ID
	to := l.host(t, "b").Addr.String() + ":4001"
	file := l.recorded(t, Capture{Links: []string{"b"}, Snaplen: 60}, func() {
		u := a.do(order{Do: "listen", Network: "udp4", Addr: ":0"}).ID
		a.do(order{Do: "write", ID: u, Addr: to, Data: bytes.Repeat([]byte("secret"), 100)})
		b.do(order{Do: "read", ID: s, Timeout: patience})
	})
	frames, _ := readCapture(t, file)
	long := slices.IndexFunc(frames, func(f recordedFrame) bool { return f.length == 14+20+8+600 })
	if long < 0 {
		t.Fatalf("of %d frames, none has the datagram's length", len(frames))
	}
	if kept := len(frames[long].packet.Data()); kept != 60 {
		t.Errorf("%d bytes are kept, want 60", kept)
	}
}

func TestAReaderThatIsTooSlowIsToldWhatItMissed(t *testing.T) {
	l := bring(t, Config{Lab: pair(0)})
	a, b := l.hand(t, "a"), l.hand(t, "b")
	ls := b.do(order{Do: "listen", Network: "tcp4", Addr: ":4001"})
	c := a.do(order{Do: "dial", Network: "tcp4", Addr: l.host(t, "b").Addr.String() + ":4001", Timeout: patience})
	in := b.do(order{Do: "accept", ID: ls.ID, Timeout: patience})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	slow := &stuck{free: make(chan struct{})}
	started, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- l.Capture(ctx, Capture{Links: []string{"b"}}, slow, func() { close(started) }) }()
	<-started
	go a.do(order{Do: "pour", ID: c.ID, Timeout: 2 * time.Second})
	b.do(order{Do: "sink", ID: in.ID}) // the link is none the slower for it
	stop()
	close(slow.free)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	frames, lost := readCapture(t, slow.Bytes())
	if lost["b"] == 0 || len(frames) == 0 {
		t.Errorf("%d frames recorded and %d lost of a stream that nobody read for 2 s", len(frames), lost["b"])
	}
}

// stuck is a reader that reads nothing before it is freed.
type stuck struct {
	free chan struct{}
	bytes.Buffer
}

func (s *stuck) Write(b []byte) (int, error) {
	<-s.free
	return s.Buffer.Write(b)
}

func TestALinkThatIsNotThereCannotBeCaptured(t *testing.T) {
	l := bring(t, Config{Lab: small()})
	for name, want := range map[string]string{
		"moon":      "capture moon: the lab has no host moon, and no network",
		"core":      "no network of this name that has a router", // profile open
		"house/dmz": "capture house/dmz: the lab has no host",
	} {
		var file bytes.Buffer
		if err := l.Capture(t.Context(), Capture{Links: []string{name}}, &file, nil); err == nil || !strings.Contains(err.Error(), want) || file.Len() > 0 {
			t.Errorf("%s: %v, and %d bytes", name, err, file.Len())
		}
	}
	ended := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		ended <- l.Capture(t.Context(), Capture{Links: []string{"laptop"}}, io.Discard, func() { close(started) })
	}()
	<-started
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "the lab has ended") {
		t.Errorf("a capture outlives its lab: %v", err)
	}
}
