package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/network"

	"github.com/worldcompute/wce2e/node/sandbox"
	"github.com/worldcompute/wce2e/node/wire"
)

const (
	// requestTimeout bounds the reading of one request of 1 MiB, which at the
	// 512 kbit/s of a throttled line takes 17 s, and how long a larger one may
	// stall.
	requestTimeout = 60 * time.Second
	// largeTimeout bounds the reading of a larger one: 32 MiB take 9 min there.
	largeTimeout = 10 * time.Minute
	// responseTimeout bounds the writing of one response, which may be ten
	// times as long as a request, or twice as long as a large one. It may stall
	// as long as a request.
	responseTimeout      = 3 * time.Minute
	largeResponseTimeout = 20 * time.Minute
	// receiveQueue is how long a request waits for a place to be read.
	receiveQueue = 10 * time.Second
	// minReceiving is how many requests are read at once, at least, else two
	// for each CPU: a request takes up to 1 MiB on its way, and decoding it a
	// few times that.
	minReceiving = 8
	// maxLarge is how many jobs there are at once whose requests are longer than
	// that. Each takes its bytes twice while it is decoded, and once until it is
	// answered: 64 MiB at most.
	maxLarge = 4
	// drainTimeout bounds the reading past of a request that was answered
	// unread: peers want to be rid of it before they look for an answer. For as
	// many as maxDrains at once it is as long as a large request may take.
	drainTimeout = 20 * time.Second
	maxDrains    = 16
	// refusalEvery is how often a refusal is recorded. All are counted.
	refusalEvery = time.Minute
	// answerLeaves is what a written answer is given to get onto the network.
	answerLeaves = 250 * time.Millisecond
)

// jobServer runs the tasks that peers send.
type jobServer struct {
	ctx       context.Context // of every job; never ends: the runner does
	policy    policy
	runner    *sandbox.Runner
	rec       *recorder
	log       *slog.Logger
	keep      connmgr.ConnManager
	circuits  *circuits
	receiving chan struct{} // one element for each request that is being read
	large     chan struct{} // one element for each request that may be large, or its answer, until that is written
	drains    chan struct{} // one element for each large request that is read past without haste

	mu          sync.Mutex // guards the fields below
	counts      wire.JobCounts
	refusalTold time.Time // when the last one was recorded

	active     sync.WaitGroup // streams that are being served
	lastAnswer atomic.Int64   // Unix nanoseconds
}

func (s *jobServer) jobCounts() wire.JobCounts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// handler serves streams of one version of the task messages.
func (s *jobServer) handler(v wire.Version) network.StreamHandler {
	return func(stream network.Stream) { s.handle(jobStream{stream, v, s.circuits.of(stream.Conn())}) }
}

// jobStream is one stream of a submitter: one request, one answer.
type jobStream struct {
	network.Stream
	version wire.Version
	limit   *circuit // of what we send
}

// handle serves one stream. Who may not submit is answered before anything is
// read: strangers shall not be able to make the donor spend memory or disk.
func (s *jobServer) handle(stream jobStream) {
	if err := s.policy.refuse(stream.Conn().RemotePeer()); err != nil {
		s.turnAway(stream, s.refused(stream.Conn(), err))
		return
	}
	if err := awaitPlace(s.receiving); err != nil {
		s.count(func(c *wire.JobCounts) { c.Failed++ })
		s.turnAway(stream, failedTask("", time.Now(), err))
		return
	}
	s.active.Add(1)
	defer s.active.Done()
	defer s.protect(stream)()
	if err := s.serve(stream); err != nil {
		s.log.Warn("a job's stream failed", "peer", stream.Conn().RemotePeer().String(), "conn", connID(stream.Conn()), "err", err)
		stream.Reset()
		return
	}
	stream.Close()
}

// refused counts a refusal, and records it unless one was lately.
func (s *jobServer) refused(c network.Conn, why error) wire.TaskDispatchResponse {
	answer := failedTask("", time.Now(), why)
	s.mu.Lock()
	s.counts.Refused++
	tell := s.refusalTold.IsZero() || time.Since(s.refusalTold) >= refusalEvery
	if tell {
		s.refusalTold = time.Now()
	}
	s.mu.Unlock()
	if tell {
		recordJobEnd(s.rec, jobEvent(c), answer)
	}
	return answer
}

// turnAway answers a request unread, and reads past it, keeping nothing.
func (s *jobServer) turnAway(stream jobStream, answer wire.TaskDispatchResponse) {
	p, err := stream.pack(answer)
	if err == nil {
		err = stream.write(p)
	}
	if err == nil {
		err = stream.CloseWrite()
	}
	if err == nil {
		err = s.drain(stream)
	}
	if err != nil {
		s.log.Debug("a stream of somebody turned away failed", "peer", stream.Conn().RemotePeer().String(), "err", err)
		stream.Reset()
		return
	}
	stream.Close()
}

// drain reads past a request.
func (s *jobServer) drain(stream jobStream) error {
	timeout := drainTimeout
	if stream.version != wire.V10 {
		select {
		case s.drains <- struct{}{}:
			defer func() { <-s.drains }()
			timeout = largeTimeout
		default: // strangers shall not have us keep any number of streams for that long
		}
	}
	past := paced{stream.Stream, time.Now().Add(timeout)}
	_, err := io.Copy(io.Discard, io.LimitReader(past, int64(stream.version.MaxRequest())))
	return err
}

// farewell lets the jobs that were preempted tell their submitters. An answer
// that is written has not left yet: closing a TCP connection of libp2p resets
// it, and what is in the buffers is lost.
func (s *jobServer) farewell(ctx context.Context) {
	const brief = 10 * time.Millisecond
	if within(ctx, brief, s.active.Wait) && s.lastAnswer.Load() < time.Now().Add(-answerLeaves).UnixNano() {
		return
	}
	within(ctx, stopAnswers, s.active.Wait)
	select {
	case <-time.After(answerLeaves):
	case <-ctx.Done():
	}
}

// serve, in a place of receiving, reads the request, runs it and answers. An
// error means that nobody can be answered.
func (s *jobServer) serve(stream jobStream) error {
	began := time.Now()
	job := jobEvent(stream.Conn())
	request, done, err := s.receive(stream)
	defer done()
	var malformed *malformedError
	var busy *busyError
	switch {
	case errors.As(err, &malformed):
		// No task was received, so there is none to name.
		p, err := stream.pack(failedTask("", began, malformed))
		return s.end(stream, job, p, err)
	case errors.As(err, &busy):
		s.count(func(c *wire.JobCounts) { c.Failed++ })
		s.turnAway(stream, failedTask("", began, busy))
		return nil
	case err != nil:
		return err
	}
	module, _ := request.Input(wire.WorkloadInput)
	stdin, _ := request.Input(wire.StdinInput)
	job.Task, job.ModuleSHA256, job.InputSHA256 = request.TaskID, sha256hex(module), sha256hex(stdin)
	job.Kind = wire.JobReceived
	s.rec.Record(job)
	p, err := s.run(stream, &request, began)
	return s.end(stream, job, p, err)
}

// protect keeps the connection manager from closing the submitter's
// connections while its job is served.
func (s *jobServer) protect(stream jobStream) (release func()) {
	submitter, tag := stream.Conn().RemotePeer(), "job "+stream.ID()
	s.keep.Protect(submitter, tag)
	return func() { s.keep.Unprotect(submitter, tag) }
}

// run executes an admitted request, to an answer that is ready to be sent.
func (s *jobServer) run(stream jobStream, request *wire.TaskDispatchRequest, began time.Time) (packed, error) {
	module, err := request.Workload()
	if err != nil {
		s.count(func(c *wire.JobCounts) { c.Failed++ })
		return stream.pack(failedTask(request.TaskID, began, err))
	}
	stdin, _ := request.Input(wire.StdinInput)
	s.count(func(c *wire.JobCounts) { c.Running++ })
	result := s.runner.Run(s.ctx, sandbox.Job{
		Module:      module,
		Stdin:       stdin,
		Args:        request.Manifest.Command,
		Walltime:    request.Walltime(),
		MemoryBytes: request.Manifest.Resources.RAMBytes,
		OutputBytes: stream.version.MaxOutput(),
	})
	answer := wire.TaskDispatchResponse{
		TaskID: request.TaskID, Status: result.Status, Output: result.Output,
		DurationMS: uint64(result.Duration.Milliseconds()),
	}
	if result.Err != "" {
		answer.Error = &result.Err
	}
	p, err := stream.pack(answer)
	s.count(func(c *wire.JobCounts) {
		c.Running--
		if p.answer.Status == wire.Succeeded {
			c.Succeeded++
		} else {
			c.Failed++
		}
	})
	return p, err
}

func (s *jobServer) count(change func(*wire.JobCounts)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.counts)
}

// end records the end of a job, and then answers it.
func (s *jobServer) end(stream jobStream, job wire.Event, p packed, err error) error {
	if err != nil {
		return err
	}
	recordJobEnd(s.rec, job, p.answer)
	err = stream.write(p)
	s.lastAnswer.Store(time.Now().UnixNano())
	return err
}

// recordJobEnd is the same on both sides.
func recordJobEnd(rec *recorder, job wire.Event, answer wire.TaskDispatchResponse) {
	job.Kind, job.Status, job.MS = wire.JobEnded, string(answer.Status), float64(answer.DurationMS)
	job.OutputSHA256 = sha256hex(answer.Output)
	if answer.Error != nil {
		job.Err = cut(*answer.Error, wire.MaxError)
	}
	rec.Record(job)
}

// jobEvent says how a job travels.
func jobEvent(c network.Conn) wire.Event {
	return wire.Event{
		Peer: c.RemotePeer().String(), Conn: connID(c), Path: pathOf(c), Relay: relayOf(c.RemoteMultiaddr()),
	}
}

func failedTask(id string, began time.Time, err error) wire.TaskDispatchResponse {
	why := err.Error()
	return wire.TaskDispatchResponse{
		TaskID: id, Status: wire.TaskFailed, Error: &why, DurationMS: uint64(time.Since(began).Milliseconds()),
	}
}

// malformedError is a request that arrived whole and is none.
type malformedError struct{ err error }

func (e *malformedError) Error() string { return fmt.Sprintf("malformed request: %v", e.err) }
func (e *malformedError) Unwrap() error { return e.err }

// busyError is a donor without room for another request.
type busyError struct{ places int }

func (e *busyError) Error() string {
	return fmt.Sprintf("this donor is busy: %d other tasks are being received, for more than %s", e.places, receiveQueue)
}

// awaitPlace waits until a request may be read. Whoever gets a place gives it
// back.
func awaitPlace(places chan struct{}) error {
	select {
	case places <- struct{}{}:
		return nil
	case <-time.After(receiveQueue):
		return &busyError{cap(places)}
	}
}

// receive reads one request, which ends where the submitter closes its side,
// and gives back the place of receiving. One that is large, or may be answered at
// length (64 MiB, which wait here for as long as the submitter takes to read them),
// moves to a place of large, which it has until done is called.
func (s *jobServer) receive(stream jobStream) (_ wire.TaskDispatchRequest, done func(), err error) {
	raw, err := stream.request(nil, wire.MaxRequest, requestTimeout)
	if err == nil && stream.version != wire.V10 {
		<-s.receiving
		return s.receiveLarge(stream, raw)
	}
	defer func() { <-s.receiving }()
	if err != nil {
		return wire.TaskDispatchRequest{}, func() {}, err
	}
	request, err := stream.decode(raw)
	return request, func() {}, err
}

// receiveLarge reads the rest of a request that begins with raw.
func (s *jobServer) receiveLarge(stream jobStream, raw []byte) (_ wire.TaskDispatchRequest, done func(), err error) {
	if err := awaitPlace(s.large); err != nil {
		return wire.TaskDispatchRequest{}, func() {}, err
	}
	done = func() { <-s.large }
	if raw, err = stream.request(raw, stream.version.MaxRequest(), largeTimeout); err != nil {
		return wire.TaskDispatchRequest{}, done, err
	}
	request, err := stream.decode(raw)
	return request, done, err
}

// decode reads a request; an error is a malformedError.
func (s jobStream) decode(raw []byte) (wire.TaskDispatchRequest, error) {
	if most := s.version.MaxRequest(); len(raw) > most {
		return wire.TaskDispatchRequest{}, &malformedError{fmt.Errorf("%w: a request has at most %d bytes", wire.ErrTooLarge, most)}
	}
	request, err := s.version.DecodeRequest(raw)
	if err != nil {
		return wire.TaskDispatchRequest{}, &malformedError{err}
	}
	return request, nil
}

// request reads on where raw ends, until the submitter has closed its side or
// there are more bytes than most.
func (s jobStream) request(raw []byte, most int, timeout time.Duration) ([]byte, error) {
	buf := bytes.NewBuffer(raw)
	_, err := buf.ReadFrom(io.LimitReader(paced{s.Stream, time.Now().Add(timeout)}, int64(most+1-len(raw))))
	if err != nil {
		return nil, fmt.Errorf("receive a task: after %d bytes: %w", buf.Len(), err)
	}
	return buf.Bytes(), nil
}

// packed is an answer as it is sent.
type packed struct {
	answer wire.TaskDispatchResponse
	raw    []byte
}

// pack makes an answer ready to be sent. One that is too long for the way that
// its request came says so instead: through a relay of others it would be cut
// off half way, without a reason that the submitter can see.
func (s jobStream) pack(answer wire.TaskDispatchResponse) (packed, error) {
	raw, err := s.version.EncodeResponse(answer)
	if err != nil {
		return packed{}, fmt.Errorf("answer task %s: %w", answer.TaskID, err)
	}
	lacks := s.limit.take(len(raw))
	if lacks == nil || answer.Status != wire.Succeeded { // a failure is short: there is a reserve for it
		return packed{answer, raw}, nil
	}
	why := fmt.Sprintf("the answer: %v: ask over a direct connection", lacks)
	return s.pack(wire.TaskDispatchResponse{TaskID: answer.TaskID, Status: wire.TaskFailed, DurationMS: answer.DurationMS, Error: &why})
}

// write sends an answer.
func (s jobStream) write(p packed) error {
	timeout := responseTimeout
	if s.version != wire.V10 {
		timeout = largeResponseTimeout
	}
	if _, err := io.Copy(paced{s.Stream, time.Now().Add(timeout)}, bytes.NewReader(p.raw)); err != nil {
		return fmt.Errorf("answer task %s: %w", p.answer.TaskID, err)
	}
	return nil
}

// paced is a stream that has to go on, and to end in time.
type paced struct {
	stream network.Stream
	end    time.Time
}

// Read implements io.Reader.
func (p paced) Read(b []byte) (int, error) {
	if err := p.stream.SetReadDeadline(p.next()); err != nil {
		return 0, err
	}
	return p.stream.Read(b)
}

// Write implements io.Writer. It writes in pieces, each of which has to go on.
func (p paced) Write(b []byte) (n int, err error) {
	const piece = 256 << 10
	for n < len(b) && err == nil {
		if err := p.stream.SetWriteDeadline(p.next()); err != nil {
			return n, err
		}
		var more int
		more, err = p.stream.Write(b[n:min(len(b), n+piece)])
		n += more
	}
	return n, err
}

// next is when the stream has to have moved.
func (p paced) next() time.Time {
	if stalled := time.Now().Add(requestTimeout); stalled.Before(p.end) {
		return stalled
	}
	return p.end
}

func sha256hex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
