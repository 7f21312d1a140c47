package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/worldcompute/wce2e/node/wire"
)

const (
	defaultDispatchTimeout = 60 * time.Second
	maxDispatchTimeout     = time.Hour

	// answerReserve is what of the timeout is left for everything but running:
	// both ways on a slow line, and the donor's own overhead. The donor's
	// "Timeout" shall arrive before we stop to listen.
	answerReserve = 2 * time.Second
	minWalltime   = time.Second
)

// submitter sends tasks to donors.
type submitter struct {
	router *router
	rec    *recorder
}

// dispatch sends one task and waits for its answer. What went wrong is in the
// result: a donor that cannot be reached is a finding.
func (s *submitter) dispatch(ctx context.Context, ask wire.DispatchRequest) (wire.DispatchResult, error) {
	t, task, err := prepare(&ask)
	if err != nil {
		return wire.DispatchResult{}, err
	}
	timeout := dispatchTimeout(ask)
	deadline := time.Now().Add(timeout)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()

	result := wire.DispatchResult{TaskID: task.TaskID, Peer: t.peer.String()}
	began := time.Now()
	way, fresh, err := s.router.to(ctx, t, ask.Path)
	if err != nil {
		result.Error = err.Error()
		return result, nil
	}
	defer way.close()
	if fresh {
		result.ConnectMS = millis(time.Since(began))
	}
	result.Path, result.Relay, result.Conn, result.Remote = way.path, way.relay, way.conn, way.remote.String()
	task.SetWalltime(walltime(time.Until(deadline))) // connecting has taken its share
	payload, err := wire.V10.EncodeRequest(task)
	if err != nil {
		return wire.DispatchResult{}, fmt.Errorf("task %s: %w", task.TaskID, err)
	}

	job := wire.Event{
		Kind: wire.JobSent, Task: task.TaskID, Peer: result.Peer, Conn: way.conn, Relay: way.relay, Path: way.path,
		ModuleSHA256: sha256hex(ask.Module), InputSHA256: sha256hex(ask.Input),
	}
	s.rec.Record(job)
	sent := time.Now()
	answer, err := s.exchange(ctx, way, payload, task.TaskID)
	result.RoundTripMS = millis(time.Since(sent))
	if err != nil {
		result.Error = err.Error()
		job.Kind, job.Err, job.MS = wire.JobEnded, result.Error, result.RoundTripMS
		s.rec.Record(job)
		return result, nil
	}
	recordJobEnd(s.rec, job, answer)
	result.Status, result.DurationMS = string(answer.Status), float64(answer.DurationMS)
	result.Output, result.OutputSHA256 = answer.Output, sha256hex(answer.Output)
	if answer.Error != nil {
		result.Error = *answer.Error
	}
	return result, nil
}

func dispatchTimeout(ask wire.DispatchRequest) time.Duration {
	// Compared in milliseconds: in nanoseconds, a foreign number may wrap.
	switch {
	case ask.TimeoutMS <= 0:
		return defaultDispatchTimeout
	case ask.TimeoutMS > maxDispatchTimeout.Milliseconds():
		return maxDispatchTimeout
	}
	return time.Duration(ask.TimeoutMS) * time.Millisecond
}

// walltime is what the task may take, when so much is left until we stop to
// listen.
func walltime(left time.Duration) time.Duration { return max(left-answerReserve, minWalltime) }

// prepare checks what was asked for: that it can be sent, too. An error means
// that the question itself is wrong.
func prepare(ask *wire.DispatchRequest) (target, wire.TaskDispatchRequest, error) {
	fail := func(err error) (target, wire.TaskDispatchRequest, error) {
		return target{}, wire.TaskDispatchRequest{}, err
	}
	t, err := parseTarget(ask.To)
	if err != nil {
		return fail(err)
	}
	switch ask.Path {
	case "":
		ask.Path = wire.AnyPath
	case wire.Direct, wire.Relayed, wire.AnyPath:
	default:
		return fail(fmt.Errorf("path %q: is none of %s, %s, %s", ask.Path, wire.Relayed, wire.Direct, wire.AnyPath))
	}
	if ask.TaskID == "" {
		ask.TaskID = rand.Text()
	}
	if ask.Name == "" {
		ask.Name = "task"
	}
	task := wire.NewRequest(ask.TaskID, ask.Name, ask.Module, ask.Input)
	// A shorter wall time, as it is sent, does not take more bytes.
	task.SetWalltime(walltime(dispatchTimeout(*ask)))
	if _, err := wire.V10.EncodeRequest(task); err != nil {
		return fail(fmt.Errorf("task %s: %w", cut(ask.TaskID, wire.MaxTaskID), err))
	}
	return t, task, nil
}

// exchange writes the request, closes the writing side and reads the answer.
func (s *submitter) exchange(ctx context.Context, way route, payload []byte, task string) (wire.TaskDispatchResponse, error) {
	stream, err := way.stream(ctx, protocol.ID(wire.V10.Protocol()))
	if err != nil {
		return wire.TaskDispatchResponse{}, fmt.Errorf("task %s: %w", task, err)
	}
	stop := context.AfterFunc(ctx, func() { stream.Reset() })
	defer stop()
	answer, err := roundTrip(stream, payload)
	if err != nil {
		stream.Reset()
		var reset *network.StreamError
		switch {
		case ctx.Err() != nil:
			err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		case errors.As(err, &reset) && reset.ErrorCode == network.StreamProtocolNegotiationFailed:
			err = fmt.Errorf("the peer takes no jobs: it does not speak the protocol %s: %w", wire.V10.Protocol(), err)
		}
		return wire.TaskDispatchResponse{}, fmt.Errorf("task %s: %w", task, err)
	}
	stream.Close()
	if answer.TaskID != task && answer.TaskID != "" { // a malformed request has no name
		return wire.TaskDispatchResponse{}, fmt.Errorf("task %s: the answer is for task %q", task, answer.TaskID)
	}
	return answer, nil
}

func roundTrip(stream network.MuxedStream, payload []byte) (wire.TaskDispatchResponse, error) {
	if _, err := io.Copy(stream, bytes.NewReader(payload)); err != nil {
		return wire.TaskDispatchResponse{}, fmt.Errorf("send: %w", err)
	}
	if err := stream.CloseWrite(); err != nil {
		return wire.TaskDispatchResponse{}, fmt.Errorf("send: %w", err)
	}
	raw, err := io.ReadAll(io.LimitReader(stream, wire.MaxResponse+1))
	if err != nil {
		return wire.TaskDispatchResponse{}, fmt.Errorf("wait for the answer: %w", err)
	}
	if len(raw) == 0 {
		return wire.TaskDispatchResponse{}, errors.New("wait for the answer: the donor closed the stream without one")
	}
	return wire.V10.DecodeResponse(raw)
}
