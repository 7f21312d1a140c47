package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Server answers the requests below Path, and makes connections of them.
type Server struct {
	// Accept takes a new connection, which the request r began. It must not block,
	// and answers whether it took it.
	Accept func(c *Conn, r *http.Request) bool

	memory memory

	mu       sync.Mutex // guards sessions
	sessions map[string]*session
}

// session is a connection and the requests that carry it.
type session struct {
	*Conn

	mu      sync.Mutex // guards the fields below
	busy    int        // requests under way
	ups     int        // of which carry bytes
	idle    *time.Timer
	endDown context.CancelFunc // of the down under way
}

var (
	errIdle    = fmt.Errorf("tunnel: no request for %s", idleFor)
	errRefused = errors.New("tunnel: refused")
)

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, verb, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, Path), "/")
	pos, err := parsePosition(r.URL.Query())
	if !validID(id) || err != nil {
		http.Error(w, "no such tunnel", http.StatusBadRequest)
		return
	}
	// no-transform and X-Accel-Buffering ask gateways to pass answers as they come.
	h := w.Header()
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("Content-Type", "application/octet-stream")
	h.Set("X-Accel-Buffering", "no")
	switch r.Method + " " + verb {
	case "POST open":
		s.open(w, r, id)
	case "POST up":
		s.with(w, id, func(c *session) { c.up(w, r, pos) })
	case "GET down":
		s.with(w, id, func(c *session) { c.down(w, r, pos) })
	default:
		http.Error(w, "no such tunnel", http.StatusBadRequest)
	}
}

func (s *Server) open(w http.ResponseWriter, r *http.Request, id string) {
	c, isNew, err := s.begin(id)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	if isNew {
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		if local == nil {
			local = Addr("")
		}
		c.local, c.remote = local, Addr(r.RemoteAddr)
		if !s.Accept(c.Conn, r) {
			c.fail(errRefused)
			http.Error(w, "too many connections", http.StatusServiceUnavailable)
			return
		}
	}
	c.receipt(w)
}

// begin returns the session of that name, a new one if there is none.
func (s *Server) begin(id string) (c *session, isNew bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.sessions[id]; ok {
		return c, false, nil
	}
	if len(s.sessions) >= maxSessions {
		return nil, false, errors.New("tunnel: too many sessions")
	}
	c = &session{Conn: newConn(nil, nil, &s.memory)}
	c.idle = time.AfterFunc(idleFor, func() { c.fail(errIdle) })
	if s.sessions == nil {
		s.sessions = map[string]*session{}
	}
	s.sessions[id] = c
	context.AfterFunc(c.ctx, func() { s.forget(id, c) })
	return c, true, nil
}

func (s *Server) forget(id string, c *session) {
	c.mu.Lock()
	c.idle.Stop()
	c.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[id] == c { // and no other of that name
		delete(s.sessions, id)
	}
}

// with does something with a session that is there.
func (s *Server) with(w http.ResponseWriter, id string, do func(*session)) {
	s.mu.Lock()
	c := s.sessions[id]
	s.mu.Unlock()
	if c == nil {
		http.Error(w, "no such tunnel", http.StatusNotFound)
		return
	}
	c.enter()
	defer c.exit()
	do(c)
}

// EndAll closes all connections that there are.
func (s *Server) EndAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.sessions {
		_ = c.Close() // never fails
	}
}

func (c *session) enter() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy++
	c.idle.Stop()
}

func (c *session) exit() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy--; c.busy == 0 && c.ctx.Err() == nil {
		c.idle.Reset(idleFor)
	}
}

// up takes bytes of the client, when it is their turn.
func (c *session) up(w http.ResponseWriter, r *http.Request, pos position) {
	if !c.takeUp() {
		http.Error(w, "too many requests", http.StatusTooManyRequests)
		return
	}
	defer c.leaveUp()
	if err := c.out.release(pos.ack); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	switch err := c.take(w, r, pos); {
	case errors.Is(err, errTooLarge), errors.Is(err, errOffset):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case errors.Is(err, errBody):
		http.Error(w, err.Error(), http.StatusRequestTimeout)
	default: // whatever became of it, the receipt tells
		c.receipt(w)
	}
}

var (
	errTooLarge = fmt.Errorf("tunnel: more than %d bytes in a request", maxBody)
	errBody     = errors.New("tunnel: the body did not come")
)

// take moves the body into the window, piece by piece, so that what is not its
// turn yet stays where it is, in the sockets.
func (c *session) take(w http.ResponseWriter, r *http.Request, pos position) error {
	// An HTTP server that knows no deadlines has its own.
	ctl := http.NewResponseController(w)
	_ = ctl.SetReadDeadline(time.Now().Add(bodyFor)) // stands for what is left unread
	buf := chunks.Get().(*[chunkSize]byte)
	defer chunks.Put(buf)
	for end := pos.off + maxBody; ; {
		n, err := r.Body.Read(buf[:])
		if pos.off+uint64(n) > end {
			return errTooLarge
		}
		if err := c.put(r, pos.off, buf[:n]); err != nil {
			return err
		}
		pos.off += uint64(n)
		switch {
		case errors.Is(err, io.EOF):
			_ = ctl.SetReadDeadline(time.Time{})
			if pos.fin {
				c.peerClosed()
			}
			return nil
		case err != nil:
			return errBody
		}
	}
}

// put waits for the turn of p, and for room.
func (c *session) put(r *http.Request, off uint64, p []byte) error {
	ctx, cancel := c.within(r, turnFor)
	defer cancel()
	_, err := c.in.put(ctx, off, p)
	return err
}

// receipt tells the client how far its bytes have come.
func (c *session) receipt(w http.ResponseWriter) {
	b := receipt{closed: c.closed.Load() || c.ctx.Err() != nil, ack: c.in.reached()}.encode()
	w.Header().Set("Content-Length", fmt.Sprint(len(b)))
	_, _ = w.Write(b) // a client that did not get it asks again
}

func (c *session) takeUp() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ups == maxServedUps {
		return false
	}
	c.ups++
	return true
}

func (c *session) leaveUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ups--
}

// within is the context of a request that ends with the session, too.
func (c *session) within(r *http.Request, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(r.Context(), d)
	stop := context.AfterFunc(c.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// down sends the client what there is from pos.off on.
func (c *session) down(w http.ResponseWriter, r *http.Request, pos position) {
	if err := c.out.seek(pos.off); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := c.within(r, streamFor)
	defer cancel()
	c.supersede(cancel)
	if pos.poll {
		c.poll(ctx, w, pos.off)
		return
	}
	c.stream(ctx, w, pos.off)
}

// supersede ends the down before this one: the client has given it up.
func (c *session) supersede(cancel context.CancelFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.endDown != nil {
		c.endDown()
	}
	c.endDown = cancel
}

func (c *session) stream(ctx context.Context, w http.ResponseWriter, off uint64) {
	out := flusher{w: w, ctl: http.NewResponseController(w)}
	defer out.rest()
	if !out.send([]byte(magic)) {
		return
	}
	for more := true; more; {
		_, err := c.out.await(ctx, off)
		f := frames.Get().(*frame)
		var size int
		size, more = c.frame(f[:], off, err)
		more = out.send(f[:size]) && more
		frames.Put(f)
		off += uint64(size - frameHeader)
	}
}

// poll waits for the first byte, and answers with all there is.
func (c *session) poll(ctx context.Context, w http.ResponseWriter, off uint64) {
	ctx, cancel := context.WithTimeout(ctx, pollFor)
	defer cancel()
	n, err := c.out.await(ctx, off)
	n = min(n, maxFrame)
	buf := make([]byte, len(magic)+frameHeader+n+frameHeader)
	at := copy(buf, magic)
	size, more := c.frame(buf[at:at+frameHeader+n], off, err)
	at += size
	if more {
		at += putFrameHeader(buf[at:], kindOver, 0)
	}
	w.Header().Set("Content-Length", fmt.Sprint(at))
	out := flusher{w: w, ctl: http.NewResponseController(w)}
	defer out.rest()
	out.send(buf[:at]) // a client that did not get it asks again
}

// frame is the largest in a stream: a few of TLS's records.
type frame [frameHeader + 2*chunkSize]byte

var frames = sync.Pool{New: func() any { return new(frame) }}

// frame writes the next frame into buf, after err came of awaiting its bytes.
// It returns false with the last one of an answer.
func (c *session) frame(buf []byte, off uint64, err error) (size int, more bool) {
	n := 0
	if err == nil {
		n, err = c.out.get(off, buf[frameHeader:])
	}
	switch {
	case err == nil:
		return putFrameHeader(buf, kindData, n) + n, true
	case errors.Is(err, io.EOF), errors.Is(err, errPeerClosed), c.ctx.Err() != nil:
		return putFrameHeader(buf, kindFin, 0), false
	}
	return putFrameHeader(buf, kindOver, 0), false
}

// flusher sends an answer piece by piece.
type flusher struct {
	w   io.Writer
	ctl *http.ResponseController
}

func (f flusher) send(p []byte) bool {
	_ = f.ctl.SetWriteDeadline(time.Now().Add(writeFor)) // see take
	if _, err := f.w.Write(p); err != nil {
		return false
	}
	return f.ctl.Flush() == nil
}

// rest leaves the connection to the next request.
func (f flusher) rest() { _ = f.ctl.SetWriteDeadline(time.Time{}) }
