// Command wce2e proves, on real machines over SSH, that a World Compute donor
// joins the mesh from behind a firewall and runs jobs for others. The same
// binary is the donor, the relay, the suite and the lab.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/worldcompute/wce2e/e2e/lab"
)

// Exit codes. They are fixed: job engines depend on them.
const (
	exitPass         = 0
	exitFail         = 1
	exitInconclusive = 2
	exitUsage        = 64 // sysexits.h EX_USAGE: bad flags or a bad inventory
	exitSuite        = 70 // sysexits.h EX_SOFTWARE: the suite itself failed
)

// exitError carries the exit code, and a hint for a person, up to main.
type exitError struct {
	code int
	err  error  // nil: everything has been said
	hint string // may be empty
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}
func (e *exitError) Unwrap() error { return e.err }

func usageError(err error) error { return &exitError{code: exitUsage, err: err} }

func main() {
	lab.Reexec() // the lab's own processes are this program again
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	// The second signal kills: NotifyContext gives the signals back once ctx is done.
	context.AfterFunc(ctx, stop)
	return exitCode(newRoot().ExecuteContext(ctx))
}

// exitCode tells a person what went wrong, and gives the code to end with.
func exitCode(err error) int {
	if err == nil {
		return exitPass
	}
	e := &exitError{code: exitSuite, err: err}
	errors.As(err, &e)
	if e.err != nil {
		complain(os.Stderr, err, e.hint)
	}
	return e.code
}

// complain prints each line of an error, and a hint: the one given, else the
// error's own.
func complain(w io.Writer, err error, hint string) {
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(w, "wce2e: %s\n", printable(strings.TrimRight(line, "\n")))
	}
	if h := (interface{ Hint() string })(nil); hint == "" && errors.As(err, &h) {
		hint = h.Hint()
	}
	if hint != "" {
		fmt.Fprintf(w, "wce2e: hint: %s\n", printable(hint))
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "wce2e",
		Short:         "prove that a donor gets out from behind its firewall",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError(fmt.Errorf("unknown command %q", args[0]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError(err) })
	root.AddCommand(newVersionCmd())
	root.AddCommand(newRunCmd())
	root.AddCommand(newDiagnoseCmd())
	root.AddCommand(newMatrixCmd())
	root.AddCommand(newNodeCmd())
	root.AddCommand(newLabCmd())
	root.AddCommand(newInventoryCmd())
	root.AddCommand(newCheckCmd())
	root.AddCommand(newReportCmd())
	root.AddCommand(newHostCmd())
	root.AddCommand(newDistCmd())
	return root
}

// args makes cobra's own complaint about arguments a usage error.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		if err := check(cmd, a); err != nil {
			return &exitError{code: exitUsage, err: err, hint: "usage: " + cmd.UseLine()}
		}
		return nil
	}
}
