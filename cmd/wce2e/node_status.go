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

// maxTriedShown bounds what a person is shown of what was tried.
const maxTriedShown = 8

// printStatus writes a status for a person: a screenful.
func printStatus(w io.Writer, s wire.Status, now time.Time) error {
	t := table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.row("node", "%s, %s, %s %s, pid %d, up %s", s.Name, s.Role, "wce2e", s.Version, s.PID, age(now, s.StartedAt))
	t.row("peer ID", "%s", s.PeerID)
	t.row("reachable", "%s; NAT mapping: UDP %s, TCP %s", s.Reachability, s.NAT.UDP, s.NAT.TCP)
	if s.Portal != "" {
		t.row("portal", "this network wants somebody to log in first: %s", s.Portal)
	}
	t.rows("listens on", s.ListenAddrs)
	for _, o := range s.Observed {
		t.row("seen as", "%s by %s", o.Addr, o.By)
	}
	t.relays(s, now)
	t.tried(s, now)
	if r := s.Serving; r != nil {
		t.row("relaying", "for %s: %s", age(now, r.Since), r.Why)
		t.row("", "%d of %d reservations, %d circuits open, %d in all, %d bytes",
			r.Reservations, r.Limits.Reservations, r.CircuitsOpen, r.Circuits, r.Bytes)
		t.row("", "at most %d reservations and %d circuits from one address, %d circuits for each peer",
			r.Limits.ReservationsPerAddress, r.Limits.CircuitsPerAddress, r.Limits.CircuitsPerPeer)
	}
	for _, h := range s.Reservations {
		t.row("reserved", "%s at %s, for %s more", h.PeerID, h.Remote, age(h.Expires, now))
	}
	for _, p := range s.Peers {
		t.row("peer", "%s %s %s %s, for %s", p.PeerID, p.Path, p.Direction, p.Remote, age(now, p.Since))
	}
	t.row("jobs", "%d running, %d succeeded, %d failed, %d refused", s.Jobs.Running, s.Jobs.Succeeded, s.Jobs.Failed, s.Jobs.Refused)
	t.row("dials", "%d started: %d ok, %d failed, %d aborted", s.Dials.Started, s.Dials.OK, s.Dials.Failed, s.Dials.Aborted)
	return t.Flush()
}

// table has a word and what it is about in every row.
type table struct{ *tabwriter.Writer }

func (t table) row(key, format string, a ...any) {
	fmt.Fprintf(t, "%s\t%s\n", key, fmt.Sprintf(format, a...))
}

func (t table) rows(key string, values []string) {
	for _, v := range values {
		t.row(key, "%s", v)
		key = ""
	}
}

// relays tells how the node got out, and what it holds.
func (t table) relays(s wire.Status, now time.Time) {
	if s.Way != nil {
		t.row("got out", "over %s%s in %.0f ms: %s", s.Way.Transport, through(s.Way.Route), s.Way.TookMS, s.Way.Why)
	}
	if len(s.Relays) == 0 && s.Role == "donor" {
		t.row("relay", "none yet")
	}
	for _, r := range s.Relays {
		t.row("relay", "%s", r.PeerID)
		t.row("", "%s over %s%s, for %s, round trip %.1f ms, reserved for %s more",
			r.Addr, r.Transport, through(r.Route), age(now, r.Since), r.RTTMS, age(r.Expires, now))
		if r.LimitBytes > 0 || r.LimitSeconds > 0 {
			t.row("", "a limited relay, for want of a better one: it cuts circuits after %d KiB or %s",
				r.LimitBytes>>10, time.Duration(r.LimitSeconds)*time.Second)
		}
		if r.Inspected != nil && *r.Inspected {
			t.row("", "inspected: a TLS interceptor sits on the path; it sees how much is sent, and not what")
		}
	}
	t.rows("circuit", s.CircuitAddrs)
}

// tried tells of what did not work, the latest first.
func (t table) tried(s wire.Status, now time.Time) {
	key, shown := "tried", 0
	for _, a := range s.Tried {
		if a.Outcome != wire.Failed || shown == maxTriedShown {
			continue
		}
		t.row(key, "%s: %s after %.0f ms, %s ago", a.Addr, a.Failure, a.MS, age(now, a.At))
		key, shown = "", shown+1
	}
}

func through(route string) string {
	if route == "" {
		return ""
	}
	return " through " + route
}

// age is the time from then to now, to the second.
func age(now, then time.Time) string {
	s := now.Sub(then).Round(time.Second).String()
	if rest, whole := strings.CutSuffix(s, "m0s"); whole {
		s = strings.TrimSuffix(rest+"m", "h0m")
		if !strings.HasSuffix(s, "m") {
			s += "h"
		}
	}
	return s
}
