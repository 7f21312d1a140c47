package main

import (
	"errors"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/worldcompute/wce2e/node"
)

func newNodeRunCmd() *cobra.Command {
	cfg := node.Config{Version: version}
	var level string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "run a donor, or with --relay a relay, until it is interrupted",
		Long: `Run a donor in the foreground. It joins the mesh by the bootstrap list, holds a
reservation on a relay, and runs the jobs of those it allows.

With --relay it is a relay for donors behind firewalls: on 443 (WebSocket over
TLS), and on 4001 (TCP and QUIC).`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cfg.NoBootstrap && len(cfg.Bootstrap) > 0 {
				return usageError(errors.New("--bootstrap and --no-bootstrap contradict each other"))
			}
			if err := cfg.Check(); err != nil {
				return usageError(err)
			}
			out := newSteadyWriter(cmd.ErrOrStderr())
			defer out.Close()
			log, err := nodeLog(out, level)
			if err != nil {
				return err
			}
			cfg.Log = log
			return explainRun(node.Run(cmd.Context(), cfg))
		},
	}
	dirFlag(cmd, &cfg.Dir)
	f := cmd.Flags()
	f.StringArrayVar(&cfg.Bootstrap, "bootstrap", nil, "multiaddr of a relay or peer to join by, or builtin for the built-in list; repeat for more (default: builtin, for a relay none)")
	f.BoolVar(&cfg.NoBootstrap, "no-bootstrap", false, "join nobody, wait for others")
	f.BoolVar(&cfg.Relay, "relay", false, "be a relay for others")
	f.StringArrayVar(&cfg.Listen, "listen", nil, "multiaddr to listen on; repeat for more (default: TCP and QUIC on 4001, for a relay WebSocket over TLS on 443 too)")
	f.StringArrayVar(&cfg.Announce, "announce", nil, "IP address that this machine is reached at, where it is not on an interface")
	f.StringVar(&cfg.Name, "name", "", "name shown in status (default: the hostname)")
	f.StringArrayVar(&cfg.Allow, "allow", nil, "peer ID that may submit jobs, or any; repeat for more (default: nobody)")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return cmd
}

// explainRun adds a remedy to the errors that have one.
func explainRun(err error) error {
	var listen *node.ListenError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &listen) && errors.Is(err, syscall.EACCES):
		return &exitError{code: exitSuite, err: err, hint: "this port needs a privilege: " +
			"sudo sysctl net.ipv4.ip_unprivileged_port_start=443, or sudo setcap cap_net_bind_service=+ep on this binary, or run as root, or choose another port with --listen"}
	case errors.As(err, &listen) && errors.Is(err, syscall.EADDRINUSE):
		return &exitError{code: exitSuite, err: err, hint: "another program listens there: stop it, or choose another port with --listen"}
	case errors.Is(err, node.ErrLocked):
		return &exitError{code: exitSuite, err: err, hint: "give each node a directory of its own with --dir"}
	}
	return &exitError{code: exitSuite, err: err}
}
