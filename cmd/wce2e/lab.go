package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/worldcompute/wce2e/e2e/lab"
	"github.com/worldcompute/wce2e/inventory"
)

func newLabCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "the simulated internet",
		Args: func(_ *cobra.Command, a []string) error {
			if len(a) > 0 {
				return usageError(fmt.Errorf("unknown command %q of lab", a[0]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newLabListCmd(), newLabUpCmd(), newLabExecCmd(), newLabShellCmd(), newLabPcapCmd(), newLabDoctorCmd(), newLabSelfTestCmd())
	return cmd
}

func newLabUpCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "up INVENTORY",
		Short: "bring an inventory's lab up, until Ctrl-C",
		Long: `Bring the lab of an inventory up and keep it in the foreground. Its hosts are
reached by "wce2e lab exec" and "wce2e lab shell" in another terminal, and by any
SSH client with the config that is printed. Ctrl-C ends the lab, and leaves
nothing of it.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			inv, err := labInventory(a[0])
			if err != nil {
				return err
			}
			return labUp(cmd, inv, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// labInventory reads an inventory that has a lab.
func labInventory(file string) (*inventory.Inventory, error) {
	inv, err := readInventory(file)
	if err == nil && inv.Lab == nil {
		err = usageError(fmt.Errorf("%s has no lab: its hosts are real", file))
	}
	return inv, err
}

// raiseLab brings a lab up whose bystanders are this program.
func raiseLab(ctx context.Context, inv *inventory.Inventory, log *slog.Logger) (*lab.Lab, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program, which is what bystanders run: %w", err)
	}
	l, err := lab.Up(ctx, lab.Config{Lab: inv.Lab, Binary: self, Log: log})
	if err != nil {
		return nil, badInventory(err)
	}
	return l, nil
}

func labUp(cmd *cobra.Command, inv *inventory.Inventory, asJSON bool) error {
	l, err := raiseLab(cmd.Context(), inv, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
	if err != nil {
		return err
	}
	if err := l.Register(inv.Name); err != nil {
		return errors.Join(err, l.Close())
	}
	if err := printLab(cmd.OutOrStdout(), l, asJSON); err != nil {
		return errors.Join(err, l.Close())
	}
	select {
	case <-cmd.Context().Done():
		return l.Close()
	case <-l.Done():
		return errors.Join(errors.New("the lab ended by itself"), l.Close())
	}
}

func printLab(w io.Writer, l *lab.Lab, asJSON bool) error {
	if asJSON {
		err := json.NewEncoder(w).Encode(struct {
			SSHConfig string     `json:"ssh_config"`
			Hosts     []lab.Host `json:"hosts"`
		}{l.SSHConfig, l.Hosts})
		if err != nil {
			return fmt.Errorf("print the lab: %w", err)
		}
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "HOST\tNETWORK\tPROFILE\tADDRESS\tSEEN AS")
	login := ""
	for _, h := range l.Hosts {
		network := h.Network
		if network == "" {
			network = "-" // a bystander: nobody logs in
		} else if login == "" {
			login = h.Name
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", h.Name, network, h.Profile, h.Addr, h.Egress)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print the lab: %w", err)
	}
	fmt.Fprintf(w, "\nlog in:  wce2e lab shell %s, or ssh -F %s %s\nrecord:  wce2e lab pcap %s | wireshark -k -i -\nCtrl-C ends the lab.\n",
		login, l.SSHConfig, login, login)
	return nil
}
