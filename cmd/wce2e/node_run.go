package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/worldcompute/wce2e/node"
)

func newNodeRunCmd() *cobra.Command {
	cfg := node.Config{Version: version}
	var level, acmeCA string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "run a donor, or with --relay a relay, until it is interrupted",
		Long: `Run a donor in the foreground. It joins the mesh by the bootstrap list, holds a
reservation on a relay, and runs the jobs of those it allows.

A donor that AutoNAT finds to be publicly reachable relays for others as well, in
a small way, beside its own work; --no-relay forbids it.

With --relay it is a relay for donors behind firewalls: on 443 (WebSocket over
TLS, and a status page for browsers), and on 4001 (TCP and QUIC). With --domain
it gets itself a certificate for that name, by ACME; using the flag accepts the
authority's terms of service. docs/running-a-relay.md tells more.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cfg.NoBootstrap && len(cfg.Bootstrap) > 0 {
				return usageError(errors.New("--bootstrap and --no-bootstrap contradict each other"))
			}
			if err := cfg.Check(); err != nil {
				return usageError(err)
			}
			var err error
			if cfg.ACME.Roots, err = readRoots(acmeCA); err != nil {
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
	f.StringArrayVar(&cfg.Bootstrap, "bootstrap", nil, "multiaddr of a relay or peer to join by, or builtin for the built-in list; repeat for more (default: builtin, for a relay World Compute's own part of it)")
	f.BoolVar(&cfg.NoBootstrap, "no-bootstrap", false, "join nobody, wait for others")
	f.BoolVar(&cfg.Relay, "relay", false, "be a relay for others")
	f.BoolVar(&cfg.NoRelay, "no-relay", false, "a donor: do not relay for others, not even when publicly reachable")
	f.StringVar(&cfg.ACME.Domain, "domain", "", "a relay's name, which leads to this machine: get a certificate for it (default: self-signed)")
	f.StringVar(&cfg.ACME.Directory, "acme-directory", "", "URL of the certificate authority's ACME directory (default: Let's Encrypt)")
	f.StringVar(&cfg.ACME.Email, "acme-email", "", "where the authority may write to (default: nowhere)")
	f.StringVar(&acmeCA, "acme-ca", "", "PEM file of the roots that the ACME directory's own certificate is checked against (default: the system's)")
	f.BoolVar(&cfg.HTTP, "http", false, "a relay: listen for plain WebSocket on 80 as well")
	f.Int64Var(&cfg.MaxCircuitRate, "max-circuit-rate", 0, "bytes a second that each relayed circuit may carry, both ways together (default: any)")
	f.StringVar(&cfg.Metrics, "metrics", "", "host:port to tell Prometheus at, as in 127.0.0.1:9091; anybody who reaches it can read it (default: nowhere)")
	f.StringArrayVar(&cfg.Listen, "listen", nil, "multiaddr to listen on; repeat for more (default: TCP and QUIC on 4001, for a relay WebTransport there and WebSocket over TLS on 443 too)")
	f.StringArrayVar(&cfg.Announce, "announce", nil, "IP address that this machine is reached at, where it is not on an interface")
	f.StringArrayVar(&cfg.Transports, "transport", nil, "speak only this: "+strings.Join(node.Transports, ", ")+"; repeat for more (default: all)")
	f.BoolVar(&cfg.RefuseInspected, "refuse-inspection", false, "leave relays to which the way leads through a TLS interceptor, even one that this machine trusts")
	f.StringVar(&cfg.Private, "private", "", "name of a private mesh, with relays of its own (default: the public one)")
	f.StringVar(&cfg.Name, "name", "", "name shown in status (default: the hostname)")
	f.StringArrayVar(&cfg.Allow, "allow", nil, "peer ID that may submit jobs, or any; repeat for more (default: nobody)")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return cmd
}

// readRoots reads certificates of authorities; nil without a file.
func readRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("read authorities %s: no certificate in PEM", path)
	}
	return pool, nil
}

// explainRun adds a remedy to the errors that have one.
func explainRun(err error) error {
	var listen *node.ListenError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &listen) && errors.Is(err, syscall.EACCES):
		return &exitError{code: exitSuite, err: err, hint: "this port needs a privilege: " +
			"sudo sysctl net.ipv4.ip_unprivileged_port_start=443, or sudo setcap cap_net_bind_service=+ep on this binary, or run as root, or choose another port with --listen; docs/running-a-relay.md has a systemd unit that needs none of these"}
	case errors.As(err, &listen) && errors.Is(err, syscall.EADDRINUSE):
		return &exitError{code: exitSuite, err: err, hint: "another program listens there: stop it, or choose another port with --listen"}
	case errors.Is(err, node.ErrLocked):
		return &exitError{code: exitSuite, err: err, hint: "give each node a directory of its own with --dir"}
	}
	return &exitError{code: exitSuite, err: err}
}
