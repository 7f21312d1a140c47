//go:build linux

package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// RefusedError says that this kernel does not let an ordinary user have
// namespaces, and what would change that. It is one line.
type RefusedError struct {
	Reason string // what was found
	Remedy string // a command that allows it; empty when there is none
	Err    error  // what the kernel said
}

func (e *RefusedError) Error() string {
	remedy := "run this command with sudo"
	if e.Remedy != "" {
		remedy = "allow them with '" + e.Remedy + "', or " + remedy
	}
	return fmt.Sprintf("namespaces are refused to this user: %s (%v); %s", e.Reason, e.Err, remedy)
}

func (e *RefusedError) Unwrap() error { return e.Err }

// switches are the settings by which kernels and distributions refuse. One that
// is not there refuses nothing.
var switches = []struct {
	file, refuses, remedy string
}{
	{"/proc/sys/kernel/unprivileged_userns_clone", "0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"}, // Debian up to 10, Arch hardened
	{"/proc/sys/user/max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces=10000"},             // RHEL 7 and hardening guides
	{"/proc/sys/user/max_net_namespaces", "0", "sudo sysctl -w user.max_net_namespaces=10000"},
	{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"}, // Ubuntu from 23.10
}

// explain turns a refused system call into a RefusedError that says which
// setting refused, reading settings with read. Other failures come back as they are.
func explain(read func(string) ([]byte, error), cause error) error {
	if !refused(cause) {
		return cause
	}
	for _, s := range switches {
		v, err := read(s.file)
		if err == nil && strings.TrimSpace(string(v)) == s.refuses {
			return &RefusedError{Reason: s.file + " is " + s.refuses, Remedy: s.remedy, Err: cause}
		}
	}
	if _, err := read("/proc/self/ns/user"); errors.Is(err, fs.ErrNotExist) {
		return &RefusedError{Reason: "the kernel was built without user namespaces", Err: cause}
	}
	return &RefusedError{Reason: "no setting says why; a container's seccomp filter does this",
		Remedy: "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined", Err: cause}
}

// refused tells a refusal from a failure. A limit of zero namespaces is ENOSPC,
// and so is a full disk.
func refused(err error) bool {
	if file, ok := errors.AsType[*fs.PathError](err); ok && file.Op != "fork/exec" && errors.Is(err, syscall.ENOSPC) {
		return false
	}
	return errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, errDenied)
}

// errDenied stands for a refusal that lab init met, and told as text.
var errDenied = errors.New("permission denied inside the new namespaces")
