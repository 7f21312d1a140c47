package main

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/worldcompute/wce2e/e2e/remote/onhost"
)

// newHostCmd is what the suite calls on a machine, over SSH. Answers are one
// line of JSON on stdout; talk goes to stderr.
func newHostCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:    "host",
		Short:  "what the suite calls on a machine, over SSH; every answer is JSON",
		Hidden: true,
		Args:   args(cobra.NoArgs),
		RunE:   func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newHostStartCmd(), newHostSuperviseCmd(), newHostStopCmd(), newHostKillCmd(), newHostLoginCmd(),
		newHostFactsCmd(), newHostClockCmd(), newHostLeftoversCmd(), newHostHashCmd(), newHostCleanCmd())
	return cmd
}

// answer prints the JSON that the suite reads.
func answer(cmd *cobra.Command, v any, err error) error {
	if err != nil {
		return err
	}
	return json.NewEncoder(cmd.OutOrStdout()).Encode(v)
}

// nodeDir adds the flag that most of these commands have, and must have.
func nodeDir(cmd *cobra.Command, dir *string) *cobra.Command {
	cmd.Flags().StringVar(dir, "dir", "", "the node's folder")
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error { return needFlags(cmd, "dir") }
	return cmd
}

func newHostStartCmd() *cobra.Command {
	var cfg onhost.StartConfig
	cmd := &cobra.Command{
		Use:   "start --dir D [--lease 60s] -- ARG...",
		Short: "run this binary with ARG... below a supervisor that outlives the login; says the PIDs once it runs",
		Args:  args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			cfg.Args = a
			started, err := onhost.Start(cmd.Context(), cfg)
			return answer(cmd, started, err)
		},
	}
	cmd.Flags().DurationVar(&cfg.Lease, "lease", onhost.DefaultLease, "end the node when D/lease has not changed for this long")
	return nodeDir(cmd, &cfg.Dir)
}

func newHostSuperviseCmd() *cobra.Command {
	var dir string
	var lease time.Duration
	cmd := &cobra.Command{
		Use:   "supervise --dir D --lease 60s -- ARG...",
		Short: "the supervisor that start starts; not to be called by hand",
		Args:  args(cobra.MinimumNArgs(1)),
		RunE: func(_ *cobra.Command, a []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			log := slog.New(slog.NewTextHandler(os.Stderr, nil))
			return onhost.RunSupervisor(dir, lease, append([]string{self}, a...), log)
		},
	}
	cmd.Flags().DurationVar(&lease, "lease", onhost.DefaultLease, "end the node when D/lease has not changed for this long")
	return nodeDir(cmd, &dir)
}

func newHostStopCmd() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "stop --dir D",
		Short: "end the node of D and say how it ended, also when it had ended before",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ended, err := onhost.Stop(cmd.Context(), dir)
			return answer(cmd, ended, err)
		},
	}
	return nodeDir(cmd, &dir)
}

func newHostKillCmd() *cobra.Command {
	var dir, signal string
	cmd := &cobra.Command{
		Use:   "kill --dir D --signal KILL",
		Short: "send a signal to the node of D: a fault on purpose",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := onhost.Signal(dir, signal)
			return answer(cmd, map[string]string{"dir": dir, "signal": signal}, err)
		},
	}
	cmd.Flags().StringVar(&signal, "signal", "KILL", "the signal's name")
	return nodeDir(cmd, &dir)
}

func newHostLoginCmd() *cobra.Command {
	var portal onhost.Portal
	cmd := &cobra.Command{
		Use:   "login",
		Short: "log in at the captive portal in front of this machine, if a press of its button will do",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			in, err := portal.LogIn(cmd.Context())
			return answer(cmd, in, err)
		},
	}
	cmd.Flags().StringVar(&portal.Check, "check", "", "the page that shows whether there is a portal: 204 says no (default: Android's)")
	return cmd
}

func newHostFactsCmd() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "facts [--dir D]",
		Short: "say what this machine is like; the disk is the one that D is on",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			facts, err := onhost.Facts(cmd.Context(), dir)
			return answer(cmd, facts, err)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", ".", "where a node's files go; need not be there")
	return cmd
}

func newHostClockCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "clock",
		Short: "say what time it is here, to the nanosecond",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return answer(cmd, time.Now().UTC(), nil)
		},
	}
}

func newHostLeftoversCmd() *cobra.Command {
	var base string
	cmd := &cobra.Command{
		Use:   "leftovers [--dir BASE]",
		Short: "list processes of a binary below BASE, their sockets, and the files below BASE",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			left, err := onhost.Leftovers(cmd.Context(), base)
			return answer(cmd, left, err)
		},
	}
	cmd.Flags().StringVar(&base, "dir", baseDir(), "the folder of all of ours")
	return cmd
}

func newHostHashCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "hash FILE",
		Short: "say the SHA-256 and the size of a file",
		Args:  args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			file, err := onhost.Hash(a[0])
			return answer(cmd, file, err)
		},
	}
}

func newHostCleanCmd() *cobra.Command {
	var base, run string
	cmd := &cobra.Command{
		Use:   "clean --dir BASE --run ID | clean --dir BASE/runs/ID",
		Short: "kill what still runs of one run and remove its folder; nothing else",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir := base
			if run != "" {
				dir = onhost.RunDir(base, run)
			} else {
				base = filepath.Dir(filepath.Dir(base))
			}
			cleaned, err := onhost.Clean(cmd.Context(), base, dir)
			return answer(cmd, cleaned, err)
		},
	}
	cmd.Flags().StringVar(&run, "run", "", "the run's ID; left out: --dir is the run's folder")
	return nodeDir(cmd, &base)
}

// baseDir is the folder of all of ours on a host.
func baseDir() string {
	home, err := os.UserHomeDir()
	if err != nil {
		return onhost.BaseDir // no home: where we stand
	}
	return filepath.Join(home, onhost.BaseDir)
}
