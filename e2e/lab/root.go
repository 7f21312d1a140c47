//go:build linux

package lab

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	login = "user" // of every host; root in it, nobody outside
	home  = "/home/" + login
	// homeSize is the disk of a host: a tmpfs, so it costs what is written. It
	// holds the binary a few times over, and logs.
	homeSize = "512m"
	tmpSize  = "256m"
	rootSize = "16m"

	bystanderBinary = "/opt/wce2e"
)

// makeRoot gives the calling process a root of its own: the machine's programs,
// read-only, under an /etc, /home and /tmp that are the host's alone. Nothing
// else of the machine is visible.
func makeRoot(o hostOrders) error {
	r := root(o.Root)
	err := errors.Join(
		r.tmpfs(".", rootSize, 0o755),
		r.programs(),
		r.dev(),
		r.mkdir("proc", 0o755),
		r.mkdir("run", 0o755),
		r.mkdir("var", 0o755),
		r.mkdir("home", 0o755),
		r.etc(o),
	)
	if err != nil {
		return err
	}
	err = errors.Join(
		r.mount("proc", "proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""),
		r.tmpfs("tmp", tmpSize, 0o1777),
		r.tmpfs("home/"+login, homeSize, 0o700),
		os.Symlink("/tmp", r.path("var/tmp")),
	)
	if err == nil && o.Binary != "" {
		err = r.bindFile(o.Binary, bystanderBinary)
	}
	for rel, file := range o.Share {
		err = errors.Join(err, r.bindFile(file, filepath.Join(home, rel)))
	}
	if err != nil {
		return err
	}
	if err := r.enter(); err != nil {
		return err
	}
	return trust(o.Equipment.Trust)
}

// root is the path under which a root file system is put together.
type root string

func (r root) path(rel string) string { return filepath.Join(string(r), rel) }

func (r root) mkdir(rel string, mode os.FileMode) error { return os.MkdirAll(r.path(rel), mode) }

func (r root) mount(source, rel, kind string, flags uintptr, data string) error {
	if err := unix.Mount(source, r.path(rel), kind, flags, data); err != nil {
		return fmt.Errorf("mount %s on /%s: %w", cmp.Or(kind, source), rel, err)
	}
	return nil
}

func (r root) tmpfs(rel, size string, mode os.FileMode) error {
	if err := r.mkdir(rel, 0o755); err != nil {
		return err
	}
	return r.mount("tmpfs", rel, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("size=%s,mode=%o", size, mode))
}

// bind shows a folder of the machine, with all that is mounted below it, read-only.
func (r root) bind(source, rel string) error {
	if err := r.mkdir(rel, 0o755); err != nil {
		return err
	}
	return r.bindOn(source, rel)
}

// bindFile shows one file of the machine, read-only.
func (r root) bindFile(source, rel string) error {
	if err := errors.Join(r.mkdir(filepath.Dir(rel), 0o755), os.WriteFile(r.path(rel), nil, 0o755)); err != nil {
		return err
	}
	return r.bindOn(source, rel)
}

func (r root) bindOn(source, rel string) error {
	if err := r.mount(source, rel, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	// mount_setattr (Linux 5.12), unlike a remount, reaches what is mounted below,
	// and needs no knowledge of flags that a user namespace has locked.
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, r.path(rel), unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("make /%s read-only: %w", rel, err)
	}
	return nil
}

// programs shows what the machine runs programs from: /usr, and /bin, /sbin and
// /lib* as folders or as the links into /usr that they are, and /nix of NixOS.
func (r root) programs() error {
	entries, err := os.ReadDir("/")
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		name := e.Name()
		switch {
		case name != "usr" && name != "bin" && name != "sbin" && name != "nix" && !strings.HasPrefix(name, "lib"):
		case e.Type()&fs.ModeSymlink != 0:
			errs = append(errs, copyLink("/"+name, r.path(name)))
		case e.IsDir():
			errs = append(errs, r.bind("/"+name, name))
		}
	}
	return errors.Join(errs...)
}

func copyLink(from, to string) error {
	target, err := os.Readlink(from)
	if err != nil {
		return err
	}
	return os.Symlink(target, to)
}

// dev has the devices that every program may expect. They are shown rather than
// made: an ordinary user may make none.
func (r root) dev() error {
	errs := []error{r.tmpfs("dev", "1m", 0o755)}
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		errs = append(errs, os.WriteFile(r.path("dev/"+name), nil, 0o666), r.mount("/dev/"+name, "dev/"+name, "", unix.MS_BIND, ""))
	}
	errs = append(errs,
		r.mkdir("dev/pts", 0o755),
		r.mount("devpts", "dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"),
		os.Symlink("pts/ptmx", r.path("dev/ptmx")),
		os.Symlink("/proc/self/fd", r.path("dev/fd")),
		os.Symlink("/proc/self/fd/0", r.path("dev/stdin")),
		os.Symlink("/proc/self/fd/1", r.path("dev/stdout")),
		os.Symlink("/proc/self/fd/2", r.path("dev/stderr")),
		r.tmpfs("dev/shm", tmpSize, 0o1777))
	return errors.Join(errs...)
}

// etc has what names the host and resolves names, and of the machine's what
// programs and TLS need.
func (r root) etc(o hostOrders) error {
	if err := r.mkdir("etc", 0o755); err != nil {
		return err
	}
	var errs []error
	for file, text := range map[string]string{
		"hostname":      o.Machine.Name + "\n",
		"hosts":         o.Machine.etcHosts(o.Zone),
		"resolv.conf":   resolvConf(o.Machine.Resolver, o.Equipment.Search),
		"nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
		"passwd":        fmt.Sprintf("%s:x:0:0::%s:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n", login, home),
		"group":         fmt.Sprintf("%s:x:0:\nnogroup:x:65534:\n", login),
		"services":      "ssh 22/tcp\ndomain 53/tcp\ndomain 53/udp\nhttp 80/tcp\nhttps 443/tcp\n",
	} {
		errs = append(errs, os.WriteFile(r.path("etc/"+file), []byte(text), 0o644))
	}
	for _, dir := range []string{"/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/alternatives", "/etc/static"} {
		if s, err := os.Stat(dir); err == nil && s.IsDir() {
			errs = append(errs, r.bind(dir, dir))
		}
	}
	for _, file := range []string{"/etc/ld.so.cache", "/etc/os-release"} {
		if _, err := os.Stat(file); err == nil {
			errs = append(errs, r.bindFile(file, file))
		}
	}
	return errors.Join(errs...)
}

// etcHosts is where the host finds itself.
func (m machine) etcHosts(zone string) string {
	return fmt.Sprintf("127.0.0.1 localhost\n%s %s.%s %s\n", m.own(), m.Name, zone, m.Name)
}

func resolvConf(resolver netip.Addr, search string) string {
	text := fmt.Sprintf("nameserver %s\n", resolver)
	if search != "" {
		text += "search " + search + "\n"
	}
	return text
}

// enter makes r the root, and lets go of the machine's.
func (r root) enter() error {
	if err := os.Chdir(string(r)); err != nil {
		return err
	}
	// Old and new root may be stacked on the same place: pivot_root(2), NOTES.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the machine's root: %w", err)
	}
	return os.Chdir("/")
}
