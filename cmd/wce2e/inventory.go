package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/worldcompute/wce2e/e2e/lab"
	"github.com/worldcompute/wce2e/inventory"
	wasmfixtures "github.com/worldcompute/wce2e/wasm-fixtures"
)

func newInventoryCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inventory",
		Short: "the files that tell on which machines a run takes place",
		Args: func(_ *cobra.Command, a []string) error {
			if len(a) > 0 {
				return usageError(fmt.Errorf("unknown command %q of inventory", a[0]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newInventoryCheckCmd())
	return cmd
}

func newInventoryCheckCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "report every mistake of an inventory, and touch nothing",
		Args:  args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			inv, err := readInventory(a[0])
			if err != nil {
				return err
			}
			if asJSON {
				return printInventoryJSON(cmd.OutOrStdout(), inv)
			}
			return printInventory(cmd.OutOrStdout(), inv)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// readInventory reads the inventory at path, or the embedded one where path is
// its name and no such file exists. The error is a usage error, ready to print.
func readInventory(path string) (*inventory.Inventory, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if path != inventory.DefaultName {
			return nil, &exitError{code: exitUsage, err: fmt.Errorf("read inventory: %w", err), hint: inventory.DefaultName + " is there always: it is built in"}
		}
		data, err = inventory.Default, nil
	}
	if err != nil {
		return nil, usageError(fmt.Errorf("read inventory: %w", err))
	}
	inv, problems := inventory.Read(path, data)
	if inv != nil {
		var more inventory.Problems
		more, err = known(inv)
		problems = joined(problems, more)
	}
	if len(problems) > 0 {
		return nil, usageError(hinted{problems})
	}
	return inv, err
}

// joined adds the mistakes that a later stage found, but for those of a field
// of which one is told already: what it says about them is a consequence.
func joined(first, more inventory.Problems) inventory.Problems {
	told := map[string]bool{}
	for _, p := range first {
		told[p.Path] = true
	}
	return append(first, slices.DeleteFunc(more, func(p inventory.Problem) bool { return told[p.Path] })...)
}

// known finds the mistakes that the inventory's own package cannot see: words
// that only the lab and the fixtures know. The error is that there is no lab on
// this system.
func known(inv *inventory.Inventory) (ps inventory.Problems, err error) {
	f, err := wasmfixtures.Get(inv.Job.Fixture)
	switch {
	case err != nil:
		ps = append(ps, inv.Problem(inv.Job.Line, "job.fixture", err.Error()))
	case f.Bad:
		ps = append(ps, inv.Problem(inv.Job.Line, "job.fixture", inv.Job.Fixture+" never gives an answer: it is there to be refused"))
	}
	if inv.Lab == nil {
		return ps, nil
	}
	for _, err := range []error{lab.Check(inv.Lab), lab.CheckFaults(inv)} {
		var bad inventory.Problems
		if err != nil && !errors.As(err, &bad) {
			return ps, err
		}
		ps = append(ps, bad...)
	}
	return ps, nil
}

// badInventory is the usage error of an inventory's problems, each followed by
// its hint. Other errors are passed through.
func badInventory(err error) error {
	var ps inventory.Problems
	if !errors.As(err, &ps) {
		return err
	}
	return usageError(hinted{ps})
}

type hinted struct{ inventory.Problems }

func (h hinted) Error() string { return h.Hinted() }
func (h hinted) Unwrap() error { return h.Problems }

func printInventory(w io.Writer, inv *inventory.Inventory) error {
	where := "real hosts"
	if inv.Lab != nil {
		where = "simulated hosts"
	}
	fmt.Fprintf(w, "%s: %s; hold %s, observe %s, lease %s; job %s\n", inv.Name, where, inv.Run.Hold, inv.Run.Observe, inv.Run.Lease, inv.Job.Fixture)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "HOST\tROLE\tNETWORK\tSSH")
	for _, h := range inv.Hosts {
		network := h.Network
		if network == "" {
			network = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", h.Name, h.Role, network, h.SSH)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print inventory: %w", err)
	}
	if len(inv.Relays) == 0 && inv.Lab == nil {
		fmt.Fprintln(w, "relays: the built-in bootstrap list")
	}
	for _, r := range inv.Relays {
		fmt.Fprintf(w, "relay: %s\n", r)
	}
	return nil
}

// inventoryJSON is the shape of `inventory check --json`.
type inventoryJSON struct {
	Name    string     `json:"name"`
	Area    string     `json:"area"`
	Lab     bool       `json:"lab"`
	Hold    string     `json:"hold"`
	Observe string     `json:"observe"`
	Lease   string     `json:"lease"`
	Fixture string     `json:"fixture"`
	Relays  []string   `json:"relays"` // empty: the built-in bootstrap list
	Hosts   []hostJSON `json:"hosts"`
}

type hostJSON struct {
	Name          string         `json:"name"`
	SSH           string         `json:"ssh"`
	Role          inventory.Role `json:"role"`
	Network       string         `json:"network"`
	ExpectBlocked []string       `json:"expect_blocked"`
}

func printInventoryJSON(w io.Writer, inv *inventory.Inventory) error {
	out := inventoryJSON{
		Name: inv.Name, Area: inv.Area, Lab: inv.Lab != nil,
		Hold: inv.Run.Hold.String(), Observe: inv.Run.Observe.String(), Lease: inv.Run.Lease.String(),
		Fixture: inv.Job.Fixture, Relays: notNil(inv.Relays), Hosts: []hostJSON{},
	}
	for _, h := range inv.Hosts {
		out.Hosts = append(out.Hosts, hostJSON{h.Name, h.SSH, h.Role, h.Network, notNil(h.ExpectBlocked)})
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(out); err != nil {
		return fmt.Errorf("print inventory: %w", err)
	}
	return nil
}

// notNil lets an empty list be [] in JSON, not null.
func notNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
