//go:build linux

package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// order is what a test asks an agent on a host to do with its network.
type order struct {
	Do      string // listen, dial, accept, read, write, close
	Network string
	Addr    string
	From    string // dial: local address
	MSS     int    // dial: the longest TCP segment; 0 means the kernel's choice
	ID      int    // of a socket
	Data    []byte
	Timeout time.Duration
	Name    string            // tls: SNI
	ALPN    []string          // tls
	Public  bool              // tls listen: with the certificate that public hosts have
	Method  string            // fetch
	Headers map[string]string // fetch
}

type answer struct {
	ID     int
	Local  string
	Remote string
	Data   []byte
	Took   time.Duration
	Err    string
	seen   // of TLS and HTTP
}

// hand is a test's hand on a host's network: this program, running there.
type hand struct {
	t    testing.TB
	name string
	mu   sync.Mutex // guards the fields below: one order at a time
	in   *json.Encoder
	out  *json.Decoder
}

// agentPath is this program, without a copy of it in the host's memory: every
// host's PID 1 runs it.
const agentPath = "/proc/1/exe"

// hand starts this program as an agent on a host, and returns a hand on it.
func (l *Lab) hand(t testing.TB, host string) *hand {
	t.Helper()
	s, err := l.login(t, host).NewSession()
	if err != nil {
		t.Fatal(err)
	}
	in, err1 := s.StdinPipe()
	out, err2 := s.StdoutPipe()
	s.Stderr = t.Output()
	if err := errors.Join(err1, err2, s.Start("exec "+agentPath+" agent")); err != nil {
		t.Fatal(err)
	}
	return &hand{t: t, name: host, in: json.NewEncoder(in), out: json.NewDecoder(bufio.NewReader(out))}
}

func (h *hand) ask(o order) answer {
	h.mu.Lock()
	defer h.mu.Unlock()
	var a answer
	if err := errors.Join(h.in.Encode(o), h.out.Decode(&a)); err != nil {
		h.t.Fatalf("agent on %s: %v", h.name, err)
	}
	return a
}

func (h *hand) do(o order) answer {
	h.t.Helper()
	a := h.ask(o)
	if a.Err != "" {
		h.t.Fatalf("%s on %s: %s", o.Do, h.name, a.Err)
	}
	return a
}

// agent serves orders from stdin until its end.
func agent() error {
	orders, answers := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	sockets := []io.Closer{}
	for {
		var o order
		if err := orders.Decode(&o); err != nil {
			return nil
		}
		var a answer
		start := time.Now()
		if err := o.serve(&a, &sockets); err != nil {
			a.Err = err.Error()
		}
		a.Took = time.Since(start)
		if err := answers.Encode(a); err != nil {
			return err
		}
	}
}

func (o order) serve(a *answer, sockets *[]io.Closer) error {
	keep := func(c io.Closer, err error) error {
		if err == nil {
			a.ID = len(*sockets)
			*sockets = append(*sockets, c)
		}
		return err
	}
	deadline := time.Now().Add(o.Timeout)
	switch o.Do {
	case "listen":
		if strings.HasPrefix(o.Network, "udp") {
			c, err := net.ListenPacket(o.Network, o.Addr)
			return keep(c, err)
		}
		l, err := (&net.ListenConfig{KeepAlive: -1}).Listen(context.Background(), o.Network, o.Addr)
		return keep(l, err)
	case "dial":
		d := net.Dialer{Timeout: o.Timeout, KeepAlive: -1} // an idle flow is to be idle
		if o.From != "" {
			from, err := net.ResolveTCPAddr("tcp4", o.From)
			if err != nil {
				return err
			}
			d.LocalAddr = from
		}
		if o.MSS > 0 {
			d.Control = func(_, _ string, c syscall.RawConn) (err error) {
				return errors.Join(c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, o.MSS) }), err)
			}
		}
		c, err := d.Dial(o.Network, o.Addr)
		if err == nil {
			a.Local, a.Remote = c.LocalAddr().String(), c.RemoteAddr().String()
		}
		return keep(c, err)
	case "accept":
		l := (*sockets)[o.ID].(interface {
			net.Listener
			SetDeadline(time.Time) error
		})
		l.SetDeadline(deadline)
		c, err := l.Accept()
		if err == nil {
			a.Local, a.Remote = c.LocalAddr().String(), c.RemoteAddr().String()
		}
		return keep(c, err)
	case "write":
		if c, ok := (*sockets)[o.ID].(net.PacketConn); ok && o.Addr != "" {
			to, err := net.ResolveUDPAddr("udp", o.Addr)
			if err != nil {
				return err
			}
			_, err = c.WriteTo(o.Data, to)
			return err
		}
		_, err := (*sockets)[o.ID].(net.Conn).Write(o.Data)
		return err
	case "read":
		buf := make([]byte, 64<<10)
		if c, ok := (*sockets)[o.ID].(net.PacketConn); ok {
			c.SetReadDeadline(deadline)
			n, from, err := c.ReadFrom(buf)
			if err == nil && from != nil {
				a.Remote = from.String()
			}
			a.Data = buf[:n]
			return err
		}
		c := (*sockets)[o.ID].(net.Conn)
		c.SetReadDeadline(deadline)
		n, err := c.Read(buf)
		a.Data = buf[:n]
		return err
	case "flags": // of the host's interface
		ifc, err := net.InterfaceByName(eth0)
		if err == nil {
			a.Data = []byte(ifc.Flags.String())
		}
		return err
	case "query":
		return o.query(a)
	case "behaviour":
		return o.behaviour(a)
	case "lend":
		return o.lend(a)
	case "end": // of one direction
		return (*sockets)[o.ID].(*net.TCPConn).CloseWrite()
	case "close":
		return (*sockets)[o.ID].Close()
	case "sink": // read a stream to its end, and say how much it was
		c := (*sockets)[o.ID].(net.Conn)
		n, err := io.Copy(io.Discard, c)
		a.Data = fmt.Append(nil, n)
		return err
	case "tls listen":
		l, err := listenTLS(o.Addr, o.Public)
		return keep(l, err)
	case "tls":
		c, err := o.dialTLS(a)
		return keep(c, err)
	case "fetch":
		return o.fetch(a)
	case "pour": // write for the timeout, then close
		c := (*sockets)[o.ID].(net.Conn)
		buf := make([]byte, 256<<10)
		for time.Now().Before(deadline) {
			if _, err := c.Write(buf); err != nil {
				return err
			}
		}
		return c.Close()
	}
	return fmt.Errorf("unknown order %q", o.Do)
}

// query asks a DNS server and answers with the rcode and the records, a line each.
func (o order) query(a *answer) error {
	name, kind, _ := strings.Cut(string(o.Data), " ")
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.StringToType[kind])
	r, _, err := (&dns.Client{Net: o.Network, Timeout: o.Timeout}).Exchange(q, o.Addr)
	if err != nil {
		return err
	}
	a.Data = append(a.Data, dns.RcodeToString[r.Rcode]...)
	for _, rr := range r.Answer {
		a.Data = append(a.Data, "\n"+strings.ReplaceAll(rr.String(), "\t", " ")...)
	}
	return nil
}

// standIn plays the node that bystanders run: it has an identity and listens.
func standIn(args []string) error {
	if args[0] == "id" {
		name, err := os.Hostname()
		fmt.Println("StandIn-" + name)
		return err
	}
	l, err := net.Listen("tcp4", ":4001")
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		c.Close()
	}
}
