package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/libp2p/go-libp2p/gologshim"
	"github.com/spf13/cobra"

	"github.com/worldcompute/wce2e/node"
)

func newNodeCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "node",
		Short: "the donor daemon: run one, ask it, give it work",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError(fmt.Errorf("unknown command %q", "node "+args[0]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newNodeRunCmd(), newNodeIDCmd(), newNodeStatusCmd(), newNodeDialCmd(), newNodeDispatchCmd(), newNodeNetcheckCmd())
	return cmd
}

// dirFlag adds --dir, the home of one node.
func dirFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "dir", defaultNodeDir(), "the node's directory: identity, events, socket")
}

// defaultNodeDir is below the user's state directory (XDG_STATE_HOME); empty
// when the user has no home.
func defaultNodeDir() string {
	state := os.Getenv("XDG_STATE_HOME")
	if state == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "wce2e", "node")
}

// nodeLog is a node's log. libp2p's own warnings go there too, unless
// GOLOG_LOG_LEVEL says otherwise.
func nodeLog(w io.Writer, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, usageError(fmt.Errorf("--log-level %q: is none of debug, info, warn, error", level))
	}
	if os.Getenv("GOLOG_LOG_LEVEL") == "" {
		gologshim.SetDefaultHandler(slog.NewTextHandler(w, &slog.HandlerOptions{Level: max(l, slog.LevelWarn)}))
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})), nil
}

// notRunning gives the remedy where no node answers.
func notRunning(err error, dir string) error {
	if errors.Is(err, node.ErrNotRunning) {
		return &exitError{code: exitSuite, err: err, hint: "start one: wce2e node run --dir " + dir}
	}
	return err
}

// oneLine makes an error fit for a table.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// needFlags is a usage error when one of these flags was not given.
func needFlags(cmd *cobra.Command, names ...string) error {
	for _, name := range names {
		if !cmd.Flags().Changed(name) {
			return &exitError{code: exitUsage, err: fmt.Errorf("--%s is missing", name), hint: "usage: " + cmd.UseLine()}
		}
	}
	return nil
}
