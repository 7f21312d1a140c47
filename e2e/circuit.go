package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"time"

	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/node/wire"
	wasmfixtures "github.com/worldcompute/wce2e/wasm-fixtures"
)

// jobTimeout bounds one task, from the connection to the answer.
const jobTimeout = 60 * time.Second

// useCircuit dials the donor through its relay from the submitter, then sends it
// a job that way. The donor may have lost its relay a moment ago: it is given
// the time to find another.
func (r *run) useCircuit(ctx context.Context, phase evidence.Phase) error {
	now, err := r.reserved(ctx, reservedAgain)
	if err != nil {
		return err
	}
	to, ok, err := r.dialCircuit(ctx, phase, now.circuits)
	if err == nil && !ok && (phase == evidence.AfterHold || r.moved(ctx, now)) {
		to, err = r.dialNext(ctx, phase, now, to)
	}
	if err != nil {
		r.missed(r.submitter().Name, "circuit dial", err)
		return nil
	}
	job, err := r.sendJob(ctx, phase, to)
	switch {
	case err != nil:
		r.missed(r.submitter().Name, "job", err)
	case job.Status != "Succeeded":
		r.talk.Note(fmt.Sprintf("job: %s %s", job.Status, job.Error))
	default:
		r.talk.Note(fmt.Sprintf("job: %s, %s, round trip %.1f ms%s", job.Status, job.Path, job.RoundTripMS, connected(job)))
	}
	return nil
}

// moved tells whether the donor holds another reservation by now: it lost the one that
// was tried, and its word came too late.
func (r *run) moved(ctx context.Context, tried held) bool {
	r.fetchEvents(ctx)
	now, ok := reservation(r.donor().node.said())
	return !ok || !now.same(tried)
}

// dialNext dials the donor by the reservation that takes the place of one which
// was of no use. The network may have ended it without a word to the donor, which
// then takes its time to notice.
func (r *run) dialNext(ctx context.Context, phase evidence.Phase, useless held, tried string) (string, error) {
	r.talk.Note("waiting for the donor's next reservation")
	now, err := r.reservedOther(ctx, reservedAgain, useless)
	if err != nil {
		return tried, nil // by what has been dialled it is judged
	}
	to, _, err := r.dialCircuit(ctx, phase, now.circuits)
	return to, err
}

// dialCircuit tries the donor's circuit addresses until one works: they differ
// in how the relay is reached, which depends on the submitter's own network. It
// gives the one that worked, else the first.
func (r *run) dialCircuit(ctx context.Context, phase evidence.Phase, addrs []string) (to string, ok bool, err error) {
	for _, to := range addrs {
		result, err := r.dial(ctx, probe{from: r.submitter(), purpose: evidence.CircuitDial, phase: phase, transport: "circuit", addr: to})
		if err != nil {
			return "", false, err
		}
		if result.Outcome == wire.OK {
			r.talk.Note(fmt.Sprintf("circuit dial: %s in %.0f ms", result.Path, result.MS))
			return to, true, nil
		}
		r.talk.Note(fmt.Sprintf("circuit dial failed: %s: %s", result.Failure, result.Err))
	}
	return addrs[0], false, nil
}

// connected tells whether a job had to wait for its connection.
func connected(job wire.DispatchResult) string {
	if job.ConnectMS == 0 {
		return " on the connection that stood"
	}
	return fmt.Sprintf(" after %.1f ms to connect", job.ConnectMS)
}

// sendJob sends the inventory's fixture with a fresh nonce, so that no answer
// can have been prepared.
func (r *run) sendJob(ctx context.Context, phase evidence.Phase, to string) (wire.DispatchResult, error) {
	ctx, cancel := context.WithTimeout(ctx, jobTimeout+quickTimeout)
	defer cancel()
	var result wire.DispatchResult
	fixture, err := wasmfixtures.Get(r.inv.Job.Fixture)
	if err != nil {
		return result, err
	}
	nonce := make([]byte, nonceSize)
	rand.Read(nonce) // never fails, by its contract
	task, err := fixture.Task(nonce)
	if err != nil {
		return result, err
	}
	h := r.submitter()
	module, input := path.Join(h.dir(), "module.wasm"), path.Join(h.dir(), "input")
	for name, content := range map[string][]byte{module: task.Module, input: task.Input} {
		if err := h.remote.Upload(ctx, name, 0o600, bytes.NewReader(content)); err != nil {
			return result, err
		}
	}
	args := []string{"node", "dispatch", "--dir", h.dir(), "--to", to, "--path", string(wire.Relayed),
		"--task-id", taskID(nonce), "--wasm", module, "--timeout", jobTimeout.String(), "--json"}
	if len(task.Input) > 0 {
		args = append(args, "--input", input)
	}
	res, err := h.exec(ctx, args...)
	if err != nil {
		return result, err
	}
	if err := json.Unmarshal(res.Stdout, &result); err != nil {
		return result, fmt.Errorf("node dispatch: exit %d: %s", res.Code, lastLine(res.Stderr))
	}
	result.OutputSHA256 = sum(result.Output) // ours, not what the node says of it
	result.Output = nil
	raw, err := json.Marshal(result)
	if err != nil {
		return result, err
	}
	return result, r.note(evidence.JobDone, h.Name, evidence.Job{
		Phase: phase, Fixture: fixture.Name, Nonce: hex.EncodeToString(nonce),
		ModuleSHA256: sum(task.Module), InputSHA256: sum(task.Input), ExpectedSHA256: sum(task.Expected), Result: raw,
	})
}

// nonceSize makes a nonce that will not be met twice.
const nonceSize = 32

// taskID names the task of a nonce, so that both ends' records carry the nonce.
func taskID(nonce []byte) string { return "wce2e-" + hex.EncodeToString(nonce) }

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}
