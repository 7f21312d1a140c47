//go:build linux

package lab

import (
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
)

// Rules about what passes the box behind a network's router: see box.

// watching has a box look at TCP flows.
func watching(w watch) func(*firewall) {
	return func(f *firewall) { f.watches = append(f.watches, w) }
}

// killStream is resetFlow that looks at streams, not at packets.
func killStream(text string) rule {
	return rule{name: "kill-stream", does: fmt.Sprintf("TCP streams that open with %q are reset, however they are cut into segments", text),
		apply: watching(func(*box, flowKey) inspector { return &opening{text: text, verdict: killed} }),
		proof: func(t *trial) error {
			head, tail := text[:len(text)/2], text[len(text)/2:]
			for _, speaker := range []side{dialler, listener} {
				f, err := t.anyStream()
				if err != nil {
					return err
				}
				from, to := f.from(speaker)
				if err := from.says(to, head); err != nil {
					return err
				}
				if err := f.killedBy(from, tail); err != nil {
					return fmt.Errorf("%q and %q from the %s: %w", head, tail, from.name, err)
				}
				t.saw("both ends are reset when the %s has said %q in two segments", from.name, text)
			}
			return t.carries(dialogue{{dialler, "GET " + text + " HTTP/1.1\r\n\r\n"}, {listener, "HTTP/1.1 404 Not Found\r\n\r\n"}})
		}}
}

// killAfterHandshake lets libp2p connect, and then not speak.
var killAfterHandshake = rule{name: "kill-after-handshake",
	does:  "TCP flows that negotiate as libp2p does are reset once the listener's first encrypted data have passed",
	apply: watching(func(*box, flowKey) inspector { return new(handshakeDone) }),
	proof: func(t *trial) error {
		for _, d := range []dialogue{libp2pNoise, libp2pTLS} {
			f, err := t.anyStream()
			if err != nil {
				return err
			}
			if err := f.hold(d[:1]); err != nil { // by another rule: alone, nothing stops it
				return fmt.Errorf("%w: %w", errHidden, err)
			}
			if err := f.hold(d[1:]); err != nil {
				return err
			}
			if err := f.killedBy(f.near, "\x00\x05hello"); err != nil {
				return fmt.Errorf("after the handshake: %w", err)
			}
		}
		t.saw("the handshake and the first data pass, and then both ends are reset")
		return t.carries(slices.Concat(libp2pTLS[2:], libp2pTLS[2:])) // TLS by itself, as of HTTPS
	}}

// swallowLengths knows libp2p without reading it.
var swallowLengths = rule{name: "swallow-lengths",
	does:  "TCP flows whose first messages are as long as those of libp2p's handshake are swallowed, whatever is in them",
	apply: watching(func(*box, flowKey) inspector { return new(handshakeLengths) }),
	proof: func(t *trial) error {
		for _, d := range []dialogue{libp2pNoise.masked(), slices.Concat(libp2pTLS[:2].masked(), libp2pTLS[2:])} {
			f, err := t.anyStream()
			if err != nil {
				return err
			}
			last := 3 // Noise's answer
			if d[2].text[0] == recordHandshake {
				last = 2 // the hello
			}
			if err := f.hold(d[:last]); err != nil {
				return err
			}
			from, to := f.from(d[last].from)
			if err := from.lost(to, d[last].text); err != nil {
				return err
			}
			if err := f.dead(); err != nil {
				return err
			}
		}
		t.saw("Noise that is masked is lost with its answer, TLS below multistream with its hello, and all that follows")
		longer := libp2pNoise.masked()
		longer[2].text += "x"
		return t.carries(longer)
	}}

// wellKnown is a server that no company could keep its machines from.
const wellKnown = "www.microsoft.com"

// onlyNames lets TLS pass to names of the lab's zone and to wellKnown only; strictly:
// a hello without a name does not pass, either.
func onlyNames(strictly bool) rule {
	unnamed := "a hello without a name passes"
	if strictly {
		unnamed = "so is a hello without a name"
	}
	return rule{name: "only-names", does: "TLS, on any port, whose hello asks for a server outside the lab's own zone, other than " + wellKnown + ", is reset; " + unnamed,
		apply: watching(func(b *box, _ flowKey) inspector {
			permitted := inZone(b.zone)
			return &serverNames{permits: func(name string) bool { return name == "" && !strictly || name == wellKnown || permitted(name) }}
		}),
		proof: func(t *trial) error {
			bad := []string{"www.example.org"}
			good := []string{t.name, strings.ToUpper(t.name), wellKnown}
			if strictly {
				bad = append(bad, "")
			} else {
				good = append(good, "")
			}
			for _, name := range good {
				if err := t.carries(dialogue{{dialler, helloTo(name)}, {listener, "an answer"}}); err != nil {
					return fmt.Errorf("a hello to %q: %w", name, err)
				}
			}
			for _, name := range bad {
				f, err := t.anyStream()
				if err != nil {
					return err
				}
				hello := helloTo(name)
				if err := f.near.says(f.far, hello[:20]); err != nil {
					return err
				}
				if err := f.killedBy(f.near, hello[20:]); err != nil {
					return fmt.Errorf("a hello to %q: %w", name, err)
				}
			}
			t.saw("%q pass, %q are reset", good, bad)
			return nil
		}}
}

// capBytes is what Russia's filters have done since 2025 to flows to foreign
// hosting companies: the answer stops after some 16 KiB, and nobody is told.
func capBytes(port uint16, most int) rule {
	return rule{name: "cap-bytes", does: fmt.Sprintf("TCP flows to port %d are swallowed once the server has said more than %d KiB", port, most>>10),
		apply: watching(func(_ *box, flow flowKey) inspector {
			if flow.listener.Port() != port {
				return nil
			}
			return &byteCap{left: most}
		}),
		proof: func(t *trial) error {
			if !t.lets(tcp(port)) {
				return fmt.Errorf("%w: TCP to port %d does not pass", errHidden, port)
			}
			f, err := t.stream(port)
			if err != nil {
				return err
			}
			much := strings.Repeat("x", most)
			if err := f.hold(dialogue{{dialler, much + much}, {listener, much}}); err != nil {
				return err
			}
			if err := f.far.lost(f.near, "more"); err != nil {
				return err
			}
			if err := f.dead(); err != nil {
				return err
			}
			t.saw("the server says %d bytes, and nothing passes after them", most)
			if other, err := t.way("tcp"); err != nil || other.number == port {
				return err
			}
			return t.carries(dialogue{{listener, much}, {listener, "more"}})
		}}
}

// dialogue is what two ends say in turn.
type dialogue []line

type line struct {
	from side
	text string
}

// How libp2p begins over TCP: lines in the clear, then a handshake of these
// lengths, and the first data of both sides.
var (
	libp2pNoise = dialogue{
		{dialler, "\x13/multistream/1.0.0\n\x07/noise\n"}, {listener, "\x13/multistream/1.0.0\n\x07/noise\n"},
		{dialler, "\x00\x20" + strings.Repeat("e", 32)}, {listener, "\x00\xd8" + strings.Repeat("s", 216)},
		{dialler, "\x00\xd6" + strings.Repeat("s", 214) + "\x00\x05early"}, {listener, "\x00\x05first"},
	}
	libp2pTLS = dialogue{
		{dialler, "\x13/multistream/1.0.0\n\x0b/tls/1.0.0\n"}, {listener, "\x13/multistream/1.0.0\n\x0b/tls/1.0.0\n"},
		{dialler, "\x16\x03\x01\x05\xc4" + strings.Repeat("h", 1476)}, {listener, "\x16\x03\x03\x04\xba" + strings.Repeat("h", 1978)},
		{dialler, "\x14\x03\x03\x00\x01\x01\x17\x03\x03\x00\x05early"}, {listener, "\x17\x03\x03\x00\x05first"},
	}
)

// masked is a dialogue of the same lengths in which nothing can be read.
func (d dialogue) masked() dialogue {
	hidden := slices.Clone(d)
	for i := range hidden {
		hidden[i].text = strings.Repeat("#", len(hidden[i].text))
	}
	return hidden
}

// from is the end on a side, and the one that hears it.
func (f flow) from(s side) (speaks, hears *end) {
	if s == listener {
		return f.far, f.near
	}
	return f.near, f.far
}

// hold has the ends of a flow hold a dialogue, line by line.
func (f flow) hold(d dialogue) error {
	for _, l := range d {
		from, to := f.from(l.from)
		if err := from.says(to, l.text); err != nil {
			return err
		}
	}
	return nil
}

// carries is nil when a dialogue passes.
func (t *trial) carries(d dialogue) error {
	f, err := t.anyStream()
	if err == nil {
		err = f.hold(d)
	}
	if err != nil {
		return fmt.Errorf("what is to pass does not: %w", err)
	}
	return nil
}

// killedBy is nil when both ends get a reset for what one of them says, before
// all of it has arrived.
func (f flow) killedBy(from *end, text string) error {
	if err := from.write(text); err != nil {
		return err
	}
	for _, e := range []*end{f.near, f.far} {
		all, err := e.drain()
		if !isReset(err) {
			return fmt.Errorf("the %s is not reset, and has %.40q: %w", e.name, all, err)
		}
		if strings.HasSuffix(all, text) {
			return fmt.Errorf("the %s is reset, and yet it has %.40q", e.name, all)
		}
	}
	return nil
}

// drain reads a stream until its end, or until nothing comes, and says why there
// is no more.
func (e *end) drain() (all string, err error) {
	for err == nil {
		var text string
		text, _, err = e.read(answerWait)
		all += text
	}
	return all, err
}

// helloTo is the first flight of Go's TLS to a server of this name, or of none.
func helloTo(name string) string {
	client, server := net.Pipe()
	defer server.Close()
	go func() {
		defer client.Close()
		_ = tls.Client(client, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake() // fails: nobody answers
	}()
	buf := make([]byte, maxHello)
	n, _ := server.Read(buf) // a pipe that is open has what was written
	return string(buf[:n])
}
