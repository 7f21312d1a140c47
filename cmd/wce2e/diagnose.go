package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/worldcompute/wce2e/e2e"
	"github.com/worldcompute/wce2e/e2e/release"
	"github.com/worldcompute/wce2e/evidence"
	"github.com/worldcompute/wce2e/inventory"
)

type diagnoseFlags struct {
	observe           time.Duration
	quick, keep, json bool
	out, ssh          string
}

func newDiagnoseCmd() *cobra.Command {
	var f diagnoseFlags
	cmd := &cobra.Command{
		Use:   "diagnose INVENTORY [HOST...]",
		Short: "why can this host not get out, and what to do about it",
		Long: `Diagnose tries every address that a donor starts from, layer by layer, on each HOST
of INVENTORY (default: its donor), and at the same time from the hosts of other
networks, so that what is blocked can be told from what is dead. Then the donor's
daemon runs for a while, watched. It explains every address, says what is in the
way and how that is known, and what can be done about it: by the donor itself, by
you, and by the network's administrator. It leaves a bundle, and "wce2e check" makes
the same diagnosis of it, offline.

Exit: 0 a relay is reached and everything is explained, 1 none is reached and it is
known why, 2 something is unexplained, 64 bad flags or inventory, 70 the suite failed.`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error { return f.run(cmd, a[0], a[1:]) },
	}
	fl := cmd.Flags()
	fl.DurationVar(&f.observe, "observe", 0, "how long to watch the donor's daemon (default: the inventory's run.observe)")
	fl.BoolVar(&f.quick, "quick", false, "take less than 30 s: wait less, leave silences out, watch the daemon only for a while")
	fl.BoolVar(&f.keep, "keep", false, "leave the nodes' files on the hosts")
	fl.BoolVar(&f.json, "json", false, "print reports, diagnoses and verdicts as JSON")
	fl.StringVar(&f.out, "out", filepath.Join("evidence", "phase1"), "the folder below which the bundle is made, in a folder of the inventory's area")
	fl.StringVarP(&f.ssh, "ssh-config", "F", "", "the ssh_config to find hosts in, as ssh -F (default: the user's and the system's)")
	return cmd
}

func (f *diagnoseFlags) run(cmd *cobra.Command, file string, hosts []string) error {
	inv, err := f.read(file, hosts)
	if err != nil {
		return err
	}
	ctx, talk := cmd.Context(), newTalk(cmd.ErrOrStderr())
	builds := &builds{Builder: release.Builder{Log: talk.Step}}
	source, err := builds.Source(ctx)
	if err != nil {
		return err
	}
	p := performance{
		inv: inv, builds: builds, source: source, ssh: f.ssh, keep: f.keep, root: f.out, area: inv.Area, talk: talk, found: true,
		diagnosis: &e2e.Diagnosis{Hosts: hosts, Observe: f.observe, Quick: f.quick},
	}
	bundle, results, err := p.perform(ctx)
	if bundle == nil {
		return err
	}
	return f.finish(cmd, bundle.Dir(), results, errors.Join(err, seal(bundle, true)))
}

func (f *diagnoseFlags) read(file string, hosts []string) (*inventory.Inventory, error) {
	inv, err := readInventory(file)
	if err != nil {
		return nil, err
	}
	if f.observe < 0 {
		return nil, usageError(fmt.Errorf("--observe %v: watching takes time", f.observe))
	}
	for _, name := range hosts {
		if !slices.ContainsFunc(inv.Hosts, func(h inventory.Host) bool { return h.Name == name }) {
			return nil, usageError(fmt.Errorf("%s has no host %q", file, name))
		}
	}
	return inv, nil
}

// diagnosed is what `diagnose --json` prints.
type diagnosed struct {
	Bundle  string           `json:"bundle"`
	Hosts   []hostDiagnosed  `json:"hosts"`
	Results evidence.Results `json:"results"`
}

type hostDiagnosed struct {
	Host string `json:"host"`
	networkExplained
}

// finish prints what the bundle says, and turns the verdicts into the exit code.
func (f *diagnoseFlags) finish(cmd *cobra.Command, dir string, results evidence.Results, err error) error {
	d := diagnosed{Bundle: dir, Hosts: []hostDiagnosed{}, Results: results}
	b, oerr := evidence.Open(dir)
	if oerr == nil {
		for _, n := range networks(b) {
			d.Hosts = append(d.Hosts, hostDiagnosed{n.Host, networkExplained{n.Report, n.Diagnosis}})
		}
	}
	if err = errors.Join(err, oerr, f.print(cmd, d)); err != nil {
		complain(cmd.ErrOrStderr(), err, "")
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s: look at it with: wce2e check %s\n", dir, dir)
	if err != nil {
		return &exitError{code: exitSuite}
	}
	return verdictError(results.Verdict())
}

func (f *diagnoseFlags) print(cmd *cobra.Command, d diagnosed) error {
	out := cmd.OutOrStdout()
	if f.json {
		return printJSON(out, d)
	}
	for _, h := range d.Hosts {
		if _, err := fmt.Fprintf(out, "%s\n", h.Host); err != nil {
			return err
		}
		if err := printExplained(out, h.networkExplained); err != nil {
			return err
		}
		fmt.Fprintln(out)
	}
	return printVerdicts(out, d.Results)
}
