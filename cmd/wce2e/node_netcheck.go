package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/worldcompute/wce2e/node"
	"github.com/worldcompute/wce2e/node/netcheck"
	"github.com/worldcompute/wce2e/node/probe"
	"github.com/worldcompute/wce2e/node/traversal"
	"github.com/worldcompute/wce2e/node/wire"
)

func newNodeNetcheckCmd() *cobra.Command {
	var dir, level string
	var targets []string
	var quick, asJSON bool
	var within time.Duration
	cmd := &cobra.Command{
		Use:   "netcheck",
		Short: "what this network does to each address of the bootstrap list, layer by layer",
		Long: `Try every address of the bootstrap list, layer by layer, by every way there is,
with an identity and sockets made for it. A node need not run; of one that does, the
list is taken. One line is printed for each thing that was tried, when it has ended:
when it began and how long it took, in seconds; the connection or question that it is a
step of; what came of it; what it was, and with whom. Then comes what it all means.

Public DNS servers, STUN servers and the pages by which systems look for captive
portals are asked as well. Without --quick it takes about a minute and a half:
connections are left silent to see whether they last.

From one place it cannot be told whether a network blocks an address or the address is
dead: what fails is called unexplained, never blocked. "wce2e diagnose" tries the same
from a second machine.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := nodeLog(cmd.ErrOrStderr(), level)
			if err != nil {
				return err
			}
			cfg := probe.Config{Quick: quick, Software: "wce2e/" + version, Log: log}
			out, lines := cmd.OutOrStdout(), cmd.OutOrStdout()
			if asJSON {
				lines = cmd.ErrOrStderr()
			}
			cfg.Each = func(r netcheck.Record) { printRecord(lines, r) }
			cfg.Targets = expandBuiltin(targets)
			status, running := ask(cmd.Context(), dir)
			if running && len(targets) == 0 {
				cfg.Targets = status.Bootstrap
			}
			if within < 0 {
				return usageError(fmt.Errorf("--within %v: looking takes time", within))
			}
			ctx, cancel := context.WithCancel(cmd.Context())
			if within > 0 {
				ctx, cancel = context.WithTimeout(ctx, within)
			}
			defer cancel()
			report, err := probe.Run(ctx, cfg)
			if err != nil && report.Version == 0 {
				return usageError(err)
			}
			if errors.Is(err, context.DeadlineExceeded) && cmd.Context().Err() == nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "netcheck: cut short after %v; what has not ended by then is aborted, and says nothing\n", within)
				err = nil
			}
			if running {
				report.Daemon = daemonOf(status, time.Now())
			}
			explained := networkExplained{Report: report, Diagnosis: netcheck.Diagnose(report)}
			if asJSON {
				return errors.Join(err, printJSON(out, explained))
			}
			return errors.Join(err, printExplained(out, explained))
		},
	}
	dirFlag(cmd, &dir)
	f := cmd.Flags()
	f.StringArrayVar(&targets, "target", nil, "multiaddr to try, or "+node.Builtin+"; repeat for more (default: the running node's list, or the built-in one)")
	f.BoolVar(&quick, "quick", false, "wait less, and leave silences out")
	f.DurationVar(&within, "within", 0, "tell after this time what is known by then (default: when all is known)")
	f.BoolVar(&asJSON, "json", false, "print the report and the diagnosis as JSON at the end; the lines go to stderr")
	f.StringVar(&level, "log-level", "error", "debug, info, warn or error")
	return cmd
}

// expandBuiltin puts the built-in list where a list names it.
func expandBuiltin(list []string) []string {
	if i := slices.Index(list, node.Builtin); i >= 0 {
		return slices.Concat(list[:i], traversal.BuiltinBootstrap, expandBuiltin(list[i+1:]))
	}
	return list
}

// ask asks the node that lives in dir, if there is one and it runs.
func ask(ctx context.Context, dir string) (wire.Status, bool) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	status, err := node.FetchStatus(ctx, dir)
	return status, err == nil
}

// daemonOf is what a running node says of itself.
func daemonOf(s wire.Status, now time.Time) *netcheck.Daemon {
	d := &netcheck.Daemon{Started: true, Lived: now.Sub(s.StartedAt).Round(time.Millisecond).Seconds(),
		Dials: s.Dials.Started, Joined: len(s.CircuitAddrs) > 0}
	if s.Way != nil {
		d.Way = s.Way.Transport
	}
	for _, a := range s.Tried {
		if netcheck.Failure(a.Failure) == netcheck.SecurityTimeout {
			d.Stalled++
		}
	}
	return d
}

// printRecord writes one line: when it began and how long it took, what it was, with
// whom, and what came of it.
func printRecord(w io.Writer, r netcheck.Record) {
	what := strings.TrimSpace(r.Transport + " " + string(r.Operation))
	if r.Proto != "" && r.Proto != r.Transport {
		what += " " + r.Proto
	}
	outcome := "ok"
	if r.Failure != nil {
		outcome = string(*r.Failure)
	}
	line := fmt.Sprintf("%7.3f %7.3f  #%-3d %s  %s  %s  %s", r.T0, r.T, r.Transaction, outcome, what, r.Addr, facts(r))
	fmt.Fprintln(w, strings.TrimRight(line, " "))
}

// facts are those of a record that a person looks for, and the raw error.
func facts(r netcheck.Record) string {
	f := r.Facts
	var out []string
	text := func(key, value string) {
		if value != "" {
			out = append(out, key+"="+value)
		}
	}
	number := func(key string, value int64) {
		if value != 0 {
			out = append(out, fmt.Sprintf("%s=%d", key, value))
		}
	}
	text("question", f.Question)
	text("answers", strings.Join(f.Answers, " "))
	number("status", int64(f.Status))
	text("location", f.Location)
	text("peer", f.Peer)
	text("agent", f.Agent)
	text("observed", f.Observed)
	if f.Trusted != nil && len(f.Chain) > 0 {
		out = append(out, fmt.Sprintf("trusted=%t issuer=%q", *f.Trusted, f.Chain[0].Issuer))
	}
	if f.Stated != nil {
		text("stated", strconv.FormatBool(*f.Stated))
	}
	number("bytes", int64(f.Bytes))
	number("segment", int64(f.Segment))
	if f.Silence != 0 {
		out = append(out, fmt.Sprintf("silence=%.0fs arrived=%d", f.Silence, f.Arrived))
	}
	number("tried", int64(f.Tried))
	number("stood", int64(f.Stood))
	if f.Login {
		text("login", "asked")
	}
	if f.Offset != nil {
		out = append(out, fmt.Sprintf("offset=%.1fs", *f.Offset))
	}
	text("firstbyte", f.FirstByte)
	number("sent", r.Sent)
	number("received", r.Received)
	text("errno", r.Errno)
	text("icmp", r.ICMP)
	if r.Error != "" {
		out = append(out, fmt.Sprintf("error=%q", oneLine(r.Error)))
	}
	return strings.Join(out, " ")
}
