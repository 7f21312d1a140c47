package web

import (
	"crypto/tls"
	"slices"
	"testing"
	"time"
)

func TestAValidationOfACMEGetsACertificateOfItsOwn(t *testing.T) {
	t.Parallel()
	shown, challenge := must(SelfSigned(time.Now())), must(SelfSigned(time.Now()))
	relay := newNode(t, Config{Certificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if slices.Contains(h.SupportedProtos, acmeTLS) {
			return challenge, nil
		}
		return shown, nil
	}}, "/ip4/127.0.0.1/tcp/0/tls/ws")
	hostport := must(parse(relay.Network().ListenAddresses()[0])).hostport()
	for protocol, want := range map[string]*tls.Certificate{acmeTLS: challenge, "http/1.1": shown, "h2": shown} {
		c, err := tls.Dial("tcp", hostport, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
		if err != nil {
			t.Fatal(err)
		}
		got := c.ConnectionState()
		if got.NegotiatedProtocol != protocol || !got.PeerCertificates[0].Equal(want.Leaf) {
			t.Errorf("asked for %s, got %q and the certificate %s", protocol, got.NegotiatedProtocol, got.PeerCertificates[0].SerialNumber)
		}
		_ = c.Close()
	}
}
