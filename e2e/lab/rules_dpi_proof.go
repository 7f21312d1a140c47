//go:build linux

package lab

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
)

// The proofs of the rules that look into packets.

// swallows is nil when a TCP flow that begins with opening, from either end, is
// lost from there on, and one is not that begins otherwise.
func (t *trial) swallows(opening string) error {
	p, err := t.way("tcp")
	if err != nil {
		return err
	}
	f, err := t.stream(p.number)
	if err != nil {
		return err
	}
	if err := errors.Join(f.near.lost(f.far, opening), f.near.lost(f.far, "more"), f.far.lost(f.near, "an answer")); err != nil {
		return fmt.Errorf("from the host: %w", err)
	}
	if f, err = t.stream(p.number); err != nil {
		return err
	}
	if err := errors.Join(f.far.lost(f.near, opening), f.near.lost(f.far, "more")); err != nil {
		return fmt.Errorf("from the server: %w", err)
	}
	t.saw("%q and all after it is lost, from either end", opening)
	return t.spares(p, opening)
}

// resets is nil when such a flow is reset.
func (t *trial) resets(opening string) error {
	p, err := t.way("tcp")
	if err != nil {
		return err
	}
	for _, who := range []string{"host", "server"} {
		f, err := t.stream(p.number)
		if err != nil {
			return err
		}
		if who == "server" {
			f = flow{f.far, f.near}
		}
		if err := f.isReset(opening); err != nil {
			return fmt.Errorf("from the %s: %w", who, err)
		}
	}
	t.saw("%q is reset, from either end", opening)
	return t.spares(p, opening)
}

// isReset is nil when text leads to a reset, and nothing of it arrives.
func (f flow) isReset(text string) error {
	if got, err := f.near.reply(text, answerWait); !isReset(err) {
		return fmt.Errorf("who says %.40q reads %.40q %v, and not a reset", text, got, err)
	}
	if got, _, _ := f.far.read(silence); got != "" {
		return fmt.Errorf("%.40q is reset, and %d bytes of it arrive", text, len(got))
	}
	return nil
}

// spares is nil when a flow passes that has the same text elsewhere.
func (t *trial) spares(p port, text string) error {
	for what, opening := range map[string]string{
		"the text elsewhere": "GET " + strings.TrimSpace(text) + " HTTP/1.1\r\n\r\n",
		"a browser's hello":  clientHello("h2", "http/1.1"),
	} {
		f, err := t.stream(p.number)
		if err == nil {
			err = errors.Join(f.near.says(f.far, opening), f.alive())
		}
		if err != nil {
			return fmt.Errorf("%s does not pass: %w", what, err)
		}
	}
	return nil
}

// resetsHello is nil when a flow is reset once a TLS hello offers a protocol,
// whatever was said before.
func (t *trial) resetsHello(protocol string) error {
	p, err := t.way("tcp")
	if err != nil {
		return err
	}
	f, err := t.stream(p.number)
	if err != nil {
		return err
	}
	if err := f.alive(); err != nil {
		return err
	}
	if err := f.isReset(clientHello("/yamux/1.0.0", protocol)); err != nil {
		return err
	}
	t.saw("a TLS hello that offers %s is reset, and one of h2 passes", protocol)
	return t.spares(p, "\x06"+protocol)
}

// clientHello is the first flight of Go's TLS, with the post-quantum key share
// that makes it longer than a segment.
func clientHello(protocols ...string) string {
	client, server := net.Pipe()
	defer server.Close()
	go func() {
		defer client.Close()
		_ = tls.Client(client, &tls.Config{ServerName: "relay1", NextProtos: protocols}).Handshake() // fails: nobody answers
	}()
	buf := make([]byte, 16<<10)
	n, _ := server.Read(buf) // a hello that is too short is noticed: it passes
	return string(buf[:n])
}

// dropsQUICOnly is nil when packets that begin a QUIC v1 connection are lost in
// both directions, and no others.
func (t *trial) dropsQUICOnly() error {
	p, err := t.way("udp")
	if err != nil {
		return err
	}
	f, err := t.datagrams(p.number)
	if err != nil {
		return err
	}
	const initial = "\xc3\x00\x00\x00\x01\x08\x01\x02\x03\x04\x05\x06\x07\x08\x00 and so on"
	if err := errors.Join(f.near.lost(f.far, initial), f.far.lost(f.near, initial)); err != nil {
		return fmt.Errorf("a packet that begins QUIC v1: %w", err)
	}
	for what, text := range map[string]string{
		"a short header":      "\x43\x00\x00\x00\x01 and so on",
		"another protocol":    "\xc3\x00\x00\x00\x02 and so on",
		"the bytes elsewhere": "." + initial,
		"almost nothing":      "\xc3",
	} {
		if err := f.near.says(f.far, text); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	t.saw("long headers of QUIC v1 are lost in both directions, short ones and other UDP pass")
	return nil
}
