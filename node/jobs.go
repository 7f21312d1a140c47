package node

import (
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
	// requestTimeout bounds the reading of one request: 1 MiB at the 512
	// kbit/s of a throttled line takes 17 s.
	requestTimeout = 60 * time.Second
	// responseTimeout bounds the writing of one response, which may be ten
	// times as long.
	responseTimeout = 3 * time.Minute
	// receiveQueue is how long a request waits for a place to be read.
	receiveQueue = 10 * time.Second
	// minReceiving is how many requests are read at once, at least, else two
	// for each CPU: a request takes up to 1 MiB on its way, and decoding it a
	// few times that.
	minReceiving = 8
	// drainTimeout bounds the reading past of a request that was answered
	// unread: peers want to be rid of it before they look for an answer.
	drainTimeout = 20 * time.Second
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
	receiving chan struct{} // one element for each request that is being read

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

// handle serves one stream of wire.V10.Protocol(). Who may not submit is
// answered before anything is read: strangers shall not be able to make the
// donor spend memory or disk.
func (s *jobServer) handle(stream network.Stream) {
	if err := s.policy.refuse(stream.Conn().RemotePeer()); err != nil {
		s.turnAway(stream, s.refused(stream.Conn(), err))
		return
	}
	if err := s.awaitPlace(); err != nil {
		s.count(func(c *wire.JobCounts) { c.Failed++ })
		s.turnAway(stream, failedTask("", time.Now(), err))
		return
	}
	s.active.Add(1)
	defer s.active.Done()
	defer s.protect(stream)()
	answer, err := s.serve(stream)
	if err == nil {
		err = send(stream, answer)
		s.lastAnswer.Store(time.Now().UnixNano())
	}
	if err != nil {
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
func (s *jobServer) turnAway(stream network.Stream, answer wire.TaskDispatchResponse) {
	err := send(stream, answer)
	if err == nil {
		err = errors.Join(stream.CloseWrite(), stream.SetReadDeadline(time.Now().Add(drainTimeout)))
	}
	if err == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(stream, wire.MaxRequest))
	}
	if err != nil {
		s.log.Debug("a stream of somebody turned away failed", "peer", stream.Conn().RemotePeer().String(), "err", err)
		stream.Reset()
		return
	}
	stream.Close()
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

// serve, in a place of awaitPlace, reads the request and runs it. An error means that nobody can be
// answered.
func (s *jobServer) serve(stream network.Stream) (wire.TaskDispatchResponse, error) {
	began := time.Now()
	job := jobEvent(stream.Conn())
	request, err := s.receive(stream)
	var malformed *malformedError
	if errors.As(err, &malformed) {
		// No task was received, so there is none to name.
		return s.end(job, failedTask("", began, malformed)), nil
	}
	if err != nil {
		return wire.TaskDispatchResponse{}, err
	}
	module, _ := request.Input(wire.WorkloadInput)
	stdin, _ := request.Input(wire.StdinInput)
	job.Task, job.ModuleSHA256, job.InputSHA256 = request.TaskID, sha256hex(module), sha256hex(stdin)
	job.Kind = wire.JobReceived
	s.rec.Record(job)
	return s.end(job, s.run(&request, began)), nil
}

// protect keeps the connection manager from closing the submitter's
// connections while its job is served.
func (s *jobServer) protect(stream network.Stream) (release func()) {
	submitter, tag := stream.Conn().RemotePeer(), "job "+stream.ID()
	s.keep.Protect(submitter, tag)
	return func() { s.keep.Unprotect(submitter, tag) }
}

// run executes an admitted request.
func (s *jobServer) run(request *wire.TaskDispatchRequest, began time.Time) wire.TaskDispatchResponse {
	module, err := request.Workload()
	if err != nil {
		s.count(func(c *wire.JobCounts) { c.Failed++ })
		return failedTask(request.TaskID, began, err)
	}
	stdin, _ := request.Input(wire.StdinInput)
	s.count(func(c *wire.JobCounts) { c.Running++ })
	result := s.runner.Run(s.ctx, sandbox.Job{
		Module:      module,
		Stdin:       stdin,
		Args:        request.Manifest.Command,
		Walltime:    request.Walltime(),
		MemoryBytes: request.Manifest.Resources.RAMBytes,
	})
	s.count(func(c *wire.JobCounts) {
		c.Running--
		if result.Status == wire.Succeeded {
			c.Succeeded++
		} else {
			c.Failed++
		}
	})
	answer := wire.TaskDispatchResponse{
		TaskID: request.TaskID, Status: result.Status, Output: result.Output,
		DurationMS: uint64(result.Duration.Milliseconds()),
	}
	if result.Err != "" {
		answer.Error = &result.Err
	}
	return answer
}

func (s *jobServer) count(change func(*wire.JobCounts)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.counts)
}

// end records the end of a job, before its answer leaves.
func (s *jobServer) end(job wire.Event, answer wire.TaskDispatchResponse) wire.TaskDispatchResponse {
	recordJobEnd(s.rec, job, answer)
	return answer
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

// awaitPlace waits until a request may be read; receive gives the place back.
func (s *jobServer) awaitPlace() error {
	select {
	case s.receiving <- struct{}{}:
		return nil
	case <-time.After(receiveQueue):
		return fmt.Errorf("this donor is busy: %d other tasks are being received, for more than %s", cap(s.receiving), receiveQueue)
	}
}

// receive reads one request, which ends where the submitter closes its side.
func (s *jobServer) receive(stream network.Stream) (wire.TaskDispatchRequest, error) {
	defer func() { <-s.receiving }()
	if err := stream.SetReadDeadline(time.Now().Add(requestTimeout)); err != nil {
		return wire.TaskDispatchRequest{}, fmt.Errorf("receive a task: %w", err)
	}
	raw, err := io.ReadAll(io.LimitReader(stream, wire.MaxRequest+1))
	if err != nil {
		return wire.TaskDispatchRequest{}, fmt.Errorf("receive a task: after %d bytes: %w", len(raw), err)
	}
	if len(raw) > wire.MaxRequest {
		return wire.TaskDispatchRequest{}, &malformedError{fmt.Errorf("%w: a request has at most %d bytes", wire.ErrTooLarge, wire.MaxRequest)}
	}
	request, err := wire.V10.DecodeRequest(raw)
	if err != nil {
		return wire.TaskDispatchRequest{}, &malformedError{err}
	}
	return request, nil
}

func send(stream network.Stream, answer wire.TaskDispatchResponse) error {
	raw, err := wire.V10.EncodeResponse(answer)
	if err != nil {
		return fmt.Errorf("answer task %s: %w", answer.TaskID, err)
	}
	if err := stream.SetWriteDeadline(time.Now().Add(responseTimeout)); err != nil {
		return fmt.Errorf("answer task %s: %w", answer.TaskID, err)
	}
	if _, err := stream.Write(raw); err != nil {
		return fmt.Errorf("answer task %s: %w", answer.TaskID, err)
	}
	return nil
}

func sha256hex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
