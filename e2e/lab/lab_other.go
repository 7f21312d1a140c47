//go:build !linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"runtime"

	"github.com/worldcompute/wce2e/inventory"
)

var errNotLinux = fmt.Errorf("the lab needs Linux's network namespaces, and this is %s: %w", runtime.GOOS, errors.ErrUnsupported)

type build struct{}

// Lab is a running lab; there is none on this system.
type Lab struct {
	Dir       string
	SSHConfig string
	Hosts     []Host
}

// Reexec returns at once: no process is a lab's child on this system.
func Reexec() {}

// Supported says that there is no lab on this system.
func Supported() error { return errNotLinux }

// Check says that there is no lab on this system.
func Check(*inventory.Lab) error { return errNotLinux }

// Profiles is empty on this system.
func Profiles() []Profile { return nil }

// ProfileNamed says that there is no lab on this system.
func ProfileNamed(string) (Profile, error) { return Profile{}, errNotLinux }

// Rules is empty on this system.
func (Profile) Rules() []Rule { return nil }

// SelfTest says that there is no lab on this system.
func SelfTest(context.Context, *slog.Logger, ...string) ([]Proof, error) { return nil, errNotLinux }

// Mutate says that there is no lab on this system.
func Mutate(context.Context, *slog.Logger, ...string) ([]Proof, error) { return nil, errNotLinux }

// Mutants says that there is no lab on this system.
func Mutants(...string) ([]string, error) { return nil, errNotLinux }

// Up says that there is no lab on this system.
func Up(context.Context, Config) (*Lab, error) { return nil, errNotLinux }

// Traffic is what has gone over a host's link.
type Traffic struct{ ReceivedBytes, ReceivedPackets, SentBytes, SentPackets uint64 }

// SetProfile says that there is no lab on this system.
func (l *Lab) SetProfile(context.Context, string, string) error { return errNotLinux }

// Rebind says that there is no lab on this system.
func (l *Lab) Rebind(context.Context, string) error { return errNotLinux }

// Readdress says that there is no lab on this system.
func (l *Lab) Readdress(context.Context, string) (netip.Addr, error) {
	return netip.Addr{}, errNotLinux
}

// Move says that there is no lab on this system.
func (l *Lab) Move(context.Context, string, string) (netip.Addr, error) {
	return netip.Addr{}, errNotLinux
}

// CheckFaults says that there is no lab on this system.
func CheckFaults(*inventory.Inventory) error { return errNotLinux }

// Publish says that there is no lab on this system.
func (l *Lab) Publish(context.Context, string, ...string) error { return errNotLinux }

// Unplug says that there is no lab on this system.
func (l *Lab) Unplug(context.Context, string) error { return errNotLinux }

// Plug says that there is no lab on this system.
func (l *Lab) Plug(context.Context, string) error { return errNotLinux }

// Traffic says that there is no lab on this system.
func (l *Lab) Traffic(context.Context, string) (Traffic, error) { return Traffic{}, errNotLinux }

// Diagnose says that there is no lab on this system, and what to do about it.
func Diagnose(context.Context) Diagnosis {
	return Diagnosis{Abilities: []Ability{{Name: "Linux", State: Missing, Needed: true, Detail: "this is " + runtime.GOOS,
		Means:  "a lab is made of Linux's namespaces; runs on real hosts (an inventory without lab:) work from here",
		Remedy: "run wce2e in a virtual machine with Linux, such as: limactl start && limactl shell default"}}}.judged()
}

// Register says that there is no lab on this system.
func (l *Lab) Register(string) error { return errNotLinux }

// Capture says that there is no lab on this system.
func (l *Lab) Capture(context.Context, Capture, io.Writer, func()) error { return errNotLinux }

// Capture says that there is no lab on this system.
func (s Standing) Capture(context.Context, Capture, io.Writer, func()) error { return errNotLinux }

// StandingLabs says that there is no lab on this system.
func StandingLabs() ([]Standing, error) { return nil, errNotLinux }

// Close does nothing on this system.
func (l *Lab) Close() error { return nil }

// Done is closed: a lab that is not there has ended.
func (l *Lab) Done() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}
