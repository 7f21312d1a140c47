//go:build linux

package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// netNS is a network namespace, kept alive by its descriptor. It is never
// closed by name: it goes when lab init and the processes in it are gone.
type netNS struct{ fd int }

// newNetNS makes an empty namespace with loopback up. Without ipv6 it has none,
// not even addresses of its own making: nodes shall not announce link-local ones.
func newNetNS(ipv6 bool) (netNS, error) {
	ns := netNS{fd: -1}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open the new network namespace: %w", err)
		}
		ns.fd = fd
		return baseSysctls(ipv6)
	})
	if err != nil {
		return netNS{}, err
	}
	return ns, ns.edit(func(h *netlink.Handle) error { return setUp(h, "lo") })
}

// ownNetNS is that of lab init itself, in which interfaces shall have no addresses,
// not even such as IPv6 makes by itself: they would announce them on every link.
// It asks by thread: the process's first thread may be one that onThread sent
// elsewhere.
func ownNetNS() (netNS, error) {
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return netNS{}, fmt.Errorf("open lab init's network namespace: %w", err)
	}
	return netNS{fd: fd}, baseSysctls(false)
}

// baseSysctls apply to the namespace of the calling thread. A new namespace
// inherits the machine's own settings, so nothing is left to them. With IPv6,
// duplicate address detection is off, since it takes 1.5 s of every address.
func baseSysctls(ipv6 bool) error {
	disabled := "1"
	if ipv6 {
		disabled = "0"
	}
	return sysctls(map[string]string{
		"net/ipv6/conf/all/disable_ipv6":     disabled,
		"net/ipv6/conf/default/disable_ipv6": disabled,
		"net/ipv6/conf/all/accept_dad":       "0",
		"net/ipv6/conf/default/accept_dad":   "0",
		"net/ipv6/conf/default/accept_ra":    "0",
		"net/ipv4/tcp_syncookies":            "1",
		"net/ipv4/conf/all/rp_filter":        "1",
		"net/ipv4/conf/default/rp_filter":    "1",
		"net/ipv4/ip_forward":                "0",
		"net/ipv4/ping_group_range":          "0 0",
	})
}

// sysctls sets what exists; a kernel without IPv6 has no switch to turn it off.
func sysctls(values map[string]string) error {
	for name, v := range values {
		if err := sysctl(name, v); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func sysctl(name, value string) error {
	if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0); err != nil {
		return fmt.Errorf("set sysctl %s to %s: %w", name, value, err)
	}
	return nil
}

// do runs f on a thread inside ns. Goroutines that f starts are outside it.
func (ns netNS) do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(ns.fd, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return f()
	})
}

// edit runs f with a netlink socket into ns.
func (ns netNS) edit(f func(*netlink.Handle) error) error {
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.fd), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	return f(h)
}

// interfaceIndex asks for one interface of the calling thread's namespace. The
// standard library lists them all to find one, which for the wires of 200 hosts
// was half of what lab init had to compute.
func interfaceIndex(name string) (int, error) {
	r, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(s)
	if err := unix.IoctlIfreq(s, unix.SIOCGIFINDEX, r); err != nil {
		return 0, err
	}
	return int(r.Uint32()), nil
}

// forgetFlows empties the namespace's connection tracking, as a reboot does.
func (ns netNS) forgetFlows() error {
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.fd), unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	if err := h.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
		return fmt.Errorf("flush the connection tracking: %w", err)
	}
	return nil
}

// onThread runs f on a thread that ends with it, so that whatever f does to its
// thread's namespaces touches no other goroutine.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- f()
	}()
	return <-done
}
