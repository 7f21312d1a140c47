package sandbox

import (
	"bytes"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/node/wire"
)

func repeat(n int, code ...byte) []byte { return bytes.Repeat(code, n) }

// withLocals is an item of the code section.
func withLocals(n int, code ...[]byte) []byte {
	body := cat([]byte{1}, uleb(n), []byte{i32}, cat(code...), []byte{end})
	return cat(uleb(len(body)), body)
}

// runOnce is a module whose _start is that function.
func runOnce(code []byte) []byte {
	return assemble(types(), section(functionSection, vec([]byte{tVoid})), memoryOf(1),
		exports(exportFunc("_start", 0)), section(codeSection, vec(code)))
}

// setAll changes every local, so that none is a constant.
func setAll(locals int) (code []byte) {
	for i := range locals {
		code = cat(code, []byte{0x20}, uleb(i), i32const(1), []byte{0x6a, 0x21}, uleb(i))
	}
	return code
}

// Each of these keeps wazero's compiler busy for 5 to 80 seconds.
func compilerBombs() map[string][]byte {
	return map[string][]byte{
		"nested loops": withLocals(1000, setAll(1000), repeat(3000, 0x03, 0x40), setAll(1000), repeat(3000, 0x41, 0, 0x0d, 0, end)),
		"loops":        withLocals(1000, setAll(1000), repeat(3000, 0x03, 0x40, 0x41, 0, 0x0d, 0, end), setAll(1000)),
		"ifs":          withLocals(3000, setAll(3000), repeat(1000, 0x20, 0, 0x04, 0x40, 0x20, 1, 0x21, 2, end), setAll(3000)),
		"depth":        withLocals(1, repeat(100_000, 0x02, 0x40), repeat(100_000, end)),
		"br_table":     withLocals(1, []byte{0x02, 0x40, 0x20, 0, 0x0e}, uleb(500_000), repeat(500_001, 0), []byte{end}),
		"operands": withLocals(1, repeat(10_000, 0x20, 0, 0x28, 2, 0), repeat(10_000, 0x03, 0x40, 0x41, 0, 0x0d, 0, end),
			repeat(9_999, 0x6a), drop()),
	}
}

func TestWhatTheCompilerWouldChokeOnIsInterpreted(t *testing.T) {
	r := newRunner(t, Limits{})
	for what, code := range compilerBombs() {
		start := time.Now()
		outcome{what: what, job: Job{Module: runOnce(code)}, status: wire.Succeeded}.check(t, r)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: it took %s", what, took)
		}
	}
}

func TestInterpretedModulesKeepToTheirLimits(t *testing.T) {
	r := newRunner(t, Limits{MemoryBytes: 1 << 20})
	costly := func(then []byte) []byte {
		return runOnce(withLocals(1, repeat(20_000, 0x02, 0x40), repeat(20_000, end), then))
	}
	if _, shape, err := screen(costly(nil)); err != nil || shape.cost <= maxCompileCost {
		t.Fatalf("it would be compiled: cost %d, %v", shape.cost, err)
	}
	for _, o := range []outcome{
		{what: "loop", job: Job{Module: costly([]byte{0x03, 0x40, 0x0c, 0, end}), Walltime: 100 * time.Millisecond}, status: wire.Timeout, says: "wall time"},
		{what: "recursion", job: Job{Module: costly(call(0))}, status: wire.TaskFailed, says: "trap: stack overflow"},
		{what: "memory", job: Job{Module: costly(cat(i32const(16), []byte{0x40, 0, 0x1a, 0x00}))}, status: wire.TaskFailed, says: "memory limit"},
	} {
		o.check(t, r)
	}
}

func TestTheCostOfAFunctionIsKnownToTheUnit(t *testing.T) {
	for what, test := range map[string]struct {
		code []byte
		want uint64
	}{
		"nothing":                                 {withLocals(10), 0},
		"a block looks at the locals":             {withLocals(10, []byte{0x02, 0x40, end}), 10},
		"and at the operands below":               {withLocals(10, []byte{0x41, 0, 0x41, 0, 0x02, 0x40, end, 0x1a, 0x1a}), 12},
		"but not at popped ones":                  {withLocals(10, []byte{0x41, 0, 0x1a, 0x02, 0x40, end}), 10},
		"a block's result is one":                 {withLocals(10, []byte{0x02, i32, 0x41, 0, end, 0x1a}), 11},
		"a branch costs like a block":             {withLocals(10, []byte{0x02, 0x40, 0x0c, 0, end}), 20},
		"a table, each of its targets":            {withLocals(10, []byte{0x02, 0x40, 0x41, 0, 0x0e, 2, 0, 0, 0, end}), 40},
		"behind a branch nothing is on the stack": {withLocals(10, []byte{0x02, 0x40, 0x41, 0, 0x0c, 0, 0x1a, 0x1a, 0x1a, 0x02, 0x40, end, end}), 10 + 11 + 10},
		"a call": {withLocals(10, call(0)), 1},
	} {
		_, shape, err := screen(runOnce(test.code))
		if err != nil || shape.cost != test.want {
			t.Errorf("%s: cost %d, error %v, want %d", what, shape.cost, err, test.want)
		}
	}
}
