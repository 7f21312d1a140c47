package traversal

import (
	"io"
	"math"
	"net"
	"slices"
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"
)

// noiseHandshake is more than a dialler says until its handshake by Noise is over
// (248 bytes), and less than that and its question who the other one is (374).
const noiseHandshake = 300

// through connects a port to target after a while, and closes each connection once
// its dialler has said more than so much.
func through(t *testing.T, target string, while time.Duration, most int64) ma.Multiaddr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer near.Close()
				time.Sleep(while)
				far, err := net.Dial("tcp", target)
				if err != nil {
					return
				}
				defer far.Close()
				go func() { _, _ = io.Copy(near, far) }()
				_, _ = io.CopyN(far, near, most)
			}()
		}
	}()
	return tcpAddr(l.Addr())
}

func TestATransportThatIsCutAfterItsHandshakeGivesWayToOthers(t *testing.T) {
	t.Parallel()
	relayHost := newHost(t, loopback, loopback+"/ws")
	newRelay(t, relayHost)
	addrs := relayHost.Addrs()
	raw := slices.IndexFunc(addrs, func(a ma.Multiaddr) bool { return TransportName(a) == "tcp" })
	at := func(a ma.Multiaddr) string { return net.JoinHostPort("127.0.0.1", port(a)) }
	self := "/p2p/" + relayHost.ID().String()
	// TCP wins every race.
	k := &Keeper{Host: newHost(t), Bootstrap: []string{
		through(t, at(addrs[raw]), 0, noiseHandshake).String() + self,
		through(t, at(addrs[1-raw]), 300*time.Millisecond, math.MaxInt64).String() + "/ws" + self,
	}}
	keep(t, k)
	eventually(t, "reservation by WebSocket", 15*time.Second, reservedOn(k, relayHost))
	if w := k.Way(); w == nil || w.Transport != "ws" {
		t.Errorf("the way is %+v", w)
	}
}

func TestWhatIsCutByEveryTransportIsDialledByAll(t *testing.T) {
	addrs := []ma.Multiaddr{ma.StringCast("/ip4/1.2.3.4/tcp/1"), ma.StringCast("/ip4/1.2.3.4/udp/1/quic-v1")}
	c := cut{[]string{"tcp"}, time.Now()}
	if got := c.among(addrs); len(got) != 1 || !got[0].Equal(addrs[0]) {
		t.Errorf("left out: %v", got)
	}
	c.transports = append(c.transports, "quic-v1")
	if got := c.among(addrs); got != nil || len(c.transports) > 0 {
		t.Errorf("left out: %v of %v", got, c.transports)
	}
	c = cut{[]string{"tcp"}, time.Now().Add(-cutMemory - time.Second)}
	if got := c.among(addrs); len(got) > 0 {
		t.Errorf("left out after %s: %v", cutMemory, got)
	}
}
