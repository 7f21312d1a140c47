package sandbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"
	wasi "github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// maxNamedImports is how many unknown imports an error names.
const maxNamedImports = 8

// module is a compiled module. Each has a runtime of its own, so that closing
// it frees all that the stranger's module brought along, types included.
type module struct {
	shape
	key      moduleKey
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
}

// compile screens and compiles a module, or prepares it for interpretation
// where compiling would cost too much. It cannot be interrupted; the screen
// bounds how long it takes.
func compile(ctx context.Context, key moduleKey, code []byte) (_ *module, err error) {
	clean, shape, err := screen(code)
	if err != nil {
		return nil, err
	}
	config := wazero.NewRuntimeConfig()
	if shape.cost > maxCompileCost {
		config = wazero.NewRuntimeConfigInterpreter()
	}
	config = config.WithCloseOnContextDone(true).WithDebugInfoEnabled(false)
	m := &module{shape: shape, key: key, runtime: wazero.NewRuntimeWithConfig(ctx, config)}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.close(ctx))
		}
	}()
	if len(m.imports) > 0 {
		if err := m.importWASI(ctx); err != nil {
			return nil, err
		}
	}
	if m.compiled, err = m.runtime.CompileModule(ctx, clean); err != nil {
		return nil, fmt.Errorf("%w: %s", errModule, trapWord(err))
	}
	return m, nil
}

// abi2 tells the second way to run a module from the first.
func (m *module) abi2() bool { return len(m.imports) > 0 }

// importWASI gives the module WASI preview 1, and fails if it imports anything else.
func (m *module) importWASI(ctx context.Context) error {
	builder := m.runtime.NewHostModuleBuilder(wasi.ModuleName)
	wasi.NewFunctionExporter().ExportFunctions(builder)
	// wazero's fd_renumber fills its table of files up to the number asked for:
	// 2^31 of them are 16 GiB of the donor's memory. A job has no files to move.
	builder.NewFunctionBuilder().WithFunc(func(_, _ uint32) uint32 { return errnoNotsup }).Export("fd_renumber")
	if _, err := builder.Instantiate(ctx); err != nil {
		return fmt.Errorf("set up WASI: %w", err)
	}
	known := m.runtime.Module(wasi.ModuleName).ExportedFunctionDefinitions()
	var unknown []string
	for _, i := range m.imports {
		if _, ok := known[i.name]; i.module != wasi.ModuleName || !ok {
			unknown = append(unknown, i.String())
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	slices.Sort(unknown)
	unknown = slices.Compact(unknown)
	more := ""
	if n := len(unknown) - maxNamedImports; n > 0 {
		unknown, more = unknown[:maxNamedImports], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Errorf("%w: %s%s; a module imports nothing, or %s only", errImports, strings.Join(unknown, ", "), more, wasi.ModuleName)
}

const errnoNotsup = 58 // WASI preview 1: not supported

func (m *module) close(ctx context.Context) error { return m.runtime.Close(ctx) }

// run runs the module once, until ctx ends.
func (m *module) run(ctx context.Context, job Job, limits Limits) (_ []byte, err error) {
	mem := newMemory(limits.MemoryBytes)
	if job.MemoryBytes > 0 {
		mem = newMemory(min(limits.MemoryBytes, job.MemoryBytes))
	}
	if need := uint64(m.pages) * pageBytes; need > mem.limit {
		return nil, fmt.Errorf("%w: the module starts with %d bytes, it may have %d", errMemory, need, mem.limit)
	}
	most := limits.OutputBytes
	if job.OutputBytes > 0 {
		most = min(most, job.OutputBytes)
	}
	ctx, cancel := context.WithCancelCause(experimental.WithMemoryAllocator(ctx, mem))
	defer cancel(nil)
	x := &execution{
		module: m,
		memory: mem,
		stdout: &output{limit: most, stop: cancel},
		stderr: &complaint{},
	}
	defer func() { err = errors.Join(err, mem.release()) }()
	return x.run(ctx, job)
}
