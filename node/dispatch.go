package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"

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
	job, err := prepare(&ask)
	if err != nil {
		return wire.DispatchResult{}, err
	}
	ctx, cancel := context.WithDeadline(ctx, job.until)
	defer cancel()

	result := wire.DispatchResult{TaskID: job.task.TaskID, Peer: job.to.peer.String()}
	began := time.Now()
	way, version, fresh, err := s.router.to(ctx, job, ask.Path)
	if err != nil {
		result.Error = err.Error()
		return result, nil
	}
	defer way.close()
	if fresh {
		result.ConnectMS = millis(time.Since(began))
	}
	result.Path, result.Relay, result.Conn, result.Remote = way.path, way.relay, way.conn, way.remote.String()
	job.task.SetWalltime(walltime(time.Until(job.until))) // connecting has taken its share
	payload, err := version.EncodeRequest(job.task)
	if err != nil {
		return wire.DispatchResult{}, fmt.Errorf("task %s: %w", job.task.TaskID, err)
	}
	if err := way.limit.take(len(payload)); err != nil {
		result.Error = fmt.Sprintf("task %s: %v", job.task.TaskID, err)
		return result, nil
	}
	answer, err := s.send(ctx, way, version, payload, job, &result)
	if err != nil {
		result.Error = err.Error()
		return result, nil
	}
	result.Status, result.DurationMS = string(answer.Status), float64(answer.DurationMS)
	result.Output, result.OutputSHA256 = answer.Output, sha256hex(answer.Output)
	if answer.Error != nil {
		result.Error = *answer.Error
	}
	return result, nil
}

// send makes the exchange, and records it.
func (s *submitter) send(ctx context.Context, way route, v wire.Version, payload []byte, job *parcel, result *wire.DispatchResult) (wire.TaskDispatchResponse, error) {
	module, _ := job.task.Input(wire.WorkloadInput)
	stdin, _ := job.task.Input(wire.StdinInput)
	event := wire.Event{
		Kind: wire.JobSent, Task: job.task.TaskID, Peer: result.Peer, Conn: way.conn, Relay: way.relay, Path: way.path,
		ModuleSHA256: sha256hex(module), InputSHA256: sha256hex(stdin),
	}
	s.rec.Record(event)
	sent := time.Now()
	answer, err := s.exchange(ctx, way, v, payload, job.task.TaskID)
	result.RoundTripMS = millis(time.Since(sent))
	if err != nil {
		event.Kind, event.Err, event.MS = wire.JobEnded, err.Error(), result.RoundTripMS
		s.rec.Record(event)
		return answer, err
	}
	recordJobEnd(s.rec, event, answer)
	return answer, nil
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

// parcel is a task on its way to a donor.
type parcel struct {
	to    target
	task  wire.TaskDispatchRequest
	sizes map[wire.Version]int // of the request as it is sent, in bytes; of the versions that it fits
	until time.Time            // when the answer has to be there
}

// least is the size of the shortest way to say it.
func (p *parcel) least() int { return slices.Min(slices.Collect(maps.Values(p.sizes))) }

// prepare checks what was asked for: that it can be sent, too. An error means
// that the question itself is wrong.
func prepare(ask *wire.DispatchRequest) (*parcel, error) {
	t, err := parseTarget(ask.To)
	if err != nil {
		return nil, err
	}
	switch ask.Path {
	case "":
		ask.Path = wire.AnyPath
	case wire.Direct, wire.Relayed, wire.AnyPath:
	default:
		return nil, fmt.Errorf("path %q: is none of %s, %s, %s", ask.Path, wire.Relayed, wire.Direct, wire.AnyPath)
	}
	if ask.TaskID == "" {
		ask.TaskID = rand.Text()
	}
	if ask.Name == "" {
		ask.Name = "task"
	}
	timeout := dispatchTimeout(*ask)
	p := &parcel{to: t, task: wire.NewRequest(ask.TaskID, ask.Name, ask.Module, ask.Input), until: time.Now().Add(timeout)}
	// A shorter wall time, as it is sent, does not take more bytes.
	p.task.SetWalltime(walltime(timeout))
	if p.sizes, err = sizes(p.task); err != nil {
		return nil, fmt.Errorf("task %s: %w", cut(ask.TaskID, wire.MaxTaskID), err)
	}
	return p, nil
}

// sizes are those of a request in the versions that it fits, which is one at
// least.
func sizes(task wire.TaskDispatchRequest) (map[wire.Version]int, error) {
	out := map[wire.Version]int{}
	var why error
	for _, v := range wire.Versions {
		data, err := v.EncodeRequest(task)
		if err != nil {
			why = err
			continue
		}
		out[v] = len(data)
	}
	if len(out) == 0 {
		return nil, why
	}
	return out, nil
}

// exchange writes the request, closes the writing side and reads the answer.
func (s *submitter) exchange(ctx context.Context, way route, v wire.Version, payload []byte, task string) (wire.TaskDispatchResponse, error) {
	stream, err := open(ctx, way, v)
	if err != nil {
		return wire.TaskDispatchResponse{}, fmt.Errorf("task %s: %w", task, refusal(ctx, v, err))
	}
	stop := context.AfterFunc(ctx, func() { stream.Reset() })
	defer stop()
	answer, err := roundTrip(stream, v, payload)
	if err != nil {
		stream.Reset()
		s.router.unanswered(way.conn)
		return wire.TaskDispatchResponse{}, fmt.Errorf("task %s: %w", task, refusal(ctx, v, err))
	}
	stream.Close()
	s.router.answered(way.conn)
	if answer.TaskID != task && answer.TaskID != "" { // a malformed request has no name
		return wire.TaskDispatchResponse{}, fmt.Errorf("task %s: the answer is for task %q", task, answer.TaskID)
	}
	return answer, nil
}

// open opens a stream for a request. Of V10, which is small and which every
// donor speaks, the request goes along at once.
func open(ctx context.Context, way route, v wire.Version) (network.MuxedStream, error) {
	if v == wire.V10 {
		return way.stream(ctx, protocol.ID(v.Protocol()))
	}
	return way.eagerStream(ctx, protocol.ID(v.Protocol()))
}

// refusal adds to an error what it means.
func refusal(ctx context.Context, v wire.Version, err error) error {
	var reset *network.StreamError
	var unspoken multistream.ErrNotSupported[protocol.ID]
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	case errors.As(err, &unspoken), errors.As(err, &reset) && reset.ErrorCode == network.StreamProtocolNegotiationFailed:
		return fmt.Errorf("the peer takes no such jobs: it does not speak the protocol %s: %w", v.Protocol(), err)
	}
	return err
}

// lastWord is what a donor that no longer reads is given to say why.
const lastWord = 2 * time.Second

// roundTrip sends a request, and reads the answer meanwhile: a donor that turns
// it away answers before it has read it all, and may read no further.
func roundTrip(stream network.MuxedStream, v wire.Version, payload []byte) (wire.TaskDispatchResponse, error) {
	sent := make(chan error, 1)
	go func() {
		err := send(stream, payload)
		if err != nil {
			stream.SetReadDeadline(time.Now().Add(lastWord))
		}
		sent <- err
	}()
	raw, err := io.ReadAll(io.LimitReader(stream, int64(v.MaxResponse())+1))
	if err != nil {
		return wire.TaskDispatchResponse{}, waitingFailed(sent, err)
	}
	// Who has answered needs no more; and nobody may close a stream during a write.
	stream.SetWriteDeadline(time.Now())
	<-sent
	if len(raw) == 0 {
		return wire.TaskDispatchResponse{}, errors.New("wait for the answer: the donor closed the stream without one")
	}
	return v.DecodeResponse(raw)
}

// send writes a request and closes the writing side.
func send(stream network.MuxedStream, payload []byte) error {
	_, err := io.Copy(stream, bytes.NewReader(payload))
	if err == nil {
		err = stream.CloseWrite()
	}
	if err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// waitingFailed tells what the reading of an answer failed at: the sending may
// not be done, or have failed before.
func waitingFailed(sent <-chan error, err error) error {
	select {
	case failed := <-sent:
		if failed != nil {
			return failed
		}
		return fmt.Errorf("wait for the answer: %w", err)
	default:
		return fmt.Errorf("send: %w", err)
	}
}
