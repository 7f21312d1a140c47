//go:build linux

package lab

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"
)

// The proofs of what reads web traffic.

// proveRedirected is nil when a connection to a port of the server goes to the
// router, whoever answers there.
func proveRedirected(t *trial, number uint16) error {
	l, err := t.listen(t.server, number)
	if err != nil {
		return err
	}
	if _, err := t.dial(t.host, 0, t.server.at(number), answerWait); err != nil && !isRefused(err) {
		return fmt.Errorf("TCP %d is not answered: %w", number, err)
	}
	if _, err := t.accept(l, silence); !timedOut(err) {
		return fmt.Errorf("TCP %d reaches the server", number)
	}
	t.saw("TCP %d to the server connects, and not with the server", number)
	return nil
}

func (i interception) prove(t *trial) error {
	if i.plain {
		return i.provePlain(t)
	}
	cert, err := selfSigned()
	if err != nil {
		return err
	}
	if i.verify {
		if _, err := t.shake(443, cert, t.name, "http/1.1"); err == nil {
			return errors.New("a self-signed server passes")
		}
		t.saw("a self-signed server is refused")
		if cert, err = t.pki.web.issue(t.name, t.server.addr.String()); err != nil {
			return err
		}
		if _, err := t.shake(443, cert, "another.example.org", "http/1.1"); err == nil {
			return errors.New("a server passes by a name that its certificate does not have")
		}
	}
	if _, err := t.shake(443, cert, t.name, "libp2p"); err == nil {
		return errors.New("TLS passes that offers nothing but libp2p")
	}
	f, err := t.shakeOffice(cert)
	if err != nil {
		return err
	}
	t.saw("the certificate shown is by %q", f.shown.Issuer.CommonName)
	if i.stripUpgrade {
		return errors.Join(t.seesNoUpgrade(f.flow, ""), t.holdsBack(f.flow))
	}
	if err := f.seesUpgrade(); err != nil {
		return err
	}
	t.saw("WebSocket passes")
	if f, err = t.shakeOffice(cert); err != nil {
		return err
	}
	t.saw("requests and answers stream")
	return f.streams()
}

// shakeOffice shakes hands with the server, and so with the interceptor.
func (t *trial) shakeOffice(cert *tls.Certificate) (*secured, error) {
	f, err := t.shake(443, cert, t.name, "http/1.1")
	if err != nil {
		return nil, err
	}
	if office := t.pki.office.cert.Subject.CommonName; f.shown.Issuer.CommonName != office {
		return nil, fmt.Errorf("the certificate shown is by %q, want %q", f.shown.Issuer.CommonName, office)
	}
	return f, nil
}

// seesUpgrade is nil when a WebSocket handshake passes, and all that follows.
func (f flow) seesUpgrade() error {
	if err := f.near.write(webSocketRequest); err != nil {
		return err
	}
	got, err := f.far.receive("\r\n\r\n")
	if err != nil {
		return err
	}
	if !strings.Contains(got, "Upgrade: websocket\r\n") {
		return fmt.Errorf("a WebSocket handshake arrives as %q", got)
	}
	if err := f.far.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"); err != nil {
		return err
	}
	if _, err := f.near.receive("\r\n\r\n"); err != nil {
		return err
	}
	return f.alive()
}

// streams is nil when the pieces of a request and of its answer arrive as they
// are sent, the one before the other has ended.
func (f flow) streams() error {
	for _, said := range []struct {
		from, to     *end
		text, awaits string
	}{
		{f.near, f.far, "POST / HTTP/1.1\r\nHost: relay\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n", "3\r\none\r\n"},
		{f.far, f.near, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n", "5\r\nfirst\r\n"},
		{f.near, f.far, "3\r\ntwo\r\n", "3\r\ntwo\r\n"},
		{f.far, f.near, "6\r\nsecond\r\n", "6\r\nsecond\r\n"},
	} {
		if err := said.from.write(said.text); err != nil {
			return err
		}
		if _, err := said.to.receive(said.awaits); err != nil {
			return err
		}
	}
	return nil
}

// seesNoUpgrade is nil when a WebSocket handshake arrives as a plain request,
// which has a header as well, and its answer streams piece by piece.
func (t *trial) seesNoUpgrade(f flow, header string) error {
	if err := f.near.write(webSocketRequest); err != nil {
		return err
	}
	got, err := f.far.receive("\r\n\r\n")
	if err != nil {
		return err
	}
	lower := strings.ToLower(got)
	if strings.Contains(lower, "upgrade") || strings.Contains(lower, "websocket") || !strings.Contains(got, header) {
		return fmt.Errorf("a WebSocket handshake arrives as %q", got)
	}
	pieces := []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "5\r\nfirst\r\n", "6\r\nsecond\r\n", "0\r\n\r\n"}
	for n, piece := range pieces {
		if err := f.far.write(piece); err != nil {
			return err
		}
		want := piece
		if n == 0 {
			want = "\r\n\r\n" // the proxy writes the head anew
		}
		if _, err := f.near.receive(want); err != nil {
			return err
		}
	}
	t.saw("an upgrade to WebSocket is taken out")
	return nil
}

// holdsBack is nil when a request arrives once it is whole.
func (t *trial) holdsBack(f flow) error {
	if err := f.near.write("POST / HTTP/1.1\r\nHost: relay\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n"); err != nil {
		return err
	}
	if text, _, err := f.far.read(silence); !timedOut(err) {
		return fmt.Errorf("half a request arrives: %q %v", text, err)
	}
	if err := f.near.write("3\r\ntwo\r\n0\r\n\r\n"); err != nil {
		return err
	}
	got, err := f.far.receive("onetwo")
	if err == nil && !strings.Contains(got, "Content-Length: 6\r\n") {
		err = fmt.Errorf("the whole request arrives as %q", got)
	}
	t.saw("a request arrives once it is whole")
	return err
}

func (i interception) provePlain(t *trial) error {
	l, err := t.listen(t.server, 80)
	if err != nil {
		return err
	}
	near, err := t.dial(t.host, 0, t.server.at(80), answerWait)
	if err != nil {
		return err
	}
	// The interceptor dials the server once it has read a request.
	if _, err := t.accept(l, 10*time.Millisecond); !timedOut(err) {
		return errors.New("the server is reached without a request")
	}
	if err := near.write("GET / HTTP/1.1\r\nHost: relay\r\n\r\n"); err != nil {
		return err
	}
	far, err := t.accept(l, answerWait)
	if err != nil {
		return err
	}
	if _, err := far.receive("\r\n\r\n"); err != nil {
		return err
	}
	if err := far.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); err != nil {
		return err
	}
	if _, err := near.receive("\r\n\r\nok"); err != nil {
		return err
	}
	return t.seesNoUpgrade(flow{near, far}, "Via: "+via+"\r\n")
}

// proveTrusted is nil when the host takes the interceptor's certificates for good.
func proveTrusted(t *trial) error {
	cert, err := t.pki.web.issue(t.name, t.server.addr.String()) // which the strictest interceptor accepts
	if err != nil {
		return err
	}
	f, err := t.shakeOffice(cert)
	if err != nil {
		return err
	}
	if err := t.trusts(f.shown, t.name); err != nil {
		return fmt.Errorf("the host does not trust the interceptor: %w", err)
	}
	t.saw("the certificate shown verifies on the host")
	return nil
}
