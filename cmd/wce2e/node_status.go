package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/worldcompute/wce2e/node"
	"github.com/worldcompute/wce2e/node/wire"
)

// statusTimeout bounds asking a daemon on the same machine.
const statusTimeout = 10 * time.Second

func newNodeStatusCmd() *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "how a running node is doing: addresses, relays, peers, jobs",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), statusTimeout)
			defer cancel()
			status, err := node.FetchStatus(ctx, dir)
			if err != nil {
				return notRunning(err, dir)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), status)
			}
			return printStatus(cmd.OutOrStdout(), status, time.Now())
		},
	}
	dirFlag(cmd, &dir)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// printStatus writes a status for a person.
func printStatus(w io.Writer, s wire.Status, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(key, format string, a ...any) { fmt.Fprintf(t, "%s\t%s\n", key, fmt.Sprintf(format, a...)) }
	rows := func(key string, values []string) {
		for _, v := range values {
			row(key, "%s", v)
			key = ""
		}
	}
	row("node", "%s, %s, %s %s, pid %d, up %s", s.Name, s.Role, "wce2e", s.Version, s.PID, age(now, s.StartedAt))
	row("peer ID", "%s", s.PeerID)
	row("reachable", "%s", s.Reachability)
	rows("listens on", s.ListenAddrs)
	for _, o := range s.Observed {
		row("seen as", "%s by %s", o.Addr, o.By)
	}
	if len(s.Relays) == 0 && s.Role == "donor" {
		row("relay", "none yet")
	}
	for _, r := range s.Relays {
		row("relay", "%s", r.PeerID)
		row("", "%s over %s, for %s, round trip %.1f ms, reserved for %s more",
			r.Addr, r.Transport, age(now, r.Since), r.RTTMS, age(r.Expires, now))
	}
	rows("circuit", s.CircuitAddrs)
	if r := s.Serving; r != nil {
		row("relaying", "for %s: %s", age(now, r.Since), r.Why)
		row("", "%d of %d reservations, %d circuits open, %d in all, %d bytes",
			r.Reservations, r.Limits.Reservations, r.CircuitsOpen, r.Circuits, r.Bytes)
		row("", "at most %d reservations from one address, %d circuits for each peer",
			r.Limits.ReservationsPerAddress, r.Limits.CircuitsPerPeer)
	}
	for _, h := range s.Reservations {
		row("reserved", "%s at %s, for %s more", h.PeerID, h.Remote, age(h.Expires, now))
	}
	for _, p := range s.Peers {
		row("peer", "%s %s %s %s, for %s", p.PeerID, p.Path, p.Direction, p.Remote, age(now, p.Since))
	}
	row("jobs", "%d running, %d succeeded, %d failed, %d refused", s.Jobs.Running, s.Jobs.Succeeded, s.Jobs.Failed, s.Jobs.Refused)
	row("dials", "%d started: %d ok, %d failed, %d aborted", s.Dials.Started, s.Dials.OK, s.Dials.Failed, s.Dials.Aborted)
	return t.Flush()
}

// age is the time from then to now, to the second.
func age(now, then time.Time) string {
	return strings.TrimSuffix(now.Sub(then).Round(time.Second).String(), "m0s")
}
