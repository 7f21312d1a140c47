package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/worldcompute/wce2e/node"
	"github.com/worldcompute/wce2e/node/wire"
)

// dispatchFlags are those of `node dispatch`.
type dispatchFlags struct {
	dir, to, wasm, path, input, out, task string
	timeout                               time.Duration
	asJSON                                bool
}

func newNodeDispatchCmd() *cobra.Command {
	var d dispatchFlags
	cmd := &cobra.Command{
		Use:   "dispatch --to MULTIADDR --wasm FILE",
		Short: "send a WebAssembly module to a donor and wait for its answer",
		Long: `Have the running node send a module to a donor, and wait for the answer, which
goes to standard output or to --out. Exit 0 when the task succeeded, 1 when not.

Relays of other people limit what passes through one circuit. A task that does
not fit waits up to 30s for a direct connection; with --path relayed it is refused
at once. --path direct takes an address through a relay, too, and waits likewise.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return d.run(cmd) },
	}
	dirFlag(cmd, &d.dir)
	f := cmd.Flags()
	f.StringVar(&d.to, "to", "", "the donor's address, with /p2p/ and its peer ID at the end")
	f.StringVar(&d.wasm, "wasm", "", "file with the module")
	f.StringVar(&d.path, "path", string(wire.AnyPath), "relayed, direct or any")
	f.StringVar(&d.input, "input", "", "file with the module's standard input, - for ours (default: no input)")
	f.StringVar(&d.out, "out", "", "file for the answer")
	f.StringVar(&d.task, "task-id", "", "name of the task (default: a random one)")
	f.DurationVar(&d.timeout, "timeout", time.Minute, "for all of it, connecting included; the module gets what is left, less 2s for the answer to come back, and at least 1s")
	f.BoolVar(&d.asJSON, "json", false, "print what happened as JSON")
	return cmd
}

func (d *dispatchFlags) run(cmd *cobra.Command) error {
	if err := needFlags(cmd, "to", "wasm"); err != nil {
		return err
	}
	switch wire.Path(d.path) {
	case wire.Relayed, wire.Direct, wire.AnyPath:
	default:
		return usageError(fmt.Errorf("--path %q: is none of relayed, direct, any", d.path))
	}
	if d.timeout < time.Millisecond {
		return usageError(fmt.Errorf("--timeout %s: is less than a millisecond", d.timeout))
	}
	module, err := readLimited(d.wasm, nil)
	if err != nil {
		return usageError(fmt.Errorf("--wasm: %w", err))
	}
	var input []byte
	if d.input != "" {
		if input, err = readLimited(d.input, cmd.InOrStdin()); err != nil {
			return usageError(fmt.Errorf("--input: %w", err))
		}
	}
	// The node keeps to the timeout; what comes on top is for it to say so.
	ctx, cancel := context.WithTimeout(cmd.Context(), d.timeout+statusTimeout)
	defer cancel()
	result, err := node.Dispatch(ctx, d.dir, wire.DispatchRequest{
		To: d.to, Path: wire.Path(d.path), TaskID: d.task,
		Name:   strings.TrimSuffix(filepath.Base(d.wasm), ".wasm"),
		Module: module, Input: input, TimeoutMS: d.timeout.Milliseconds(),
	})
	if errors.Is(err, node.ErrBadRequest) {
		return usageError(err)
	}
	if err != nil {
		return notRunning(err, d.dir)
	}
	return d.report(cmd, result)
}

// report writes the answer and what happened, and fails when the task did.
func (d *dispatchFlags) report(cmd *cobra.Command, result wire.DispatchResult) error {
	succeeded := result.Status == string(wire.Succeeded)
	if d.out != "" && succeeded {
		if err := os.WriteFile(d.out, result.Output, 0o600); err != nil {
			return fmt.Errorf("--out: %w", err)
		}
	}
	output := result.Output
	if d.out != "" {
		result.Output = nil
	}
	if d.asJSON {
		if err := printJSON(cmd.OutOrStdout(), result); err != nil {
			return err
		}
	} else {
		printDispatch(cmd.ErrOrStderr(), result)
		if d.out == "" {
			if _, err := cmd.OutOrStdout().Write(output); err != nil {
				return err
			}
		}
	}
	if !succeeded {
		return &exitError{code: exitFail}
	}
	return nil
}

func printDispatch(w io.Writer, r wire.DispatchResult) {
	status := r.Status
	if status == "" {
		status = "not run"
	}
	fmt.Fprintf(w, "%s: task %s on %s, %s, round trip %.1f ms, %.0f ms of it on the donor\n",
		status, r.TaskID, r.Peer, r.Path, r.RoundTripMS, r.DurationMS)
	if r.Error != "" {
		fmt.Fprintf(w, "%s\n", oneLine(r.Error))
	}
}

// readLimited reads a file that has to fit a request; - is stdin, where there
// is one to read.
func readLimited(name string, stdin io.Reader) ([]byte, error) {
	in := stdin
	if name != "-" || stdin == nil {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, wire.MaxLargeRequest+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) > wire.MaxLargeRequest {
		return nil, fmt.Errorf("%s: more than the %d bytes that a request can have", name, wire.MaxLargeRequest)
	}
	if b == nil {
		b = []byte{}
	}
	return b, nil
}
