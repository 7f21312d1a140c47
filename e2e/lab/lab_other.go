//go:build !linux

package lab

import (
	"context"
	"errors"
	"fmt"
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

// Check says that there is no lab on this system.
func Check(*inventory.Lab) error { return errNotLinux }

// Profiles is empty on this system.
func Profiles() []Profile { return nil }

// Up says that there is no lab on this system.
func Up(context.Context, Config) (*Lab, error) { return nil, errNotLinux }

// Close does nothing on this system.
func (l *Lab) Close() error { return nil }

// Done is closed: a lab that is not there has ended.
func (l *Lab) Done() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}
