package web

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"slices"
	"testing"
)

func TestTheHashesAreThoseOfWhatWasPresented(t *testing.T) {
	t.Parallel()
	shown, challenge := must(selfSigned()), must(selfSigned())
	relay := newNode(t, Config{Certificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if slices.Contains(h.SupportedProtos, acmeTLS) {
			return challenge, nil
		}
		return shown, nil
	}}, "/ip4/127.0.0.1/tcp/0/tls/ws")
	hostport := must(parse(relay.Network().ListenAddresses()[0])).hostport()
	if leaves := relay.web.LeafHashes(); len(leaves) != 0 {
		t.Errorf("presented before anybody came: %x", leaves)
	}
	for _, protocol := range []string{acmeTLS, "http/1.1", "h2", "http/1.1"} {
		c, err := tls.Dial("tcp", hostport, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.ConnectionState().NegotiatedProtocol; got != protocol {
			t.Errorf("asked for %s, got %q", protocol, got)
		}
		_ = c.Close()
	}
	want := sha256.Sum256(shown.Certificate[0])
	if leaves := relay.web.LeafHashes(); len(leaves) != 1 || !bytes.Equal(leaves[0], want[:]) {
		t.Errorf("presented %x, want %x and no validation's", leaves, want)
	}
}

func TestOnlyTheLatestHashesAreKept(t *testing.T) {
	t.Parallel()
	var c certificates
	cert := func(i int) *tls.Certificate { return &tls.Certificate{Certificate: [][]byte{fmt.Append(nil, i)}} }
	for i := range maxLeaves + 3 {
		c.note(cert(0)) // in use all the time
		c.note(cert(i))
	}
	hash := func(i int) []byte { h := sha256.Sum256(fmt.Append(nil, i)); return h[:] }
	has := func(i int) bool {
		return slices.ContainsFunc(c.leaves(), func(h []byte) bool { return bytes.Equal(h, hash(i)) })
	}
	if len(c.leaves()) != maxLeaves || !has(0) || has(1) || !has(maxLeaves+2) {
		t.Errorf("%d hashes are kept", len(c.leaves()))
	}
}
