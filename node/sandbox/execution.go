package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// execution is one instance of a module, from its start to its answer.
type execution struct {
	module *module
	memory *memory
	stdout *output
	stderr *complaint
}

func (x *execution) run(ctx context.Context, job Job) ([]byte, error) {
	instance, err := x.module.runtime.InstantiateModule(ctx, x.module.compiled, x.config(job))
	if err != nil {
		return x.stdout.Bytes(), x.verdict(ctx, err)
	}
	defer instance.Close(context.WithoutCancel(ctx)) // all of it is in this process: there is nothing that can fail
	if x.module.abi2() {
		_, _, err := x.call(ctx, instance, "_start", false)
		return x.stdout.Bytes(), err
	}
	return x.runABI1(ctx, instance)
}

func (x *execution) config(job Job) wazero.ModuleConfig {
	config := wazero.NewModuleConfig().
		WithName(""). // nameless instances of one module can run side by side
		WithStartFunctions().
		WithArgs(job.Args...).
		WithStdin(bytes.NewReader(job.Stdin)).
		WithStdout(x.stdout).
		WithStderr(x.stderr)
	return deterministic(config, x.module.key, job)
}

func (x *execution) runABI1(ctx context.Context, instance api.Module) ([]byte, error) {
	if _, _, err := x.call(ctx, instance, "_start", true); err != nil {
		return nil, err
	}
	answer, ok, err := x.call(ctx, instance, "output_len", true, api.ValueTypeI32)
	if err != nil || !ok {
		return nil, err
	}
	length := uint32(answer)
	mem := instance.ExportedMemory("memory")
	if mem == nil {
		return nil, fmt.Errorf("%w: it exports output_len, but no memory", errModule)
	}
	if uint64(length) > uint64(x.stdout.limit) && int32(length) >= 0 {
		return nil, fmt.Errorf("%w: output_len is %d, at most %d bytes", errOutput, length, x.stdout.limit)
	}
	view, ok := mem.Read(0, length)
	if !ok {
		return nil, fmt.Errorf("%w: output_len is %d, memory has %d bytes", errOutput, int32(length), mem.Size())
	}
	return bytes.Clone(view), nil // the memory ends with the instance
}

// call calls an exported function without parameters. Where it is optional and
// missing, ok is false.
func (x *execution) call(ctx context.Context, instance api.Module, name string, optional bool, results ...api.ValueType) (value uint64, ok bool, err error) {
	def, ok := instance.ExportedFunctionDefinitions()[name]
	if !ok && optional {
		return 0, false, nil
	}
	if !ok {
		return 0, false, fmt.Errorf("%w: it exports no function %s", errModule, name)
	}
	if len(def.ParamTypes()) > 0 || !bytes.Equal(def.ResultTypes(), results) {
		return 0, false, fmt.Errorf("%w: %s takes or gives the wrong types", errModule, name)
	}
	values, err := instance.ExportedFunction(name).Call(ctx)
	if err = x.verdict(ctx, err); err != nil || len(values) == 0 {
		return 0, true, err
	}
	return values[0], true, nil
}

// verdict tells why the module ended, in the order of what caused what: a limit
// makes a trap, not the other way round.
func (x *execution) verdict(ctx context.Context, err error) error {
	if x.stdout.err != nil {
		return x.stdout.err
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	code, exited := exitCode(err)
	switch {
	case err == nil, exited && code == 0:
		return nil
	case x.memory.err != nil:
		return fmt.Errorf("%w of the donor: %w", errMemory, x.memory.err)
	case x.memory.refused:
		return fmt.Errorf("%w: the module asked for more than %d bytes%w", errMemory, x.memory.limit, x.how(err))
	case exited:
		return fmt.Errorf("%w %d%s", errExit, code, x.stderr.suffix())
	default:
		return fmt.Errorf("%w: %s%s", errTrap, trapWord(err), x.stderr.suffix())
	}
}

// how adds what became of a module whose wish was refused.
func (x *execution) how(err error) error {
	if code, exited := exitCode(err); exited {
		return fmt.Errorf(", then exit code %d%s", code, x.stderr.suffix())
	}
	return errors.New(", then " + trapWord(err) + x.stderr.suffix())
}
