package sandbox

import (
	"bytes"
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/node/wire"
	wasmfixtures "github.com/worldcompute/wce2e/wasm-fixtures"
)

// newRunner makes a runner that is closed with the test.
func newRunner(t testing.TB, limits Limits) *Runner {
	t.Helper()
	r, err := New(context.Background(), limits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return r
}

func newNonce(t testing.TB) []byte {
	t.Helper()
	nonce := make([]byte, 32)
	if _, err := rand.Read(nonce); err != nil {
		t.Fatal(err)
	}
	return nonce
}

func taskOf(t testing.TB, name string, nonce []byte) (wasmfixtures.Fixture, wasmfixtures.Task) {
	t.Helper()
	fixture, err := wasmfixtures.Get(name)
	if err != nil {
		t.Fatal(err)
	}
	task, err := fixture.Task(nonce)
	if err != nil {
		t.Fatal(err)
	}
	return fixture, task
}

// mustSucceed runs a good fixture and checks its answer.
func mustSucceed(t testing.TB, r *Runner, name string) []byte {
	t.Helper()
	_, task := taskOf(t, name, newNonce(t))
	res := r.Run(t.Context(), Job{Module: task.Module, Stdin: task.Input})
	if res.Status != wire.Succeeded || !bytes.Equal(res.Output, task.Expected) {
		t.Fatalf("%s: %s %q, %d bytes, want %d others", name, res.Status, res.Err, len(res.Output), len(task.Expected))
	}
	return res.Output
}

func TestEveryFixtureEndsAsItSays(t *testing.T) {
	r := newRunner(t, Limits{MemoryBytes: 32 << 20})
	for _, name := range wasmfixtures.Names() {
		t.Run(name, func(t *testing.T) {
			fixture, task := taskOf(t, name, newNonce(t))
			job := Job{Module: task.Module, Stdin: task.Input}
			if fixture.Status == "Timeout" {
				job.Walltime = 200 * time.Millisecond
			}
			res := r.Run(t.Context(), job)
			if string(res.Status) != fixture.Status {
				t.Fatalf("status %s %q, want %s", res.Status, res.Err, fixture.Status)
			}
			if fixture.Bad {
				if !strings.Contains(res.Err, fixture.Word) || res.Output != nil {
					t.Errorf("error %q without %q, or output %q", res.Err, fixture.Word, res.Output)
				}
			} else if !bytes.Equal(res.Output, task.Expected) || res.Err != "" {
				t.Errorf("answer differs from the one computed without WebAssembly; error %q", res.Err)
			}
			t.Logf("%s in %s: %s", res.Status, res.Duration, res.Err)
			mustSucceed(t, r, "sha256") // the donor works on
		})
	}
}

func TestTwoNoncesGiveTwoAnswers(t *testing.T) {
	r := newRunner(t, Limits{})
	for _, name := range wasmfixtures.Names() {
		if fixture, _ := taskOf(t, name, newNonce(t)); fixture.Bad {
			continue
		}
		if bytes.Equal(mustSucceed(t, r, name), mustSucceed(t, r, name)) {
			t.Errorf("%s: the same answer twice", name)
		}
	}
}
