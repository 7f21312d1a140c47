package sandbox

import (
	"context"
	"errors"
	"strings"

	"github.com/tetratelabs/wazero/sys"

	"github.com/worldcompute/wce2e/node/wire"
)

// The limits and mistakes that a submitter is told of, each a first word to
// recognise it by.
var (
	errBusy    = errors.New("busy")
	errModule  = errors.New("invalid module")
	errImports = errors.New("unknown imports")
	errMemory  = errors.New("memory limit")
	errOutput  = errors.New("output limit")
	errTrap    = errors.New("trap")
	errExit    = errors.New("exit code")
)

// result makes the outcome of an error.
func result(err error) Result {
	status := wire.TaskFailed
	switch {
	case errors.Is(err, errWalltime), errors.Is(err, context.DeadlineExceeded):
		status = wire.Timeout
	case errors.Is(err, errClosed), errors.Is(err, context.Canceled):
		status = wire.Preempted
	}
	return Result{Status: status, Err: err.Error()}
}

// trapWord is what happened in the module, in one line: wazero's error goes on
// with a stack trace of the module's functions.
func trapWord(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	for _, prefix := range []string{"wasm error: ", "module[] function[_start] failed: "} {
		line = strings.TrimPrefix(line, prefix)
	}
	return line
}

// exitCode is the code of a module that called proc_exit.
func exitCode(err error) (code uint32, ok bool) {
	var exit *sys.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), true
	}
	return 0, false
}
