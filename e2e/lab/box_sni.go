//go:build linux

package lab

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"time"
)

// serverNames kills TLS flows, on any port, whose hello asks for a server that is
// not permitted. What is no TLS passes.
type serverNames struct {
	permits func(name string) bool // the name is empty where the hello has none
	hello   []byte
}

// maxHello is far more than any hello has; what goes on without becoming one is none.
const maxHello = 64 << 10

func (s *serverNames) look(from side, data []byte) verdict {
	if from == listener {
		return undecided
	}
	s.hello = append(s.hello, data...)
	if s.hello[0] != recordHandshake {
		return harmless
	}
	name, err := serverName(s.hello)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF) && len(s.hello) < maxHello:
		return undecided
	case err != nil, s.permits(name):
		return harmless
	}
	return killed
}

// inZone permits the names of the lab's DNS.
func inZone(zone string) func(string) bool {
	return func(name string) bool { return strings.HasSuffix("."+strings.ToLower(name), "."+zone) }
}

// serverName is the one that a TLS stream asks for, empty if none. The error is
// io.ErrUnexpectedEOF while there is more to come of the hello.
func serverName(stream []byte) (name string, err error) {
	heard := errors.New("heard enough")
	server := tls.Server(&playback{Reader: bytes.NewReader(stream)}, &tls.Config{
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			name = hello.ServerName
			return nil, heard
		},
	})
	switch err = server.Handshake(); {
	case errors.Is(err, heard):
		return name, nil
	case errors.Is(err, io.EOF):
		return "", io.ErrUnexpectedEOF
	}
	return "", err
}

// playback is a connection whose other end has said something, and does not listen.
type playback struct{ io.Reader }

func (*playback) Write(b []byte) (int, error)      { return len(b), nil }
func (*playback) Close() error                     { return nil }
func (*playback) LocalAddr() net.Addr              { return nil }
func (*playback) RemoteAddr() net.Addr             { return nil }
func (*playback) SetDeadline(time.Time) error      { return nil }
func (*playback) SetReadDeadline(time.Time) error  { return nil }
func (*playback) SetWriteDeadline(time.Time) error { return nil }
