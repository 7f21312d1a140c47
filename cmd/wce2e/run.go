package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/worldcompute/wce2e/e2e/release"
	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/inventory"
)

type runFlags struct {
	hold       time.Duration
	keep, json bool
	out, ssh   string
	commit     bool     // the bundle is to be committed
	pcap       []string // links of the lab to record
}

func newRunCmd() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run INVENTORY",
		Short: "the acceptance run: deploy, join, hold, send jobs, judge, keep the evidence",
		Long: `Run puts nodes on the hosts of INVENTORY, has the donor join through a relay,
sends it jobs through that relay, holds the connection, and leaves a bundle of
evidence. It exits 0 when every claim passes, 1 when one fails, 2 when one is
inconclusive, 64 for a bad inventory (no host is touched), 70 when the suite
itself fails, say because a host cannot be reached.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	fl := cmd.Flags()
	fl.DurationVar(&f.hold, "hold", 0, "how long to hold the relay connection (default: the inventory's run.hold)")
	fl.BoolVar(&f.keep, "keep", false, "leave the nodes' files on the hosts")
	fl.BoolVar(&f.json, "json", false, "print the results as JSON")
	fl.Bool("commit", false, "commit the bundle with git (default for real hosts)")
	fl.Bool("no-commit", false, "do not commit the bundle")
	fl.StringVar(&f.out, "out", filepath.Join("evidence", "phase1"), "the folder below which the bundle is made, in a folder of the inventory's area")
	fl.StringSliceVar(&f.pcap, "pcap", nil, "record the donors' traffic in the lab, or that of --pcap=LINK,..., into a .pcapng file beside the bundle")
	fl.Lookup("pcap").NoOptDefVal = donorsLinks
	fl.StringVarP(&f.ssh, "ssh-config", "F", "", "the ssh_config to find hosts in, as ssh -F (default: the user's and the system's)")
	return cmd
}

func (f *runFlags) run(cmd *cobra.Command, file string) (err error) {
	inv, err := f.read(cmd.Flags(), file)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	if f.commit {
		if err := canCommit(ctx, f.out); err != nil {
			return err
		}
	}
	talk := newTalk(cmd.ErrOrStderr())
	builds := &builds{Builder: release.Builder{Log: talk.Step}}
	source, err := builds.Source(ctx)
	if err != nil {
		return err
	}
	p := performance{
		inv: inv, builds: builds, source: source, ssh: f.ssh, keep: f.keep, root: f.out, area: inv.Area, talk: talk,
		found: true, explain: true, pcap: f.links(inv),
	}
	bundle, results, err := p.perform(ctx)
	if bundle == nil {
		return err
	}
	serr := seal(bundle, true)
	if serr == nil && f.commit {
		serr = commitBundle(context.WithoutCancel(ctx), bundle.Dir(), inv.Name, results)
	}
	return f.finish(cmd, bundle.Dir(), results, errors.Join(err, serr))
}

// seal closes the bundle, rendered if asked to, and looks for what must not be
// published.
func seal(w *evidence.Writer, rendered bool) error {
	var err error
	if rendered {
		err = render(w)
	}
	err = errors.Join(err, w.Seal())
	leaks, serr := w.ScanSecrets()
	err = errors.Join(err, serr)
	for _, leak := range leaks {
		err = errors.Join(err, fmt.Errorf("the bundle must not be published as it is: %s", leak))
	}
	return err
}

func render(w *evidence.Writer) error {
	b, err := evidence.Open(w.Dir())
	if err != nil {
		return fmt.Errorf("read the bundle back: %w", err)
	}
	files, err := renderings(b)
	if err != nil {
		return err
	}
	for name, content := range files {
		err = errors.Join(err, w.WriteFile(name, content))
	}
	return err
}

// read parses the inventory and applies the flags to it.
func (f *runFlags) read(flags *pflag.FlagSet, file string) (*inventory.Inventory, error) {
	inv, err := readInventory(file)
	if err != nil {
		return nil, err
	}
	yes, _ := flags.GetBool("commit") // the flags are there: we have defined them
	no, _ := flags.GetBool("no-commit")
	if yes && no {
		return nil, usageError(errors.New("--commit and --no-commit: which?"))
	}
	// By default the bundle of real hosts, since it cannot be had again.
	f.commit = !no && (yes || inv.Lab == nil && !flags.Changed("commit"))
	if len(f.pcap) > 0 && inv.Lab == nil {
		return nil, usageError(errors.New("--pcap: traffic is recorded in a lab, and these hosts are real"))
	}
	if f.hold < 0 {
		return nil, usageError(fmt.Errorf("--hold %v: a hold takes time", f.hold))
	}
	if f.hold > 0 {
		inv.Run.Hold = f.hold
	}
	for _, fault := range inv.Faults {
		if !fault.Joining() && fault.End() >= inv.Run.Hold {
			return nil, usageError(fmt.Errorf("--hold %v: the fault after %v would never be over", f.hold, fault.After))
		}
	}
	return inv, nil
}

// donorsLinks is what --pcap alone means.
const donorsLinks = "donors"

// links are those that --pcap records. The recording stays out of the bundle,
// which is for publishing: it is large, and holds whatever was said.
func (f *runFlags) links(inv *inventory.Inventory) []string {
	var links []string
	for _, l := range f.pcap {
		if l != donorsLinks {
			links = append(links, l)
			continue
		}
		for _, h := range inv.Hosts {
			if h.Role == inventory.Donor {
				links = append(links, h.SSH)
			}
		}
	}
	return links
}

// finish prints the verdicts and turns them into the exit code. The last line
// is the bundle's path and what to type next.
func (f *runFlags) finish(cmd *cobra.Command, dir string, results evidence.Results, err error) error {
	out := cmd.OutOrStdout()
	if f.json {
		err = errors.Join(err, json.NewEncoder(out).Encode(results))
	} else {
		err = errors.Join(err, printVerdicts(out, results))
	}
	if err != nil {
		complain(cmd.ErrOrStderr(), err, "")
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s: look at it with: wce2e check %s\n", dir, dir)
	if err != nil {
		return &exitError{code: exitSuite}
	}
	return verdictError(results.Verdict())
}
