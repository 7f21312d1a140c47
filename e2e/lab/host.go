//go:build linux

package lab

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// hostOrders is all that a host is told.
type hostOrders struct {
	Root       string // where to mount its root
	Zone       string
	Binary     string            // of a bystander
	Share      map[string]string // as in Config
	Authorized string
	Machine    machine
	Equipment  equipment
}

func (n *network) ordersFor(m machine) (hostOrders, error) {
	p := n.plan
	o := hostOrders{Root: p.rootDir(), Zone: p.Zone, Authorized: p.Authorized, Machine: m}
	if m.Bystander {
		o.Binary = p.Binary
	} else {
		o.Share = p.Share
	}
	var err error
	o.Equipment, err = n.equipment(m)
	return o, err
}

// runHost is PID 1 of a host: it makes the host's file system, then serves SSH,
// or runs a bystander, until lab init goes.
func runHost() error {
	survivePipes()
	var o hostOrders
	gone, err := orders(&o)
	if err != nil {
		return confess(err)
	}
	go func() {
		<-gone
		os.Exit(0)
	}()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("host", o.Machine.Name)
	if err := becomeHost(o); err != nil {
		return confess(err)
	}
	if err := o.serve(newReaper(), log); err != nil {
		_ = say(status{Err: err.Error()}) // no missing namespace, whatever it was
		return err
	}
	return nil
}

func becomeHost(o hostOrders) error {
	if err := unix.Sethostname([]byte(o.Machine.Name)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	if err := makeRoot(o); err != nil {
		return fmt.Errorf("make the root file system: %w", err)
	}
	os.Clearenv()
	for _, v := range o.environment() {
		name, value, _ := strings.Cut(v, "=")
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	for name, text := range o.Equipment.Files {
		if err := writePrivate(filepath.Join(home, name), text); err != nil {
			return fmt.Errorf("equip the host: %w", err)
		}
	}
	return os.Chdir(home)
}

// environment is what a login has from the start: as OpenSSH sets it for root,
// and what the network's administrators add.
func (o hostOrders) environment() []string { return append(environment(), o.Equipment.Env...) }

// writePrivate writes a file that only its owner can read.
func writePrivate(path, text string) error {
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600))
}

func (o hostOrders) serve(r *reaper, log *slog.Logger) error {
	if o.Machine.Bystander {
		return o.standBy(r, log)
	}
	l, err := net.FileListener(os.NewFile(fdSSH, "ssh"))
	if err != nil {
		return fmt.Errorf("take over the SSH socket: %w", err)
	}
	s, err := newSSHServer(o, r, log)
	if err != nil {
		return err
	}
	if err := say(status{Ready: true}); err != nil {
		return err
	}
	return s.serve(l)
}
