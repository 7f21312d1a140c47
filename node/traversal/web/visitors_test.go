package web

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/node/traversal/web/tunnel"
)

func tcpAddr(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 5555} }

func TestOneAddressCannotTakeAllPlacesOfThePort(t *testing.T) {
	for name, a := range map[string]struct{ greedy, sibling, other string }{
		"IPv4": {"45.1.2.3", "::ffff:45.1.2.3", "45.1.2.4"},
		"IPv6": {"2a00:1:2:3400::1", "2a00:1:2:34ff::2", "2a00:1:2:3500::1"},
	} {
		var v visitors
		taken := 0
		for v.enter(tcpAddr(a.greedy)) {
			taken++
		}
		if taken < 2*1000 || taken > maxWeb/2 {
			t.Errorf("%s: one address has %d places; a thousand donors want two each, and others theirs", name, taken)
		}
		if v.enter(tcpAddr(a.sibling)) {
			t.Errorf("%s: %s is not counted with %s", name, a.sibling, a.greedy)
		}
		if !v.enter(tcpAddr(a.other)) {
			t.Errorf("%s: %s is refused for what %s does", name, a.other, a.greedy)
		}
		v.leave(tcpAddr(a.greedy))
		if !v.enter(tcpAddr(a.greedy)) {
			t.Errorf("%s: a place that was given back is lost", name)
		}
		for range taken {
			v.leave(tcpAddr(a.greedy))
		}
		v.leave(tcpAddr(a.other))
		if v.all != 0 || len(v.from) != 0 {
			t.Errorf("%s: all have left, and the books have %d and %v", name, v.all, v.from)
		}
	}
}

func TestAllAddressesTogetherCannotHaveMoreThanThePortHas(t *testing.T) {
	var v visitors
	for i := range maxWeb {
		if !v.enter(&net.TCPAddr{IP: net.IPv4(45, 1, byte(i>>8), byte(i))}) {
			t.Fatalf("the port is full with %d", i)
		}
	}
	if v.enter(tcpAddr("45.2.0.0")) {
		t.Error("the port is never full")
	}
}

// The server of the standard library waits for the rest of a body that nobody has read
// before it answers, for ever.
func TestABodyThatNeverComesHoldsNoPlace(t *testing.T) {
	t.Parallel()
	relay := newNode(t, Config{HandshakeTimeout: 100 * time.Millisecond}, "/ip4/127.0.0.1/tcp/0/ws", "/ip4/127.0.0.1/tcp/0/http")
	hostport := must(parse(relay.Network().ListenAddresses()[0])).hostport()
	for _, request := range []string{"POST /", "GET /", "POST /tunnel/x", "GET /healthz"} {
		c, err := net.Dial("tcp", hostport)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		head := strings.Replace(request, "/tunnel/", tunnel.Path, 1) + " HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
		if _, err := io.WriteString(c, head); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.ReadAll(c); err != nil {
			t.Errorf("%s: %v", request, err)
		}
	}
}
