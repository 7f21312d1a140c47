package web

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// wsReadBuffer is kept for the life of a connection. Reads that are larger go
	// around it.
	wsReadBuffer = 4 << 10
	// wsWriteBuffer is taken from a pool for each write. It holds the largest of
	// Noise's messages (64 KiB) and the head of its frame: cut into pieces of 4
	// KiB, each would be a record of TLS and a system call of its own.
	wsWriteBuffer = 65<<10 + 512
	// goodbyeFor is how long closing may wait to say so.
	goodbyeFor = 100 * time.Millisecond
)

// stream is a connection with the addresses by which libp2p knows its ends.
type stream struct {
	net.Conn
	local, remote ma.Multiaddr
}

func (s *stream) LocalMultiaddr() ma.Multiaddr  { return s.local }
func (s *stream) RemoteMultiaddr() ma.Multiaddr { return s.remote }

// wsConn makes a stream of bytes of a WebSocket. As with TLS, a deadline that
// passed within a message leaves the connection unusable.
type wsConn struct {
	ws *websocket.Conn

	reading sync.Mutex
	message io.Reader // the rest of it; nil: none

	writing sync.Mutex

	closing  sync.Once
	closeErr error
}

func (c *wsConn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	for {
		if c.message == nil {
			_, m, err := c.ws.NextReader()
			if websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseNoStatusReceived) {
				return 0, io.EOF
			}
			if err != nil {
				return 0, err
			}
			c.message = m
		}
		n, err := c.message.Read(p)
		if errors.Is(err, io.EOF) {
			c.message, err = nil, nil
		}
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
	}
}

func (c *wsConn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.ws.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close says goodbye, if there is room for it, and cuts the connection.
func (c *wsConn) Close() error {
	c.closing.Do(func() {
		bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
		_ = c.ws.WriteControl(websocket.CloseMessage, bye, time.Now().Add(goodbyeFor)) // the peer may be gone
		c.closeErr = rawConn(c.ws.NetConn()).Close()
	})
	return c.closeErr
}

func (c *wsConn) LocalAddr() net.Addr  { return c.ws.LocalAddr() }
func (c *wsConn) RemoteAddr() net.Addr { return c.ws.RemoteAddr() }

func (c *wsConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *wsConn) SetReadDeadline(t time.Time) error { return c.ws.SetReadDeadline(t) }

// SetWriteDeadline ends a write under way, too: the library would only look at
// the deadline before the next.
func (c *wsConn) SetWriteDeadline(t time.Time) error {
	err := c.ws.NetConn().SetWriteDeadline(t)
	c.writing.Lock()
	defer c.writing.Unlock()
	return errors.Join(err, c.ws.SetWriteDeadline(t))
}
