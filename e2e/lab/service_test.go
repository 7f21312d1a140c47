//go:build linux

package lab

import (
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/worldcompute/wce2e/inventory"
)

// served is a lab with a host behind each of the profiles, in a network of its
// name, a bystander, and one public host, which shakes hands on 443 and listens on 80 and 4001.
type served struct {
	*testing.T
	lab    *Lab
	hands  map[string]*hand
	relay  *hand
	server map[string]int // its listeners by port
	addr   string         // of the relay
}

// patience is for what has to come, on a machine that is busy with other tests.
const patience = 20 * time.Second

const relayName = "relay1." + defaultZone

func serve(t *testing.T, profiles ...string) *served {
	t.Parallel() // most of a test's time is spent on waiting for what must not come
	l := &inventory.Lab{
		Latency:  10 * time.Millisecond,
		Networks: []inventory.LabNetwork{{Name: "core", Profile: open}},
		Hosts:    []inventory.LabHost{{Name: "relay1", Network: "core"}},
		// whose address is what _dnsaddr names have to say
		Bystanders: 1,
	}
	for _, p := range profiles {
		l.Networks = append(l.Networks, inventory.LabNetwork{Name: p, Profile: p})
		l.Hosts = append(l.Hosts, inventory.LabHost{Name: p, Network: p})
	}
	s := &served{T: t, lab: bring(t, Config{Lab: l, Binary: ownBinary(t)}), hands: map[string]*hand{}, server: map[string]int{}}
	for _, p := range profiles {
		s.hands[p] = s.lab.hand(t, p)
	}
	s.relay, s.addr = s.lab.hand(t, "relay1"), s.lab.host(t, "relay1").Addr.String()
	s.server["443"] = s.relay.do(order{Do: "tls listen", Addr: ":443"}).ID
	s.server["8443"] = s.relay.do(order{Do: "tls listen", Addr: ":8443", Public: true}).ID
	for _, port := range []string{"80", "4001"} {
		s.server[port] = s.relay.do(order{Do: "listen", Network: "tcp4", Addr: ":" + port}).ID
	}
	return s
}

// socket is one end of a connection.
type socket struct {
	t  *testing.T
	on *hand
	id int
}

func (s *served) accept(t *testing.T, port string) socket {
	t.Helper()
	return socket{t, s.relay, s.relay.do(order{Do: "accept", ID: s.server[port], Timeout: patience}).ID}
}

// dial connects to where it must be possible.
func dial(t *testing.T, h *hand, addr string) socket {
	t.Helper()
	return socket{t, h, h.do(order{Do: "dial", Network: "tcp4", Addr: addr, Timeout: patience}).ID}
}

func (s socket) send(text string) {
	s.t.Helper()
	s.on.do(order{Do: "write", ID: s.id, Data: []byte(text)})
}

// receive reads until the text ends in what is awaited, and returns all of it.
func (s socket) receive(end string) string {
	s.t.Helper()
	text := ""
	for !strings.HasSuffix(text, end) {
		a := s.on.ask(order{Do: "read", ID: s.id, Timeout: patience})
		text += string(a.Data)
		if a.Err != "" {
			s.t.Fatalf("%s waits for %q and has %q: %s", s.on.name, end, text, a.Err)
		}
	}
	return text
}

// wantJoined sends both ways, then closes one end, of which the other has to hear.
func wantJoined(t *testing.T, near, far socket) {
	t.Helper()
	exchange(near, far)
	near.on.do(order{Do: "close", ID: near.id})
	far.wantEnd()
}

func exchange(near, far socket) {
	near.t.Helper()
	near.send("there")
	far.receive("there")
	far.send("and back")
	near.receive("and back")
}

func (s socket) wantEnd() {
	s.t.Helper()
	if a := s.on.ask(order{Do: "read", ID: s.id, Timeout: patience}); a.Err != "EOF" {
		s.t.Errorf("%s is not told of the end: %q, %s", s.on.name, a.Data, a.Err)
	}
}

// wantDropped dials what has to be dropped silently.
func wantDropped(t *testing.T, h *hand, addr string) {
	t.Helper()
	if a := h.ask(order{Do: "dial", Network: "tcp4", Addr: addr, Timeout: silence}); !strings.Contains(a.Err, "i/o timeout") {
		t.Errorf("%s is not dropped: %q", addr, a.Err)
	}
}

func query(t *testing.T, h *hand, network, server, question string) string {
	t.Helper()
	return string(h.do(order{Do: "query", Network: network, Addr: server, Data: []byte(question), Timeout: patience}).Data)
}

// message asks for the address of a name.
func message(t *testing.T, name string) []byte {
	t.Helper()
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	m.Id = 0 // RFC 8484, section 4.1
	text, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return text
}
