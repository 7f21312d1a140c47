package localnet

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// inside is set in the process that a test has started in a network of its own.
const inside = "LOCALNET_TEST_INSIDE"

// alone runs the test that calls it once more, in a process with a user and a
// network namespace of its own, as an ordinary user can. It returns true there,
// with loopback up; in the test itself it reports how that went, and returns
// false.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inside) != "" {
		must(t, netlink.LinkSetUp(linkOf(t, "lo")))
		return true
	}
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, os.ErrPermission) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EINVAL) {
		t.Skipf("SKIPPED: this machine gives no user and network namespaces: %v", err)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in a network of its own: %v\n%s", err, out)
	}
	t.Logf("%s", out)
	return false
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func linkOf(t *testing.T, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	return l
}

func addrOf(t *testing.T, s string) *netlink.Addr {
	t.Helper()
	a, err := netlink.ParseAddr(s)
	must(t, err)
	if a.IP.To4() == nil {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

func addAddr(t *testing.T, l netlink.Link, s string) {
	t.Helper()
	must(t, netlink.AddrAdd(l, addrOf(t, s)))
}

func delAddr(t *testing.T, l netlink.Link, s string) {
	t.Helper()
	must(t, netlink.AddrDel(l, addrOf(t, s)))
}

// leaveBy makes gateway the only default route of its family.
func leaveBy(t *testing.T, l netlink.Link, gateway string) {
	t.Helper()
	must(t, netlink.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: net.ParseIP(gateway), Dst: everywhere(gateway)}))
}

func everywhere(gateway string) *net.IPNet {
	if net.ParseIP(gateway).To4() == nil {
		return &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	return &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
}

// neighbourIs tells the kernel a gateway's hardware address.
func neighbourIs(t *testing.T, l netlink.Link, ip, mac string) {
	t.Helper()
	hw, err := net.ParseMAC(mac)
	must(t, err)
	must(t, netlink.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, IP: net.ParseIP(ip), HardwareAddr: hw, State: unix.NUD_PERMANENT}))
}

func sysctl(t *testing.T, name, value string) {
	t.Helper()
	must(t, os.WriteFile("/proc/sys/"+name, []byte(value), 0))
}

// cable is a link, up, to another machine, which has the addresses given.
func cable(t *testing.T, name string, addrs ...string) netlink.Link {
	t.Helper()
	room := elsewhere(t)
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "far"}))
	must(t, netlink.LinkSetNsFd(linkOf(t, "far"), room))
	h, err := netlink.NewHandleAt(netns.NsHandle(room), unix.NETLINK_ROUTE)
	must(t, err)
	defer h.Close()
	far, err := h.LinkByName("far")
	must(t, err)
	for _, a := range addrs {
		must(t, h.AddrAdd(far, addrOf(t, a)))
	}
	must(t, h.LinkSetUp(far))
	near := linkOf(t, name)
	must(t, netlink.LinkSetUp(near))
	awaitRunning(t, netlink.LinkByName, name)
	awaitRunning(t, h.LinkByName, "far")
	return linkOf(t, name)
}

// awaitRunning waits until the kernel says that a link works, which takes it up
// to a second after it is up.
func awaitRunning(t *testing.T, byName func(string) (netlink.Link, error), name string) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		l, err := byName(name)
		must(t, err)
		if l.Attrs().RawFlags&unix.IFF_RUNNING != 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s is not running after %s: %+v", name, patience, l.Attrs())
		}
	}
}

// elsewhere is another network namespace. It lasts as long as the process.
func elsewhere(t *testing.T) int {
	t.Helper()
	type result struct {
		fd  int
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- result{0, fmt.Errorf("make a network namespace: %w", err)}
			return
		}
		fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		done <- result{fd, err}
	}()
	r := <-done
	must(t, r.err)
	return r.fd
}
