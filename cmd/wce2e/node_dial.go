package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/worldcompute/wce2e/node"
	"github.com/worldcompute/wce2e/node/wire"
)

func newNodeDialCmd() *cobra.Command {
	var to, level string
	var timeout time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "dial --to MULTIADDR",
		Short: "dial one address once, with a new identity and new sockets",
		Long: `Dial exactly one address, direct or through a relay, with an identity made for
this, then make a ping round trip on the new connection. No hole is punched.
Exit 0 when both worked, 1 when not.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needFlags(cmd, "to"); err != nil {
				return err
			}
			log, err := nodeLog(cmd.ErrOrStderr(), level)
			if err != nil {
				return err
			}
			result, err := node.DialOnce(cmd.Context(), node.DialConfig{To: to, Timeout: timeout, Version: version, Log: log})
			if err != nil {
				return usageError(err)
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), result)
			} else {
				err = printDial(cmd.OutOrStdout(), result)
			}
			if err == nil && result.Outcome != wire.OK {
				return &exitError{code: exitFail}
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&to, "to", "", "the address, with /p2p/ and the peer ID at its end")
	f.DurationVar(&timeout, "timeout", node.DefaultDialOnce, "for all of it")
	f.BoolVar(&asJSON, "json", false, "print as JSON")
	f.StringVar(&level, "log-level", "warn", "debug, info, warn or error")
	return cmd
}

func printDial(w io.Writer, r wire.DialResult) error {
	if r.Outcome != wire.OK {
		_, err := fmt.Fprintf(w, "%s after %.0f ms: %s: %s\n", r.Outcome, r.MS, r.Failure, oneLine(r.Err))
		return err
	}
	_, err := fmt.Fprintf(w, "ok, %s, connected in %.0f ms, ping %.1f ms\nlocal %s\nremote %s\nseen as %s\n",
		r.Path, r.MS, r.PingMS, r.Local, r.Remote, r.Observed)
	return err
}
