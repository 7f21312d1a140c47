package web

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/gorilla/websocket"

	"github.com/worldcompute/wce2e/node/traversal/web/tunnel"
)

// Phase is how far a dial had come.
type Phase string

const (
	Connect  Phase = "connect"  // TCP
	Proxy    Phase = "proxy"    // what a proxy was asked for
	TLS      Phase = "tls"      // the outer TLS
	Upgrade  Phase = "upgrade"  // HTTP: to WebSocket, or the opening of a tunnel
	Security Phase = "security" // libp2p's own handshake, and the muxer
)

// DialError tells in which phase a dial failed. An answer of HTTP that is not the
// one hoped for is websocket.ErrBadHandshake to errors.Is, whichever the way.
type DialError struct {
	Phase  Phase
	Route  string // as in Outer
	Status int    // of HTTP, from the server, or from whoever answers for it, or the proxy; 0: there was none
	Err    error
}

func (e *DialError) Error() string {
	var b strings.Builder
	b.WriteString(string(e.Phase))
	if e.Route != "" {
		fmt.Fprintf(&b, " through %s", e.Route)
	}
	if e.Status != 0 {
		fmt.Fprintf(&b, ": status %d %s", e.Status, http.StatusText(e.Status))
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	return b.String()
}

func (e *DialError) Unwrap() error { return e.Err }

// Is makes an unwanted answer a bad handshake.
func (e *DialError) Is(target error) bool {
	return target == websocket.ErrBadHandshake && e.Phase == Upgrade && e.Status != 0
}

// statusError is an unwanted answer to a request for a WebSocket.
type statusError struct {
	error
	status int
}

func (e *statusError) Unwrap() error { return e.error }

// statusOf finds the HTTP status in the error of a WebSocket, a tunnel or a proxy.
func statusOf(err error) int {
	var (
		socket    *statusError
		tunnelled *tunnel.StatusError
		proxied   interface{ ProxyStatus() int }
	)
	switch {
	case errors.As(err, &socket):
		return socket.status
	case errors.As(err, &tunnelled):
		return tunnelled.Status
	case errors.As(err, &proxied):
		return proxied.ProxyStatus()
	}
	return 0
}
