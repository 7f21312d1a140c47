package probe

import (
	"encoding/hex"
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/net/ipv4"
)

// counted is a connection that counts its bytes and keeps the first that came since
// it was last asked.
type counted struct {
	net.Conn
	sent, received atomic.Int64

	mu    sync.Mutex // guards the field below
	first []byte
}

// firstBytes is how many bytes are kept of what came.
const firstBytes = 64

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.received.Add(int64(n))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.first = append(c.first, b[:min(n, firstBytes-len(c.first))]...)
	return n, err
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.sent.Add(int64(n))
	return n, err
}

func (c *counted) traffic() (sent, received int64) { return c.sent.Load(), c.received.Load() }

// came is hex of the first bytes since it was last asked.
func (c *counted) came() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := hex.EncodeToString(c.first)
	c.first = nil
	return text
}

// total is the traffic of several connections.
type total struct {
	mu    sync.Mutex // guards the field below
	conns []*counted
}

// of counts one more.
func (t *total) of(conn net.Conn) *counted {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &counted{Conn: conn}
	t.conns = append(t.conns, c)
	return c
}

func (t *total) traffic() (sent, received int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.conns {
		s, r := c.traffic()
		sent, received = sent+s, received+r
	}
	return sent, received
}

// countedUDP is a socket that counts the bytes of its datagrams. It is all that QUIC
// wants of one, don't-fragment bits included.
type countedUDP struct {
	*net.UDPConn
	batch          *ipv4.PacketConn
	sent, received atomic.Int64
}

func newCountedUDP(network string, local *net.UDPAddr) (*countedUDP, error) {
	c, err := net.ListenUDP(network, local)
	if err != nil {
		return nil, err
	}
	return &countedUDP{UDPConn: c, batch: ipv4.NewPacketConn(c)}, nil
}

func (c *countedUDP) traffic() (sent, received int64) { return c.sent.Load(), c.received.Load() }

func (c *countedUDP) ReadMsgUDP(b, oob []byte) (n, oobn, flags int, from *net.UDPAddr, err error) {
	n, oobn, flags, from, err = c.UDPConn.ReadMsgUDP(b, oob)
	c.received.Add(int64(n))
	return n, oobn, flags, from, err
}

func (c *countedUDP) WriteMsgUDP(b, oob []byte, to *net.UDPAddr) (n, oobn int, err error) {
	n, oobn, err = c.UDPConn.WriteMsgUDP(b, oob, to)
	c.sent.Add(int64(n))
	return n, oobn, err
}

func (c *countedUDP) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.UDPConn.ReadFrom(b)
	c.received.Add(int64(n))
	return n, from, err
}

func (c *countedUDP) WriteTo(b []byte, to net.Addr) (int, error) {
	n, err := c.UDPConn.WriteTo(b, to)
	c.sent.Add(int64(n))
	return n, err
}

// ReadBatch is how QUIC reads where the system can give several datagrams at once.
func (c *countedUDP) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	n, err := c.batch.ReadBatch(ms, flags)
	for _, m := range ms[:max(n, 0)] {
		c.received.Add(int64(m.N))
	}
	return n, err
}
