package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/worldcompute/wce2e/e2e/lab"
	"github.com/worldcompute/wce2e/e2e/remote"
)

func newLabExecCmd() *cobra.Command {
	var which, inventory string
	cmd := &cobra.Command{
		Use:   "exec HOST [--] COMMAND [ARGUMENT...]",
		Short: "run a command on a host of a lab that stands",
		Long: `Run a command on a host of a lab that stands ("wce2e lab up" in another
terminal, or a "wce2e run"), over SSH, with this command's standard input and
output, and end with its exit code. With --in, a lab is brought up for the
command alone.`,
		Example:           "  wce2e lab exec tensor02 -- ip route\n  wce2e lab exec --in inventory/lab.yaml tensor02 -- getent hosts relay1.mesh.wce2e.net",
		Args:              args(cobra.MinimumNArgs(2)),
		ValidArgsFunction: completeHosts,
		RunE: func(cmd *cobra.Command, a []string) error {
			host, argv := a[0], a[1:]
			if argv[0] == "--" {
				argv = argv[1:]
			}
			if len(argv) == 0 {
				return usageError(errors.New("no command was given"))
			}
			if inventory != "" {
				return execIn(cmd, inventory, host, argv)
			}
			s, err := standingLab(which, host)
			if err != nil {
				return err
			}
			return labExec(cmd, s.SSHConfig, s.Hosts, host, argv)
		},
	}
	cmd.Flags().SetInterspersed(false) // what stands behind the host is the command's own, -- or not
	labFlag(cmd, &which)
	cmd.Flags().StringVar(&inventory, "in", "", "an inventory, whose lab is brought up for this command alone")
	return cmd
}

// execIn brings a lab up for one command.
func execIn(cmd *cobra.Command, file, host string, argv []string) (err error) {
	inv, err := labInventory(file)
	if err != nil {
		return err
	}
	l, err := raiseLab(cmd.Context(), inv, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return err
	}
	defer func() {
		if e := l.Close(); e != nil {
			err = errors.Join(err, e)
		}
	}()
	return labExec(cmd, l.SSHConfig, l.Hosts, host, argv)
}

func labExec(cmd *cobra.Command, config string, hosts []lab.Host, host string, argv []string) error {
	if err := loginHost(hosts, host); err != nil {
		return err
	}
	return attach(cmd.Context(), config, host, remote.Command{Argv: argv, Stdin: cmd.InOrStdin(), Stdout: cmd.OutOrStdout(), Stderr: cmd.ErrOrStderr()})
}

// attach runs a command over SSH, and makes its end this command's.
func attach(ctx context.Context, config, host string, c remote.Command) error {
	res, err := remote.Attach(ctx, host, remote.Config{SSHConfig: config}, c)
	switch {
	case err != nil && ctx.Err() != nil:
		return &exitError{code: exitOfSignal("INT")} // Ctrl-C needs no explanation
	case err != nil:
		return err
	case res.Signal != "":
		return &exitError{code: exitOfSignal(res.Signal)}
	case res.Code != 0:
		return &exitError{code: res.Code}
	}
	return nil
}

// exitOfSignal is how shells tell that a signal ended a command.
func exitOfSignal(name string) int { return 128 + int(unix.SignalNum("SIG"+name)) }

func newLabShellCmd() *cobra.Command {
	var which string
	cmd := &cobra.Command{
		Use:   "shell HOST",
		Short: "log in to a host of a lab that stands",
		Long: `Log in to a host of a lab that stands, with a terminal. Without a terminal, the
shell reads its commands from standard input.`,
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: completeHosts,
		RunE: func(cmd *cobra.Command, a []string) error {
			s, err := standingLab(which, a[0])
			if err != nil {
				return err
			}
			if err := loginHost(s.Hosts, a[0]); err != nil {
				return err
			}
			c := remote.Command{Stdin: cmd.InOrStdin(), Stdout: cmd.OutOrStdout(), Stderr: cmd.ErrOrStderr()}
			return onTerminal(c.Stdin, c.Stdout, func(t *remote.Terminal) error {
				c.Terminal = t
				return attach(cmd.Context(), s.SSHConfig, a[0], c)
			})
		},
	}
	labFlag(cmd, &which)
	return cmd
}

// onTerminal hands the terminal that in and out are over to do, raw, and takes it
// back; nil if they are none.
func onTerminal(in io.Reader, out io.Writer, do func(*remote.Terminal) error) error {
	keyboard, ok := terminalOf(in)
	screen, too := terminalOf(out)
	if !ok || !too {
		return do(nil)
	}
	width, height, err := term.GetSize(screen)
	if err != nil {
		return fmt.Errorf("ask for the terminal's size: %w", err)
	}
	before, err := term.MakeRaw(keyboard)
	if err != nil {
		return fmt.Errorf("make the terminal raw: %w", err)
	}
	defer func() { _ = term.Restore(keyboard, before) }() // one that has gone needs nothing back
	sizes, stop := resizes(screen)
	defer stop()
	return do(&remote.Terminal{Kind: os.Getenv("TERM"), Size: remote.Size{Width: width, Height: height}, Resized: sizes})
}

func terminalOf(stream any) (fd int, ok bool) {
	f, ok := stream.(*os.File)
	if !ok {
		return 0, false
	}
	return int(f.Fd()), term.IsTerminal(int(f.Fd()))
}

// resizes tells of a terminal's new sizes until stop.
func resizes(screen int) (sizes <-chan remote.Size, stop func()) {
	changed, told, done := make(chan os.Signal, 1), make(chan remote.Size), make(chan struct{})
	signal.Notify(changed, unix.SIGWINCH)
	go func() {
		defer close(told)
		for {
			select {
			case <-changed:
			case <-done:
				return
			}
			width, height, err := term.GetSize(screen)
			if err != nil {
				continue
			}
			select {
			case told <- remote.Size{Width: width, Height: height}:
			case <-done:
				return
			}
		}
	}()
	return told, func() { signal.Stop(changed); close(done) }
}
