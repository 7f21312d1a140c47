//go:build linux

package lab

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// What proofs of services say: DNS, HTTP and TLS over sockets of the host.

// ask asks a DNS server from the host, and returns the response code and the
// records, a line each.
func (t *trial) ask(network string, server netip.AddrPort, name string, kind uint16, wait time.Duration) (string, error) {
	var e *end
	var err error
	if network == "udp" {
		e, err = t.dialUDP(t.host, server)
	} else {
		e, err = t.dial(t.host, 0, server, wait)
	}
	if err != nil {
		return "", err
	}
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
	r, _, err := (&dns.Client{Net: network, Timeout: wait}).ExchangeWithConn(q, &dns.Conn{Conn: e.stream})
	if err != nil {
		return "", err
	}
	lines := []string{dns.RcodeToString[r.Rcode]}
	for _, rr := range r.Answer {
		lines = append(lines, strings.ReplaceAll(rr.String(), "\t", " "))
	}
	return strings.Join(lines, "\n"), nil
}

// wantAnswer is nil when a DNS server answers with a text that ends so, over UDP
// and TCP.
func (t *trial) wantAnswer(server netip.AddrPort, name string, kind uint16, want string) error {
	for _, network := range []string{"udp", "tcp"} {
		a, err := t.ask(network, server, name, kind, answerWait)
		if err != nil || !strings.HasSuffix(a, want) {
			return fmt.Errorf("%s %s, asked of %s over %s, is answered with %q (%v), want %q",
				dns.TypeToString[kind], name, server, network, a, err, want)
		}
	}
	return nil
}

// resolve is the address of a name, as the router's resolver says.
func (t *trial) resolve(name string) (netip.Addr, error) {
	a, err := t.ask("udp", t.router.at(53), name, dns.TypeA, answerWait)
	if err != nil {
		return netip.Addr{}, err
	}
	words := strings.Fields(a)
	addr, err := netip.ParseAddr(words[len(words)-1])
	if err != nil {
		return addr, fmt.Errorf("the router's resolver does not know %s: %s", name, a)
	}
	return addr, nil
}

// fetch makes a request over a connection of its own from the host, and returns
// the response and its body.
func (t *trial) fetch(method string, at netip.AddrPort, host, path string) (*http.Response, string, error) {
	e, err := t.dial(t.host, 0, at, answerWait)
	if err != nil {
		return nil, "", err
	}
	return e.fetch(method, host, path)
}

func (e *end) fetch(method, host, path string, headers ...string) (*http.Response, string, error) {
	text := method + " " + path + " HTTP/1.1\r\nHost: " + host + "\r\n" + strings.Join(append(headers, ""), "\r\n")
	if method == http.MethodPost {
		text += "Content-Length: 0\r\n"
	}
	if err := e.write(text + "\r\n"); err != nil {
		return nil, "", err
	}
	if err := e.stream.SetReadDeadline(time.Now().Add(answerWait)); err != nil {
		return nil, "", err
	}
	r, err := http.ReadResponse(bufio.NewReaderSize(e.stream, 16), &http.Request{Method: method}) // reads no more than the head ahead
	if err != nil {
		return nil, "", fmt.Errorf("%s http://%s%s: %w", method, host, path, err)
	}
	if method == http.MethodConnect {
		return r, "", nil
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	return r, string(body), err
}

// selfSigned is a certificate that nobody trusts.
func selfSigned() (*tls.Certificate, error) {
	self, err := newAuthority("self")
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{self.cert.Raw}, PrivateKey: self.key}, nil
}

// trusts tells whether the host would take a certificate for a name's, of those
// authorities that the lab has given it.
func (t *trial) trusts(c *x509.Certificate, name string) error {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(t.equipment.Trust))
	_, err := c.Verify(x509.VerifyOptions{DNSName: name, Roots: pool})
	return err
}

// secured is a TLS flow between the host and a port of the server. What lies
// between may be two of them.
type secured struct {
	flow
	shown *x509.Certificate // to the host
}

// shake has the host shake hands with the server: by a name, offering protocols,
// with whatever certificate it is shown.
func (t *trial) shake(number uint16, cert *tls.Certificate, name string, protocols ...string) (*secured, error) {
	direct := func(to netip.AddrPort) (*end, error) { return t.dial(t.host, 0, to, answerWait) }
	return t.shakeBy(direct, t.server, number, cert, name, protocols...)
}

// shakeBy is shake with any server, by a connection of any kind.
func (t *trial) shakeBy(dial func(netip.AddrPort) (*end, error), server place, number uint16, cert *tls.Certificate, name string, protocols ...string) (*secured, error) {
	l, err := t.listen(server, number)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.ctx, answerWait)
	defer cancel()
	served := make(chan *tls.Conn, 1)
	go func() {
		defer close(served)
		c, err := l.Accept()
		if err != nil {
			return
		}
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{*cert}, NextProtos: []string{"http/1.1", "libp2p"}})
		t.keep(s)
		if s.HandshakeContext(ctx) == nil {
			served <- s
		}
	}()
	near, err := dial(server.at(number))
	if err != nil {
		return nil, err
	}
	c := tls.Client(near.stream, &tls.Config{ServerName: name, NextProtos: protocols, InsecureSkipVerify: true})
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("shake hands with %s: %w", name, err)
	}
	select {
	case s := <-served:
		if s == nil {
			return nil, fmt.Errorf("the host has shaken hands as with %s, and the server with nobody", name)
		}
		return &secured{flow{&end{name: "host", stream: c}, &end{name: "server", stream: net.Conn(s)}}, c.ConnectionState().PeerCertificates[0]}, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("the host has shaken hands as with %s, and the server has not", name)
	}
}

// variable is what equipment sets a variable to; empty when it does not.
func (e equipment) variable(name string) string {
	i := slices.IndexFunc(e.Env, func(v string) bool { return strings.HasPrefix(v, name+"=") })
	if i < 0 {
		return ""
	}
	return strings.TrimPrefix(e.Env[i], name+"=")
}

const webSocketRequest = "GET /chat HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
