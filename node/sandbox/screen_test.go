package sandbox

import (
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/worldcompute/wce2e/node/wire"
	wasmfixtures "github.com/worldcompute/wce2e/wasm-fixtures"
)

// huge is a number that a few bytes can claim.
var huge = uleb(1<<32 - 1)

// Each of these is a few bytes long and asks a compiler for gigabytes.
func bombs() map[string][]byte {
	oneFunction := cat(types(), section(functionSection, vec([]byte{tVoid})))
	locals := func(n int) []byte { return cat([]byte{1}, uleb(n), []byte{i32, end}) }
	sized := func(body []byte) []byte { return cat(uleb(len(body)), body) }
	return map[string][]byte{
		"types":            assemble(section(typeSection, huge)),
		"parameters":       assemble(section(typeSection, []byte{1, 0x60}, huge)),
		"imports":          assemble(section(importSection, huge)),
		"import name":      assemble(section(importSection, []byte{1}, huge)),
		"functions":        assemble(section(functionSection, huge)),
		"tables":           assemble(section(tableSection, huge)),
		"table items":      assemble(section(tableSection, []byte{1, 0x70, 0}, uleb(1<<27))),
		"globals":          assemble(section(globalSection, huge)),
		"exports":          assemble(section(exportSection, huge)),
		"export name":      assemble(section(exportSection, []byte{1}, huge)),
		"element segments": assemble(section(elementSection, huge)),
		"elements":         assemble(section(elementSection, []byte{1, 1, 0}, huge)),
		"element exprs":    assemble(section(elementSection, []byte{1, 5, 0x70}, huge)),
		"code":             assemble(oneFunction, section(codeSection, huge)),
		"body":             assemble(oneFunction, section(codeSection, []byte{1}, huge)),
		"locals":           assemble(oneFunction, section(codeSection, vec(sized(locals(1<<32-1))))),
		"many locals":      assemble(oneFunction, section(codeSection, vec(sized(locals(maxLocals+1))))),
		"data segments":    assemble(section(dataSection, huge)),
		"data":             assemble(section(dataSection, []byte{1, 1}, huge)),
		"many segments":    assemble(section(dataSection, uleb(maxSegments+1), repeat(maxSegments+1, 1, 0))),
		"much program":     assemble(oneFunction, section(codeSection, vec(function(repeat(maxProgram, 0x01))))),
		"section":          assemble([]byte{typeSection}, huge),
		"custom section":   assemble([]byte{customSection}, huge),
		"memories":         assemble(section(memorySection, vec([]byte{0, 1}, []byte{0, 1}))),
		"shared memory":    assemble(section(memorySection, vec([]byte{3, 1, 1}))),
		"unknown section":  assemble(section(13, []byte{0})),
		"rec group":        assemble(section(typeSection, []byte{1, 0x4e}, huge)),
		"cut":              assemble(section(typeSection, []byte{1, 0x60, 0, 0}))[:12],
		"too long":         assemble(section(startSection, []byte{0, 0})),
		"not minimal":      assemble(section(startSection, []byte{0x80, 0x80, 0x80, 0x80, 0x80, 0})),
		"constant":         assemble(section(globalSection, []byte{1, i32, 0, 0x10, 0, end})),
	}
}

func TestAModuleThatDeclaresTooMuchIsNotCompiled(t *testing.T) {
	r := newRunner(t, Limits{})
	for what, bomb := range bombs() {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		outcome{what: what, job: Job{Module: bomb}, status: wire.TaskFailed, says: "invalid module: "}.check(t, r)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
			t.Errorf("%s: it took %d bytes of memory", what, used)
		}
		if _, _, err := screen(bomb); err == nil {
			t.Errorf("%s: it went through the screen", what)
		}
	}
}

func TestAModuleMayBeMostlyData(t *testing.T) {
	r := newRunner(t, Limits{})
	const size = 16 << 20
	text := strings.Repeat("0123456789abcdef", size/16)
	large := assemble(types(), section(functionSection, vec([]byte{tI32})), memoryOf(size/pageBytes),
		exports(exportFunc("output_len", 0), exportMemory()),
		section(codeSection, vec(function(i32const(size)))), section(dataSection, vec(dataAt(0, text))))
	job := Job{Module: large}
	outcome{what: "16 MiB in, 16 MiB out", job: job, status: wire.Succeeded, output: text}.check(t, r)
	if r.cache.find(keyOf(large)) != nil {
		t.Error("it is kept")
	}
	job.OutputBytes = size - 1
	outcome{what: "more than the job may answer", job: job, status: wire.TaskFailed, says: "output limit: output_len is 16777216, at most 16777215"}.check(t, r)
}

func TestATableCannotGrowOverItsBound(t *testing.T) {
	r := newRunner(t, Limits{})
	for what, table := range map[string][]byte{
		"unbounded": {0x70, 0, 1},
		"bounded":   cat([]byte{0x70, 1, 1}, huge),
	} {
		grow := func(n int64) []byte { return cat([]byte{0xd0, 0x70}, i32const(n), []byte{0xfc, 15, 0}) } // ref.null, table.grow
		// 1 + (it could grow), as output_len: -1 makes 0.
		body := func(n int64) []byte { return cat(grow(n), i32const(-1), []byte{0x47}) }
		module := func(n int64) []byte {
			return assemble(types(), section(functionSection, vec([]byte{tI32})), section(tableSection, vec(table)),
				memoryOf(1), exports(exportFunc("output_len", 0), exportMemory()),
				section(codeSection, vec(function(body(n)))), section(dataSection, vec(dataAt(0, "yes"))))
		}
		outcome{what: what, job: Job{Module: module(maxTableItems - 1)}, status: wire.Succeeded, output: "y"}.check(t, r)
		outcome{what: what, job: Job{Module: module(maxTableItems)}, status: wire.Succeeded}.check(t, r)
	}
}

func TestWhatIsNotWebAssemblyIsNamed(t *testing.T) {
	for code, want := range map[string]string{
		"":                              "no magic number",
		"\x7fELF and so on":             "no magic number",
		"\x00asm":                       "version 1",
		"\x00asm\x0d\x00\x01\x00":       "version 1", // a component
		header + "\x05":                 "unexpected end",
		header + "\x00\x05abc":          "unexpected end",
		header + "\x01\x04\x01\x60\x00": "unexpected end",
	} {
		if _, _, err := screen([]byte(code)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", code, err, want)
		}
	}
}

func TestTheScreenKeepsAllButCustomSections(t *testing.T) {
	for _, name := range wasmfixtures.Names() {
		fixture, task := taskOf(t, name, []byte{1})
		if fixture.Bad {
			continue
		}
		with := cat(task.Module, section(customSection, []byte("\x04name whatever")))
		clean, shape, err := screen(with)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if again, _, err := screen(clean); err != nil || string(again) != string(clean) || len(clean) > len(task.Module) {
			t.Errorf("%s: %d bytes became %d, then %d: %v", name, len(task.Module), len(clean), len(again), err)
		}
		if fixture.ABI == 2 != (len(shape.imports) > 0) || shape.pages == 0 {
			t.Errorf("%s: imports %v, %d pages", name, shape.imports, shape.pages)
		}
	}
}

// FuzzModule looks for modules that get past the screen and then break the
// runner: any outcome is right, a crash, a hang or a leak of memory is not.
func FuzzModule(f *testing.F) {
	for _, name := range wasmfixtures.Names() {
		_, task := taskOf(f, name, []byte("seed"))
		f.Add(task.Module)
	}
	for _, bomb := range bombs() {
		f.Add(bomb)
	}
	r := newRunner(f, Limits{MemoryBytes: 1 << 20, Walltime: 1e9, Concurrency: 1})
	f.Fuzz(func(t *testing.T, module []byte) {
		res := r.Run(t.Context(), Job{Module: module, Stdin: []byte("seed")})
		switch res.Status {
		case wire.Succeeded, wire.TaskFailed, wire.Timeout:
		default:
			t.Errorf("status %q", res.Status)
		}
		if strings.Contains(res.Err, "sandbox failure") {
			t.Error(res.Err)
		}
	})
}

func TestDamagedModulesDoNotBreakTheRunner(t *testing.T) {
	r := newRunner(t, Limits{MemoryBytes: 1 << 20})
	random := rand.New(rand.NewPCG(1, 2))
	for _, name := range wasmfixtures.Names() {
		_, task := taskOf(t, name, []byte("seed"))
		for range 40 {
			damaged := []byte(string(task.Module))
			damaged[random.IntN(len(damaged))] ^= byte(1 + random.IntN(255))
			res := r.Run(t.Context(), Job{Module: damaged, Walltime: 10e6})
			if strings.Contains(res.Err, "sandbox failure") || strings.Contains(res.Err, "compiler failed") {
				t.Errorf("%s, damaged: %s", name, res.Err)
			}
		}
	}
	mustSucceed(t, r, "primes")
}
