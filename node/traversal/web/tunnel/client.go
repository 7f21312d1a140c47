package tunnel

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Client makes tunnels to one server.
type Client struct {
	// HTTP makes the requests. Its connections are the tunnel's own: they are
	// closed, as far as they are idle, when the tunnel ends. Nil:
	// http.DefaultTransport.
	HTTP http.RoundTripper
	// URL is the server's, "https://relay.example", without a path.
	URL string
	// UserAgent of the requests. Empty: Go's.
	UserAgent string
}

// Over makes the HTTP client of one tunnel out of a way to connect to its server:
// with TLS, if any, and ALPN done. With HTTP/2 one connection carries all of it.
func Over(dial func(context.Context) (net.Conn, error)) *http.Transport {
	connect := func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }
	return &http.Transport{
		DialContext:        connect,
		DialTLSContext:     connect,
		ForceAttemptHTTP2:  true, // which a way to connect of one's own rules out otherwise
		MaxConnsPerHost:    maxConns,
		IdleConnTimeout:    idleConnFor,
		DisableCompression: true,
	}
}

// StatusError is an answer that the protocol does not have. With status 200 it is
// somebody's page.
type StatusError struct {
	Status int
	What   string // of the request: open, up, down
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("tunnel: %s: status %d %s", e.What, e.Status, http.StatusText(e.Status))
}

// again tells whether the same request may be answered better later.
func (e *StatusError) again() bool {
	switch e.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return e.Status >= 500
}

// client is the active end of a tunnel.
type client struct {
	*Conn
	*Client
	base    string        // URL of the session
	opening time.Duration // what open took
	request atomic.Uint64 // counts the requests made
	acked   atomic.Uint64 // of the server's bytes
	acking  atomic.Bool   // an acknowledgement is under way
}

// Dial opens a tunnel. Its errors are those of ctx, of the HTTP client, or a
// *StatusError.
func (cl *Client) Dial(ctx context.Context) (*Conn, error) {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	c := &client{
		Conn:   newConn(Addr(""), Addr(cl.URL), nil),
		Client: cl,
		base:   cl.URL + Path + hex.EncodeToString(id[:]),
	}
	begin := time.Now()
	if _, err := c.post(ctx, "open", position{}, nil); err != nil {
		c.fail(err)
		c.hangUp()
		return nil, err
	}
	c.opening = time.Since(begin)
	go c.send()
	go c.receive()
	context.AfterFunc(c.ctx, c.hangUp)
	return c.Conn, nil
}

// hangUp closes connections that no request uses. Those in use are closed with
// their requests, whose context is over.
func (c *client) hangUp() {
	if t, ok := c.roundTripper().(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

func (c *client) roundTripper() http.RoundTripper {
	if c.HTTP == nil {
		return http.DefaultTransport
	}
	return c.HTTP
}

// do makes one request, and returns the body of an answer with status 200. It
// follows no redirects: they lead to a gateway's page.
func (c *client) do(ctx context.Context, method, what string, pos position, body []byte) (io.ReadCloser, error) {
	url := c.base + "/" + what + "?" + pos.query(c.request.Add(1))
	req, err := http.NewRequestWithContext(ctx, method, url, newBody(body))
	if err != nil {
		return nil, fmt.Errorf("tunnel: %s: %w", what, err)
	}
	req.ContentLength = int64(len(body))
	req.Header.Set("Cache-Control", "no-store")
	if c.UserAgent != "" {
		req.Header.Set("User-Agent", c.UserAgent)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	resp, err := c.roundTripper().RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("tunnel: %s: %w", what, err)
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return nil, &StatusError{Status: resp.StatusCode, What: what}
	}
	return resp.Body, nil
}

// post makes an open or up.
func (c *client) post(ctx context.Context, what string, pos position, body []byte) (receipt, error) {
	answer, err := c.do(ctx, http.MethodPost, what, pos, body)
	if err != nil {
		return receipt{}, err
	}
	defer answer.Close()
	r, err := readReceipt(answer)
	if errors.Is(err, errNoTunnel) {
		return receipt{}, &StatusError{Status: http.StatusOK, What: what}
	}
	if err != nil {
		return receipt{}, err
	}
	// To the end, so that the connection can be used again.
	_, _ = io.Copy(io.Discard, io.LimitReader(answer, maxFrame))
	return r, nil
}

// send cuts what the application writes into ups. As long as the first ones are
// under way, what is written meanwhile gathers for the next.
func (c *client) send() {
	slots := make(chan struct{}, maxUps)
	buf := make([]byte, maxBody)
	for off := uint64(0); ; {
		select {
		case slots <- struct{}{}:
		case <-c.ctx.Done():
			return
		}
		n, err := c.out.get(c.ctx, off, buf)
		fin := errors.Is(err, io.EOF)
		if err != nil && !fin {
			return // closed by the other end, or broken
		}
		body := append([]byte(nil), buf[:n]...)
		go func(off uint64) {
			defer func() { <-slots }()
			c.up(position{off: off, fin: fin}, body)
		}(off)
		if fin {
			return
		}
		off += uint64(n)
	}
}

// up sees to it that the server gets body, however often it takes.
func (c *client) up(pos position, body []byte) {
	try := retry{ctx: c.ctx}
	for {
		r, err := c.upOnce(pos, body)
		if err == nil {
			err = c.out.release(r.ack)
		}
		switch {
		case err == nil && pos.fin && (r.closed || r.ack >= pos.off):
			c.fail(errDone)
			return
		case err == nil && r.closed:
			c.out.fail(errPeerClosed)
			return
		case err == nil && r.ack >= pos.off+uint64(len(body)):
			return
		case err == nil && r.ack > pos.off: // a part of it
			body = body[r.ack-pos.off:]
			pos.off = r.ack
			try.moved()
		}
		if !try.next(err) {
			c.broken(err)
			return
		}
	}
}

func (c *client) upOnce(pos position, body []byte) (receipt, error) {
	ctx, cancel := context.WithTimeout(c.ctx, upFor)
	defer cancel()
	pos.ack = c.in.reached()
	r, err := c.post(ctx, "up", pos, body)
	if err == nil {
		c.acknowledged(pos.ack)
	}
	return r, err
}

// acknowledged notes that the server knows how much of its bytes arrived.
func (c *client) acknowledged(off uint64) {
	for {
		old := c.acked.Load()
		if old >= off || c.acked.CompareAndSwap(old, off) {
			return
		}
	}
}

// acknowledge tells the server how much arrived, when it has not been told of a
// quarter of the window: then it still has something to send meanwhile.
func (c *client) acknowledge() {
	if c.closed.Load() || c.ctx.Err() != nil || c.in.reached()-c.acked.Load() < windowSize/4 || c.acking.Swap(true) {
		return
	}
	go func() {
		c.up(position{}, nil)
		c.acking.Store(false)
		c.acknowledge() // of what came meanwhile: it may have been all that the window holds
	}()
}

// receive asks for the server's bytes, again and again.
func (c *client) receive() {
	try := retry{ctx: c.ctx}
	poll := false
	for {
		before := c.in.reached()
		err := c.down(poll, &try)
		switch {
		case c.closed.Load():
			return // send brings the session to its end
		case errors.Is(err, errFin):
			c.peerClosed()
			return
		case errors.Is(err, errHeldBack) && !poll:
			poll = true
			continue
		case errors.Is(err, errOver), c.in.reached() > before: // or it was cut
			try.moved()
			continue
		}
		if !try.next(err) {
			c.broken(err)
			return
		}
	}
}

// errHeldBack is the first bytes of a streamed answer staying away.
var errHeldBack = errors.New("tunnel: the answer is held back")

// down makes one request for the server's bytes, and takes what comes.
func (c *client) down(poll bool, try *retry) error {
	ctx, cancel := context.WithCancelCause(c.ctx)
	defer cancel(nil)
	patience := time.AfterFunc(firstByteFor+3*c.opening, func() { cancel(errHeldBack) })
	defer patience.Stop()
	if poll {
		patience.Reset(pollFor + retryFor)
	}
	err := c.take(ctx, poll, func() {
		patience.Stop()
		try.worked()
	})
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// take asks for bytes and moves them into the window. It calls begun with the
// first that came.
func (c *client) take(ctx context.Context, poll bool, begun func()) error {
	off := c.in.reached()
	body, err := c.do(ctx, http.MethodGet, "down", position{off: off, ack: off, poll: poll}, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	frames, err := newFrameReader(body)
	if errors.Is(err, errNoTunnel) {
		return &StatusError{Status: http.StatusOK, What: "down"}
	}
	if err != nil {
		return err
	}
	begun()
	c.acknowledged(off)
	buf := chunks.Get().(*[chunkSize]byte)
	defer chunks.Put(buf)
	for {
		n, err := frames.Read(buf[:])
		if _, err := c.in.put(ctx, off, buf[:n]); err != nil {
			return err
		}
		off += uint64(n)
		c.acknowledge()
		if err != nil {
			return err
		}
	}
}

// errDone is the end of a session whose last byte has arrived.
var errDone = errors.New("tunnel: closed")

func (c *client) broken(err error) {
	if c.ctx.Err() == nil {
		c.fail(fmt.Errorf("tunnel broken: %w", err))
	}
}
