package sandbox

import (
	"context"
	"testing"

	"github.com/worldcompute/wce2e/node/wire"
)

// BenchmarkRun measures what a donor adds to the round trip of a job.
func BenchmarkRun(b *testing.B) {
	for _, name := range []string{"noop", "noop-abi1", "sha256", "primes", "mandelbrot"} {
		_, task := taskOf(b, name, []byte("a nonce of some thirty-two bytes"))
		job := Job{Module: task.Module, Stdin: task.Input, Args: []string{name}}
		b.Run(name+"/warm", func(b *testing.B) {
			r := newRunner(b, Limits{})
			run(b, r, job)
			for b.Loop() {
				run(b, r, job)
			}
		})
		b.Run(name+"/cold", func(b *testing.B) {
			for b.Loop() {
				mod, err := compile(context.Background(), keyOf(job.Module), job.Module)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := mod.run(b.Context(), job, Limits{OutputBytes: wire.MaxOutput, MemoryBytes: defaultMemoryBytes}); err != nil {
					b.Fatal(err)
				}
				if err := mod.close(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func run(b *testing.B, r *Runner, job Job) {
	if res := r.Run(context.Background(), job); res.Status != wire.Succeeded {
		b.Fatal(res.Status, res.Err)
	}
}
