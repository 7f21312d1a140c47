package names

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// plainServer answers in the clear, on one port over UDP and TCP; over UDP it leaves
// the first question unanswered.
func plainServer(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u, err := net.ListenPacket("udp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	var lost atomic.Bool
	answer := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		if w.RemoteAddr().Network() == "udp" && !lost.Swap(true) {
			return
		}
		a := new(dns.Msg).SetReply(q)
		switch q.Question[0].Qtype {
		case dns.TypeTXT:
			a.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{"yes"}}}
		default:
			a.Rcode = dns.RcodeNameError
		}
		_ = w.WriteMsg(a)
	})
	for _, s := range []*dns.Server{{Listener: l, Handler: answer}, {PacketConn: u, Handler: answer}} {
		go func() { _ = s.ActivateAndServe() }()
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return netip.MustParseAddrPort(l.Addr().String())
}

func TestAClientAsksOneServerInTheClear(t *testing.T) {
	at := plainServer(t)
	for _, p := range []Protocol{UDP, TCP} {
		t.Run(string(p), func(t *testing.T) {
			c := NewClient(Server{Protocol: p, Addr: at}, nil)
			defer c.Close()
			got, err := c.Ask(t.Context(), "relay.example.org", TXT)
			if err != nil || !slices.Equal(got, []string{"yes"}) {
				t.Errorf("%q, %v", got, err)
			}
			if _, err := c.Ask(t.Context(), "relay.example.org", IP); !isNotFound(err) {
				t.Errorf("a denial is %v", err)
			}
			if _, err := c.Ask(t.Context(), "", IP); err == nil {
				t.Error("no name is a name")
			}
		})
	}
}

func TestAClientWaitsNoLongerThanItIsTold(t *testing.T) {
	u, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	c := NewClient(Server{Protocol: UDP, Addr: netip.MustParseAddrPort(u.LocalAddr().String())}, nil)
	began := time.Now()
	if _, err := c.Ask(ctx, "relay.example.org", TXT); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("silence is %v", err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
}
