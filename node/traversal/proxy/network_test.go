package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// relay is what the tests dial, and where it is.
const (
	relay     = "relay.example.org:443"
	relayAddr = "192.0.2.1:443"
)

// network is what a Finder sees: names, and which addresses answer. The sockets
// behind it are real ones on loopback.
type network struct {
	t *testing.T

	mu     sync.Mutex // guards the fields below
	names  map[string]string
	leads  map[string]string // an address, and the one on loopback that it leads to; empty: silence
	dialed []string
	log    strings.Builder
	found  []string
}

// newNetwork has the relay, with an echo on it, which cannot be reached directly.
func newNetwork(t *testing.T) *network {
	n := &network{t: t, names: map[string]string{}, leads: map[string]string{}}
	n.names["relay.example.org"] = "192.0.2.1"
	return n
}

// finder is one in this network, with that environment.
func (n *network) finder(env map[string]string) *Finder {
	return &Finder{
		Getenv:  func(name string) string { return env[name] },
		Search:  func() []string { return []string{"example.edu"} },
		Lookup:  n.lookup,
		Found:   n.hear,
		Log:     slog.New(slog.NewTextHandler(locked{n}, nil)),
		connect: n.connect,
	}
}

func (n *network) lookup(_ context.Context, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a, ok := n.names[host]; ok {
		return []netip.Addr{netip.MustParseAddr(a)}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

func (n *network) connect(ctx context.Context, addr string) (net.Conn, error) {
	n.mu.Lock()
	n.dialed = append(n.dialed, addr)
	to, ok := n.leads[addr]
	n.mu.Unlock()
	switch {
	case !ok:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ENETUNREACH}
	case to == "":
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return new(net.Dialer).DialContext(ctx, "tcp", to)
}

func (n *network) hear(url, source string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.found = append(n.found, url+" of "+source)
}

// lead opens, changes or (to "") silences an address.
func (n *network) lead(addr, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leads[addr] = to
}

// wasDialed counts the dials to an address.
func (n *network) wasDialed(addr string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	count := 0
	for _, a := range n.dialed {
		if a == addr {
			count++
		}
	}
	return count
}

func (n *network) logged() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.log.String() + strings.Join(n.found, "\n")
}

type locked struct{ n *network }

func (l locked) Write(b []byte) (int, error) {
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	return l.n.log.Write(b)
}

// serve listens on loopback and answers each connection with handle, which need
// not close it.
func serve(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				handle(c)
			}()
		}
	}()
	return l.Addr().String()
}

// echo sends back what comes.
func echo(c net.Conn) { _, _ = io.Copy(c, c) }

// web is an HTTP proxy. Its zero value lets everybody through to the echo.
type web struct {
	login    string        // user:password that it wants; empty: none
	schemes  []string      // how it says so; nil: Basic
	status   int           // with which it refuses all; 0: it does not
	pause    time.Duration // before it answers
	greeting string        // what the far side says unasked, in one packet with the answer
	secure   *tls.Config   // nil: plain HTTP

	t       *testing.T
	address string
	mu      sync.Mutex // guards the fields below
	asked   []string   // for which targets
	logins  []string   // what it was sent
}

// at puts the proxy on the network under a name.
func (w *web) at(n *network, host, ip, port string) *web {
	w.t = n.t
	w.address = serve(n.t, w.handle)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.names[host] = ip
	n.leads[net.JoinHostPort(ip, port)] = w.address
	return w
}

func (w *web) handle(c net.Conn) {
	if w.secure != nil {
		c = tls.Server(c, w.secure)
	}
	br := bufio.NewReader(c)
	req, err := http.ReadRequest(br)
	if err != nil {
		return
	}
	sent := req.Header.Get("Proxy-Authorization")
	w.mu.Lock()
	w.asked = append(w.asked, req.Host)
	w.logins = append(w.logins, sent)
	w.mu.Unlock()
	time.Sleep(w.pause)
	switch {
	case req.Method != http.MethodConnect:
		w.refuse(c, http.StatusMethodNotAllowed, nil)
	case w.status != 0:
		w.refuse(c, w.status, w.schemes)
	case w.login != "" && sent != "Basic "+base64.StdEncoding.EncodeToString([]byte(w.login)):
		if w.schemes == nil {
			w.schemes = []string{`Basic realm="of, the cat"`}
		}
		w.refuse(c, http.StatusProxyAuthRequired, w.schemes)
	default:
		_, _ = io.WriteString(c, "HTTP/1.1 200 Connection established\r\nVia: the cat\r\n\r\n"+w.greeting)
		_, _ = io.Copy(c, br)
	}
}

func (w *web) refuse(c io.Writer, status int, schemes []string) {
	_, _ = fmt.Fprintf(c, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	for _, s := range schemes {
		_, _ = fmt.Fprintf(c, "Proxy-Authenticate: %s\r\n", s)
	}
	_, _ = io.WriteString(c, "Content-Length: 0\r\n\r\n")
}

// saw is what it was asked for, and with what logins.
func (w *web) saw() (targets, logins []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string{}, w.asked...), append([]string{}, w.logins...)
}

// socksServer answers RFC 1928's greeting and request, with an echo behind it.
func socksServer(login string, status byte, target *string) func(net.Conn) {
	return func(c net.Conn) {
		if err := socksAnswer(c, login, status, target); err == nil {
			echo(c)
		}
	}
}

func socksAnswer(c net.Conn, login string, status byte, target *string) error {
	head := make([]byte, 2)
	if _, err := io.ReadFull(c, head); err != nil {
		return err
	}
	methods := make([]byte, head[1])
	if _, err := io.ReadFull(c, methods); err != nil {
		return err
	}
	want := byte(0)
	if login != "" {
		want = 2
	}
	if !strings.Contains(string(methods), string([]byte{want})) {
		_, _ = c.Write([]byte{5, 0xff})
		return errors.New("no method in common")
	}
	_, _ = c.Write([]byte{5, want})
	if login != "" {
		user, err1 := text(c, 1)
		password, err2 := text(c, 0)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if user+":"+password != login {
			_, _ = c.Write([]byte{1, 1})
			return errors.New("wrong login")
		}
		_, _ = c.Write([]byte{1, 0})
	}
	host, err := socksTarget(c)
	if err != nil {
		return err
	}
	port := make([]byte, 2)
	if _, err := io.ReadFull(c, port); err != nil {
		return err
	}
	*target = fmt.Sprintf("%s:%d", host, binary.BigEndian.Uint16(port))
	_, _ = c.Write([]byte{5, status, 0, 1, 0, 0, 0, 0, 0, 0})
	if status != 0 {
		return errors.New("refused")
	}
	return nil
}

// socksTarget is the host of a request: a name, or an IPv4 address.
func socksTarget(c io.Reader) (string, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(c, head); err != nil {
		return "", err
	}
	if head[3] == 3 {
		return text(c, 0)
	}
	var ip [4]byte
	_, err := io.ReadFull(c, ip[:])
	return netip.AddrFrom4(ip).String(), err
}

// text reads a text with its length before it, after some bytes to skip.
func text(r io.Reader, skip int) (string, error) {
	head := make([]byte, skip+1)
	if _, err := io.ReadFull(r, head); err != nil {
		return "", err
	}
	b := make([]byte, head[skip])
	_, err := io.ReadFull(r, b)
	return string(b), err
}

// patience of a test that waits for the network to answer.
const patience = 10 * time.Second

// dial must work; the connection leads to the echo.
func dial(t *testing.T, f *Finder, target, wantRoute string) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, route, err := f.Dial(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if route != wantRoute {
		t.Errorf("the route is %q, not %q", route, wantRoute)
	}
	echoes(t, conn)
	return conn
}

func echoes(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, "ping"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4)
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != "ping" {
		t.Fatalf("the far side answers %q, %v", b, err)
	}
}

// soon does something that takes less than most, unless the machine is busy: then
// it is done again.
func soon(t *testing.T, most time.Duration, do func()) {
	t.Helper()
	var took time.Duration
	for range 10 {
		began := time.Now()
		do()
		if took = time.Since(began); took <= most {
			return
		}
	}
	t.Errorf("it took %v, ten times", took)
}

// fails to dial; the error is what the test is about.
func fails(t *testing.T, f *Finder, target string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, _, err := f.Dial(ctx, target)
	if err == nil {
		_ = conn.Close()
		t.Fatalf("dialling %s worked", target)
	}
	return err
}
