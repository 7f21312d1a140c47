//go:build linux

package lab

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

const plainHandshake = "\x13/multistream/1.0.0\n"

// flow is a connection between a host behind a router and relay1.
type handFlow struct{ near, far handEnd }

// end is a socket that a hand holds.
type handEnd struct {
	*hand
	id   int
	peer string // whom a UDP socket writes to
}

// connect opens a TCP flow from h to relay1.
func (i *internet) connect(t *testing.T, h *hand, port string) handFlow {
	t.Helper()
	out := h.ask(order{Do: "dial", Network: "tcp4", Addr: i.addr("relay1", port), Timeout: patience})
	if out.Err != "" {
		t.Fatalf("TCP %s: %s", port, out.Err)
	}
	in := i.relay1.do(order{Do: "accept", ID: i.tcp[port], Timeout: patience})
	return handFlow{handEnd{h, out.ID, ""}, handEnd{i.relay1, in.ID, ""}}
}

// datagrams opens a UDP flow from h to relay1 by saying hello.
func (i *internet) datagrams(t *testing.T, h *hand, port string) handFlow {
	t.Helper()
	near := handEnd{h, h.do(order{Do: "listen", Network: "udp4", Addr: ":0"}).ID, i.addr("relay1", port)}
	far := handEnd{i.relay1, i.udp[port], ""}
	near.do(order{Do: "write", ID: near.id, Addr: near.peer, Data: []byte("hello")})
	a := far.ask(order{Do: "read", ID: far.id, Timeout: patience})
	if a.Err != "" {
		t.Fatalf("UDP %s: %s", port, a.Err)
	}
	far.peer = a.Remote
	return handFlow{near, far}
}

// says writes text, and returns an error unless it, and nothing else, arrives.
func (e handEnd) says(to handEnd, text string) error { return e.send(to, text, patience) }

// lost writes text, and returns an error unless nothing at all comes of it.
func (e handEnd) lost(to handEnd, text string) error {
	err := e.send(to, text, silence)
	if silent(err) {
		return nil
	}
	return cmp.Or(err, errors.New("it arrived"))
}

func (e handEnd) send(to handEnd, text string, wait time.Duration) error {
	if a := e.ask(order{Do: "write", ID: e.id, Addr: e.peer, Data: []byte(text)}); a.Err != "" {
		return errors.New(a.Err)
	}
	got := to.ask(order{Do: "read", ID: to.id, Timeout: wait})
	if got.Err != "" {
		return errors.New(got.Err)
	}
	if string(got.Data) != text {
		return fmt.Errorf("%.40q arrived in place of %.40q", got.Data, text)
	}
	return nil
}

// want has text pass, or get lost without a word.
func want(t *testing.T, passes bool, what string, from, to handEnd) {
	t.Helper()
	say, word := from.lost, "lost"
	if passes {
		say, word = from.says, "let through"
	}
	if err := say(to, what); err != nil {
		t.Errorf("%s is to be %s: %v", what, word, err)
	}
}

// alive is nil when both directions carry.
func (f handFlow) alive() error {
	return errors.Join(f.near.says(f.far, "a question"), f.far.says(f.near, "an answer"))
}

// stream writes bytes from h to relay1 and returns how many arrived. It takes
// segments of at most mss bytes, if that is not 0.
func (i *internet) stream(t *testing.T, h *hand, mss, bytes int) (arrived int) {
	t.Helper()
	out := h.do(order{Do: "dial", Network: "tcp4", Addr: i.addr("relay1", "4001"), MSS: mss, Timeout: patience}).ID
	in := i.relay1.do(order{Do: "accept", ID: i.tcp["4001"], Timeout: patience}).ID
	h.do(order{Do: "write", ID: out, Data: make([]byte, bytes)})
	for arrived < bytes {
		a := i.relay1.ask(order{Do: "read", ID: in, Timeout: 2 * silence})
		arrived += len(a.Data)
		if a.Err != "" {
			break
		}
	}
	return arrived
}

// silent tells that an error is one of having waited for nothing.
func silent(err error) bool { return err != nil && strings.Contains(err.Error(), "i/o timeout") }

func TestASegmentIsMeasuredByWhatItBecomes(t *testing.T) {
	tcp := make([]byte, virtioSize+etherSize+20+32+5000)
	tcp[virtioGSOType] = 1 // TCP over IPv4
	put := func(at, v int) { tcp[at], tcp[at+1] = byte(v), byte(v>>8) }
	put(virtioGSOSize, 1200)
	put(virtioCsumStart, etherSize+20)
	put(virtioCsumOffset, 16)
	tcp[virtioSize+etherSize+20+12] = 32 / 4 << 4
	if got := packetSize(tcp); got != 20+32+1200 {
		t.Errorf("a segment of 1200 bytes makes a packet of %d", got)
	}
	put(virtioCsumOffset, 6)
	if got := packetSize(tcp); got != 20+8+1200 {
		t.Errorf("a datagram of 1200 bytes makes a packet of %d", got)
	}
	tcp[virtioGSOType] = 0
	if got := packetSize(tcp); got != 20+32+5000 {
		t.Errorf("a packet of %d bytes counts as %d", 20+32+5000, got)
	}
	tcp[virtioGSOType] = 1
	for n := range len(tcp) - 4990 {
		packetSize(tcp[:n]) // a frame that was cut short must not break the wire
	}
}
