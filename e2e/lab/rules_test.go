//go:build linux

package lab

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
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

// silent tells that an error is one of having waited for nothing.
func silent(err error) bool { return err != nil && strings.Contains(err.Error(), "i/o timeout") }

func wasReset(err error) bool { return err != nil && strings.Contains(err.Error(), "reset by peer") }

func TestThePlainHandshakeIsSwallowedAndNothingElse(t *testing.T) {
	t.Parallel()
	i := behind(t, "dartmouth", "dpi-multistream-drop", "home")
	for _, profile := range []string{"dartmouth", "dpi-multistream-drop"} {
		t.Run(profile, func(t *testing.T) {
			h := i.behind(t, profile)
			if f := i.connect(t, h, "443"); f.near.says(f.far, "\x16\x03\x01 a TLS hello") != nil {
				t.Error("TLS on 443 is swallowed")
			}
			f := i.connect(t, h, "4001")
			if err := f.near.lost(f.far, plainHandshake); err != nil {
				t.Errorf("the handshake of a dialler: %v", err)
			}
			if err := f.near.lost(f.far, "more"); err != nil {
				t.Errorf("after it: %v", err)
			}
			if err := f.far.lost(f.near, "an answer"); err != nil {
				t.Errorf("after it, from the other end: %v", err)
			}
			f = i.connect(t, h, "4001")
			if err := f.far.lost(f.near, plainHandshake); err != nil {
				t.Errorf("the handshake of a listener: %v", err)
			}
		})
	}
	if f := i.connect(t, i.behind(t, "home"), "4001"); f.near.says(f.far, plainHandshake) != nil {
		t.Error("the handshake does not even pass at home")
	}
}

func TestThePlainHandshakeIsResetAndNothingElse(t *testing.T) {
	t.Parallel()
	i := behind(t, "dpi-multistream-rst")
	h := i.behind(t, "dpi-multistream-rst")
	if f := i.connect(t, h, "4001"); f.near.says(f.far, "GET /multistream/1.0.0 HTTP/1.1\r\n\r\n") != nil || f.alive() != nil {
		t.Error("a flow is cut that does not open like libp2p's")
	}
	f := i.connect(t, h, "4001")
	f.near.do(order{Do: "write", ID: f.near.id, Data: []byte(plainHandshake)})
	if got := f.near.ask(order{Do: "read", ID: f.near.id, Timeout: patience}); !wasReset(errors.New(got.Err)) {
		t.Errorf("the dialler saw %q %s, want a reset", got.Data, got.Err)
	}
	if got := f.far.ask(order{Do: "read", ID: f.far.id, Timeout: silence}); len(got.Data) > 0 {
		t.Errorf("the listener got %q", got.Data)
	}
	f = i.connect(t, h, "4001")
	f.far.do(order{Do: "write", ID: f.far.id, Data: []byte(plainHandshake)})
	if got := f.far.ask(order{Do: "read", ID: f.far.id, Timeout: patience}); !wasReset(errors.New(got.Err)) {
		t.Errorf("a listener that spoke first saw %q %s, want a reset", got.Data, got.Err)
	}
}

func TestATLSHelloThatOffersLibp2pIsReset(t *testing.T) {
	t.Parallel()
	i := behind(t, "dpi-libp2p-alpn", "home")
	h := i.behind(t, "dpi-libp2p-alpn")
	hello := clientHello("/yamux/1.0.0", "libp2p")
	for what, text := range map[string]string{
		"a browser's hello":  clientHello("h2", "http/1.1"),
		"a plain handshake":  plainHandshake,
		"the name elsewhere": "GET /\x06libp2p HTTP/1.1\r\n\r\n",
	} {
		if f := i.connect(t, h, "443"); f.near.says(f.far, text) != nil || f.alive() != nil {
			t.Errorf("%s is cut", what)
		}
	}
	f := i.connect(t, h, "4001")
	if err := errors.Join(f.near.says(f.far, plainHandshake), f.far.says(f.near, plainHandshake)); err != nil {
		t.Fatal(err)
	}
	f.near.do(order{Do: "write", ID: f.near.id, Data: []byte(hello)})
	if got := f.near.ask(order{Do: "read", ID: f.near.id, Timeout: patience}); !wasReset(errors.New(got.Err)) {
		t.Errorf("libp2p's hello: the dialler saw %q %s, want a reset", got.Data, got.Err)
	}
	if got := f.far.ask(order{Do: "read", ID: f.far.id, Timeout: silence}); len(got.Data) > 0 {
		t.Errorf("the listener got %d bytes of the hello", len(got.Data))
	}
	if f := i.connect(t, i.behind(t, "home"), "4001"); f.near.says(f.far, hello) != nil {
		t.Error("the hello does not even pass at home")
	}
}

func TestQUICIsBlockedByItsHeader(t *testing.T) {
	t.Parallel()
	i := behind(t, "quic-blocked")
	f := i.datagrams(t, i.behind(t, "quic-blocked"), "4001")
	const initial = "\xc3\x00\x00\x00\x01\x08\x01\x02\x03\x04\x05\x06\x07\x08\x00 and so on"
	if err := f.near.lost(f.far, initial); err != nil {
		t.Errorf("a QUIC v1 packet with a long header: %v", err)
	}
	if err := f.far.lost(f.near, initial); err != nil {
		t.Errorf("the same from outside: %v", err)
	}
	for what, text := range map[string]string{
		"a short header":      "\x43\x00\x00\x00\x01 and so on",
		"another protocol":    "\xc3\x00\x00\x00\x02 and so on",
		"the bytes elsewhere": "." + initial,
		"almost nothing":      "\xc3",
	} {
		if err := f.near.says(f.far, text); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestPortsOfUDPAreBlockedOneByOne(t *testing.T) {
	t.Parallel()
	i := behind(t, "udp-443-blocked", "port-allow-list", "doh-only")
	for profile, ports := range map[string]map[string]bool{
		"udp-443-blocked": {"53": true, "80": true, "443": false, "4001": true},
		"port-allow-list": {"53": true, "443": false, "4001": false},
		"doh-only":        {"53": false, "853": false, "443": true},
	} {
		h := i.behind(t, profile)
		near := h.do(order{Do: "listen", Network: "udp4", Addr: ":0"}).ID
		for port, passes := range ports {
			want(t, passes, profile+", UDP to port "+port, handEnd{h, near, i.addr("relay1", port)}, handEnd{i.relay1, i.udp[port], ""})
		}
	}
}

func TestNoNameIsResolvedBehindDoHOnly(t *testing.T) {
	t.Parallel()
	i := behind(t, "doh-only", "home")
	for profile, answers := range map[string]bool{"home": true, "doh-only": false} {
		h := i.behind(t, profile)
		router := netip.AddrPortFrom(i.lab.host(t, profile).Addr.Prev(), 53).String()
		for _, over := range []string{"udp", "tcp"} {
			a := h.ask(order{Do: "query", Network: over, Addr: router, Data: []byte("relay1." + defaultZone + " A"), Timeout: 2 * silence})
			if answers != (a.Err == "") || !answers && !silent(errors.New(a.Err)) {
				t.Errorf("%s: the router's resolver over %s: %q %s", profile, over, a.Data, a.Err)
			}
		}
	}
}

func TestARefusalComesAtOnce(t *testing.T) {
	t.Parallel()
	i := behind(t, "institutional-reject")
	h := i.behind(t, "institutional-reject")
	for _, port := range []string{"80", "443"} {
		i.wantTCP(t, h, port, true)
	}
	a := h.ask(order{Do: "dial", Network: "tcp4", Addr: i.addr("relay1", "4001"), Timeout: patience})
	if !strings.Contains(a.Err, "connection refused") || a.Took > silence {
		t.Errorf("TCP 4001: %q after %s, want a refusal at once", a.Err, a.Took)
	}
	// A connected UDP socket gets what ICMP said with the next call.
	s := h.do(order{Do: "dial", Network: "udp4", Addr: i.addr("relay1", "4001")}).ID
	h.do(order{Do: "write", ID: s, Data: []byte("hello")})
	if a := h.ask(order{Do: "read", ID: s, Timeout: patience}); !strings.Contains(a.Err, "no route to host") || a.Took > silence {
		t.Errorf("UDP: %q after %s, want an ICMP error at once", a.Err, a.Took)
	}
	if a := i.relay1.ask(order{Do: "read", ID: i.udp["4001"], Timeout: silence}); a.Err == "" {
		t.Error("and yet it arrived")
	}
	i.wantClosedInbound(t, h)
}

func TestLongPacketsVanishInABlackHole(t *testing.T) {
	t.Parallel()
	i := behind(t, "pmtu-blackhole", "home")
	const headers = 20 + 8
	fits, tooLong := strings.Repeat("x", 1280-headers), strings.Repeat("x", 1281-headers)
	h := i.behind(t, "pmtu-blackhole")
	f := i.datagrams(t, h, "4001")
	for from, to := range map[handEnd]handEnd{f.near: f.far, f.far: f.near} {
		for range 2 { // had ICMP told of the limit, the second would come in fragments
			if err := from.lost(to, tooLong); err != nil {
				t.Errorf("1281 bytes from %s: %v", from.name, err)
			}
		}
		if err := from.says(to, fits); err != nil {
			t.Errorf("1280 bytes from %s: %v", from.name, err)
		}
	}
	if f := i.datagrams(t, i.behind(t, "home"), "4001"); f.near.says(f.far, tooLong) != nil {
		t.Error("1281 bytes do not even pass at home")
	}
	if got := i.stream(t, h, 0, 64<<10); got != 0 {
		t.Errorf("of a stream in full segments %d bytes arrived", got)
	}
	if got := i.stream(t, h, 1200, 64<<10); got != 64<<10 {
		t.Errorf("of a stream in segments of 1200 bytes %d of %d arrived", got, 64<<10)
	}
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

func TestADeadHostSeemsToConnectThroughASYNProxy(t *testing.T) {
	t.Parallel()
	i := behind(t, "syn-proxy", "home")
	h := i.behind(t, "syn-proxy")
	if f := i.connect(t, h, "4001"); f.far.says(f.near, "I speak first") != nil || f.alive() != nil {
		t.Error("a flow to a host that lives is dead")
	}
	if got := i.stream(t, h, 0, 256<<10); got != 256<<10 {
		t.Errorf("%d of %d bytes of a stream arrived", got, 256<<10)
	}
	i.relay2.do(order{Do: "listen", Network: "tcp4", Addr: ":4001"})
	if err := i.lab.Unplug(t.Context(), "relay2"); err != nil {
		t.Fatal(err)
	}
	dead := order{Do: "dial", Network: "tcp4", Addr: i.addr("relay2", "4001"), Timeout: patience}
	if a := i.behind(t, "home").ask(dead); !silent(errors.New(a.Err)) {
		t.Errorf("the dead host answers to others: %q", a.Err)
	}
	a := h.ask(dead)
	if a.Err != "" {
		t.Fatalf("the dead host does not seem to connect: %s", a.Err)
	}
	h.do(order{Do: "write", ID: a.ID, Data: []byte("hello")})
	if got := h.ask(order{Do: "read", ID: a.ID, Timeout: silence}); !silent(errors.New(got.Err)) {
		t.Errorf("the dead host says %q %s", got.Data, got.Err)
	}
}

func TestFlowsAreForgottenWhenTheyAreIdle(t *testing.T) {
	t.Parallel()
	i := behind(t, "udp-idle-15s", "tcp-idle-30s")
	udp := func() handFlow {
		f := i.datagrams(t, i.behind(t, "udp-idle-15s"), "4001")
		if err := f.far.says(f.near, "an answer"); err != nil {
			t.Fatal(err)
		}
		return f
	}
	tcp := func() handFlow { return i.connect(t, i.behind(t, "tcp-idle-30s"), "4001") }
	var all sync.WaitGroup
	after := func(idle time.Duration, f handFlow, check func(handFlow, time.Duration)) {
		all.Go(func() { time.Sleep(idle); check(f, idle) }) // the time is what is tested
	}
	lives := func(f handFlow, idle time.Duration) {
		if err := f.far.says(f.near, "still there?"); err != nil {
			t.Errorf("%s, idle for %s: %v", f.near.name, idle, err)
		}
	}
	dead := func(f handFlow, idle time.Duration) {
		if err := f.far.lost(f.near, "still there?"); err != nil {
			t.Errorf("%s, idle for %s, and what its peer says is not lost: %v", f.near.name, idle, err)
		}
	}
	deadBothWays := func(f handFlow, idle time.Duration) {
		dead(f, idle)
		if err := f.near.lost(f.far, "still there?"); err != nil {
			t.Errorf("%s, idle for %s, and what it says is not lost: %v", f.near.name, idle, err)
		}
	}
	after(12*time.Second, udp(), lives)
	after(16*time.Second, udp(), dead)
	after(27*time.Second, tcp(), lives)
	after(31*time.Second, tcp(), deadBothWays)
	all.Wait()
}

func TestARebindChangesThePorts(t *testing.T) {
	t.Parallel()
	i := behind(t, "nat-rebind", "home")
	h := i.behind(t, "nat-rebind")
	u, c := i.datagrams(t, h, "4001"), i.connect(t, h, "443")
	if err := errors.Join(u.alive(), c.alive()); err != nil {
		t.Fatal(err)
	}
	if err := i.lab.Rebind(t.Context(), "nat-rebind"); err != nil {
		t.Fatal(err)
	}
	if err := u.far.lost(u.near, "an answer"); err != nil {
		t.Errorf("to the old port: %v", err)
	}
	u.near.do(order{Do: "write", ID: u.near.id, Addr: u.near.peer, Data: []byte("again")})
	got := u.far.do(order{Do: "read", ID: u.far.id, Timeout: patience})
	if before, after := netip.MustParseAddrPort(u.far.peer), netip.MustParseAddrPort(got.Remote); before.Addr() != after.Addr() || before.Port() == after.Port() {
		t.Errorf("it was seen at %s, and after the reboot at %s", before, after)
	}
	c.near.do(order{Do: "write", ID: c.near.id, Data: []byte("still there?")})
	if got := c.near.ask(order{Do: "read", ID: c.near.id, Timeout: patience}); !wasReset(errors.New(got.Err)) {
		t.Errorf("the peer of a TCP flow does not know the new port, and says %q %s", got.Data, got.Err)
	}
}

func TestMappingsAreOpenToOthers(t *testing.T) {
	t.Parallel()
	i := behind(t, "home", "address-restricted", "full-cone", "full-cone + udp-443-blocked")
	for profile, lets := range map[string]struct{ peer, stranger bool }{
		"home":                        {false, false},
		"address-restricted":          {true, false},
		"full-cone":                   {true, true},
		"full-cone + udp-443-blocked": {true, true},
	} {
		h := i.behind(t, profile)
		f := i.datagrams(t, h, "4001")
		if err := f.alive(); err != nil {
			t.Fatalf("%s: %v", profile, err)
		}
		peer, stranger := handEnd{i.relay1, i.udp["80"], f.far.peer}, handEnd{i.relay2, i.udp2, f.far.peer}
		want(t, lets.peer, profile+", another port of a peer", peer, f.near)
		want(t, lets.stranger, profile+", a stranger", stranger, f.near)
		if lets.stranger {
			f.near.peer = i.addr("relay2", "4001")
			if err := f.near.says(stranger, "an answer"); err != nil {
				t.Errorf("%s, the answer to a stranger: %v", profile, err)
			}
		}
		i.wantClosedInbound(t, h) // at a port without a mapping
		if err := i.lab.Rebind(t.Context(), i.lab.host(t, h.name).Network); err != nil {
			t.Fatal(err)
		}
		want(t, false, profile+", a peer after a reboot", peer, f.near)
	}
	// What is stopped on its way out opens nothing.
	h := i.behind(t, "full-cone + udp-443-blocked")
	near := handEnd{h, h.do(order{Do: "listen", Network: "udp4", Addr: ":7000"}).ID, i.addr("relay1", "443")}
	if err := near.lost(handEnd{i.relay1, i.udp["443"], ""}, "hello"); err != nil {
		t.Errorf("UDP to 443: %v", err)
	}
	want(t, false, "to a port that was never let out", handEnd{i.relay2, i.udp2, i.egress(h.name, "7000")}, near)
}

func TestACarrierGradeNATHasFewPorts(t *testing.T) {
	t.Parallel()
	i := behind(t, "cgnat-ports")
	h := i.behind(t, "cgnat-ports")
	s := h.do(order{Do: "listen", Network: "udp4", Addr: ":4001"}).ID
	seen := map[uint16]bool{}
	for port, id := range i.udp {
		h.do(order{Do: "write", ID: s, Addr: i.addr("relay1", port), Data: []byte("hello")})
		from := i.relay1.do(order{Do: "read", ID: id, Timeout: patience}).Remote
		seen[netip.MustParseAddrPort(from).Port()] = true
	}
	for port := range seen {
		if port < 50000 || port > 50063 {
			t.Errorf("port %d is not one of the 64", port)
		}
	}
	if len(seen) < 2 {
		t.Errorf("%d destinations see the same port %v", len(i.udp), seen)
	}
	i.wantClosedInbound(t, h)
}

func TestIPv6GoesAsFarAsTheProfileLetsIt(t *testing.T) {
	t.Parallel()
	i := behind(t, "ipv6-stateful", "ipv6-broken", "home")
	l := i.relay1.do(order{Do: "listen", Network: "tcp6", Addr: ":6001"}).ID
	at := func(a netip.Addr) string { return netip.AddrPortFrom(a, 6001).String() }
	dial := func(h *hand, to netip.Addr) answer {
		return h.ask(order{Do: "dial", Network: "tcp6", Addr: at(to), Timeout: 3 * silence})
	}
	relay1 := i.lab.host(t, "relay1").Addr6
	good, bad := i.behind(t, "ipv6-stateful"), i.behind(t, "ipv6-broken")

	if a := dial(good, relay1); a.Err != "" {
		t.Errorf("ipv6-stateful: %s", a.Err)
	} else if in := i.relay1.do(order{Do: "accept", ID: l, Timeout: patience}); netip.MustParseAddrPort(in.Remote).Addr() != i.lab.host(t, good.name).Addr6 {
		t.Errorf("ipv6-stateful: it comes from %s, which is not its own address", in.Remote)
	}
	good.do(order{Do: "listen", Network: "tcp6", Addr: ":6001"})
	if a := dial(i.relay2, i.lab.host(t, good.name).Addr6); !silent(errors.New(a.Err)) {
		t.Errorf("ipv6-stateful, from outside: %q, want silence", a.Err)
	}

	if a := dial(bad, relay1); !silent(errors.New(a.Err)) {
		t.Errorf("ipv6-broken: %q, want silence", a.Err)
	}
	if a := dial(bad, nthLAN6(1).Addr()); !strings.Contains(a.Err, "connection refused") {
		t.Errorf("ipv6-broken, to the router itself: %q, want a refusal: it is there", a.Err)
	}
	i.wantTCP(t, bad, "4001", true)
	router := netip.AddrPortFrom(i.lab.host(t, bad.name).Addr.Prev(), 53).String()
	if a := bad.do(order{Do: "query", Network: "udp", Addr: router, Data: []byte("relay1." + defaultZone + " AAAA"), Timeout: patience}); !bytes.HasSuffix(a.Data, []byte(" "+relay1.String())) {
		t.Errorf("the relay's AAAA record: %s", a.Data)
	}
	if a := dial(i.behind(t, "home"), relay1); !strings.Contains(a.Err, "unreachable") && !strings.Contains(a.Err, "cannot assign") {
		t.Errorf("home has no IPv6, and yet: %q", a.Err)
	}
}

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
