package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/worldcompute/wce2e/e2e/lab"
)

func newLabPcapCmd() *cobra.Command {
	var which, file string
	var c lab.Capture
	cmd := &cobra.Command{
		Use:   "pcap LINK...",
		Short: "record the traffic of hosts and networks of a lab that stands",
		Long: `Record traffic as pcapng, until Ctrl-C. A LINK is a host; a network, of whose
router both sides are recorded, before and after address translation; or one of
those sides, NETWORK/lan or NETWORK/wan. Several links make one recording, on one
clock.`,
		Example:           "  wce2e lab pcap tensor02 | wireshark -k -i -\n  wce2e lab pcap tensor02 campus relay1 -w all.pcapng",
		Args:              args(cobra.MinimumNArgs(1)),
		ValidArgsFunction: completeLinks,
		RunE: func(cmd *cobra.Command, a []string) error {
			if c.Snaplen < 0 {
				return usageError(fmt.Errorf("--snaplen %d: a number of bytes, or 0 for all", c.Snaplen))
			}
			s, err := standingLab(which, a...)
			if err != nil {
				return err
			}
			c.Links = a
			return pcapTo(cmd, s, c, file)
		},
	}
	labFlag(cmd, &which)
	fl := cmd.Flags()
	fl.StringVarP(&file, "write", "w", "-", "the file to write; - means standard output")
	fl.IntVar(&c.Snaplen, "snaplen", 0, "how many bytes of each frame to keep (default: all)")
	return cmd
}

func pcapTo(cmd *cobra.Command, s lab.Standing, c lab.Capture, file string) (err error) {
	out := cmd.OutOrStdout()
	if file != "-" {
		f, ferr := os.OpenFile(file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) // it may hold secrets
		if ferr != nil {
			return fmt.Errorf("write the capture: %w", ferr)
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		out = f
	} else if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return &exitError{code: exitUsage, err: errors.New("a capture is nothing to look at on a terminal"),
			hint: "write it to a file with -w FILE, or pipe it: wce2e lab pcap " + strings.Join(c.Links, " ") + " | wireshark -k -i -"}
	}
	return s.Capture(cmd.Context(), c, out, func() {
		fmt.Fprintf(cmd.ErrOrStderr(), "capturing %s; Ctrl-C ends it\n", strings.Join(c.Links, ", "))
	})
}

// startPcap records links of a lab into a file, from now on until stop.
func startPcap(l *lab.Lab, links []string, path string) (stop func() error, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write the capture: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background()) // a run that is interrupted records its teardown, too
	started, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- l.Capture(ctx, lab.Capture{Links: links}, f, func() { close(started) }) }()
	stop = func() error {
		cancel()
		return errors.Join(<-ended, f.Close())
	}
	select {
	case <-started:
		return stop, nil
	case err := <-ended:
		cancel()
		return nil, errors.Join(usageError(err), f.Close(), os.Remove(path))
	}
}
