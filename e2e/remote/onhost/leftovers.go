package onhost

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	psnet "github.com/shirou/gopsutil/v4/net"
	ps "github.com/shirou/gopsutil/v4/process"

	"github.com/worldcompute/wce2e/evidence"
)

// process is a running process of our binary.
type process struct {
	pid  int
	born string
	exe  string
	argv []string
}

func (p process) String() string { return fmt.Sprintf("%d %s", p.pid, strings.Join(p.argv, " ")) }

// isHost tells whether the process is the host command of a name: wce2e host NAME.
func (p process) isHost(name string) bool {
	return len(p.argv) > 2 && p.argv[1] == "host" && p.argv[2] == name
}

// isHelper tells whether the process is a host command that does its work and
// ends: all do but supervise.
func (p process) isHelper() bool {
	return len(p.argv) > 1 && p.argv[1] == "host" && !p.isHost("supervise")
}

// Leftovers lists what of ours is on this machine: processes whose binary lies
// below base, their sockets, and the files below base. The asking process and
// those that it runs below are left out, and so are other host commands that
// merely ask: two hosts of an inventory may be one machine.
func Leftovers(ctx context.Context, dir string) (evidence.Leftovers, error) {
	base, err := spell(dir)
	if err != nil {
		return evidence.Leftovers{}, err
	}
	left := evidence.Leftovers{Processes: []string{}, Listeners: []string{}, Files: map[string]string{}, Allowed: []string{}}
	running, err := processes(ctx, base)
	if err != nil {
		return left, err
	}
	running = slices.DeleteFunc(running, process.isHelper)
	for _, p := range running {
		left.Processes = append(left.Processes, tildeAll(p.String()))
		sockets, err := listeners(ctx, p.pid)
		if err != nil && runs(p.pid, p.born) {
			return left, fmt.Errorf("list the sockets of process %d: %w", p.pid, err)
		}
		left.Listeners = append(left.Listeners, sockets...)
	}
	slices.Sort(left.Listeners)
	left.Listeners = slices.Compact(left.Listeners)
	return left, listFiles(base, &left)
}

// processes finds the processes of our binary, in this PID namespace.
func processes(ctx context.Context, base spellings) ([]process, error) {
	all, err := ps.ProcessesWithContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	mine := ancestors(all)
	var found []process
	for _, p := range all {
		pid := int(p.Pid)
		if mine[pid] {
			continue
		}
		exe, _ := p.ExeWithContext(ctx) // other people's processes do not tell
		argv, _ := p.CmdlineSliceWithContext(ctx)
		exe = strings.TrimSuffix(exe, " (deleted)")
		if !base.hold(exe) && (len(argv) == 0 || !base.hold(argv[0])) || !sameNamespace(pid) {
			continue
		}
		birth, err := born(pid)
		if err != nil {
			continue // it has ended since
		}
		found = append(found, process{pid: pid, born: birth, exe: exe, argv: argv})
	}
	slices.SortFunc(found, func(a, b process) int { return a.pid - b.pid })
	return found, nil
}

// ancestors are this process and those that it runs below.
func ancestors(all []*ps.Process) map[int]bool {
	parent := make(map[int]int, len(all))
	for _, p := range all {
		if above, err := p.Ppid(); err == nil {
			parent[int(p.Pid)] = int(above)
		}
	}
	line := map[int]bool{}
	for pid := os.Getpid(); pid > 0 && !line[pid]; pid = parent[pid] {
		line[pid] = true
	}
	return line
}

// listeners are the sockets on which a process can be reached.
func listeners(ctx context.Context, pid int) ([]string, error) {
	sockets, err := psnet.ConnectionsPidWithContext(ctx, "all", int32(pid))
	if err != nil {
		return nil, err
	}
	var open []string
	for _, s := range sockets {
		at := net.JoinHostPort(s.Laddr.IP, strconv.Itoa(int(s.Laddr.Port)))
		switch {
		case s.Family == syscall.AF_UNIX && s.Laddr.IP != "": // where a path is kept
			open = append(open, fmt.Sprintf("unix %s (process %d)", tildeAll(s.Laddr.IP), pid))
		case s.Family == syscall.AF_UNIX:
		case s.Type == syscall.SOCK_STREAM && s.Status == "LISTEN":
			open = append(open, fmt.Sprintf("tcp %s (process %d)", at, pid))
		case s.Type == syscall.SOCK_DGRAM && s.Laddr.Port != 0 && s.Raddr.Port == 0:
			open = append(open, fmt.Sprintf("udp %s (process %d)", at, pid))
		}
	}
	return open, nil
}

// listFiles adds every file below base, with its hash. Folders appear only when
// they are empty, and things that are no files by what they are.
// They are named as base was given, and found also where that is a link.
func listFiles(base spellings, left *evidence.Leftovers) error {
	real := base.real()
	err := filepath.WalkDir(real, func(name string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone since, or never there
		}
		if err != nil || name == real {
			return err
		}
		what, err := describe(name, e)
		if err != nil || what == "" {
			return err
		}
		shown := tilde(base.given() + strings.TrimPrefix(name, real))
		left.Files[shown] = what
		if isCached(real, name, what) {
			left.Allowed = append(left.Allowed, shown)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list the files below %s: %w", base.given(), err)
	}
	return nil
}

func describe(name string, e fs.DirEntry) (string, error) {
	switch {
	case e.Type().IsRegular():
		file, err := Hash(name)
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil // gone since
		}
		return file.SHA256, err
	case e.IsDir():
		inside, err := os.ReadDir(name)
		if err == nil && len(inside) == 0 {
			return "empty folder", nil
		}
		return "", err
	case e.Type()&fs.ModeSocket != 0:
		return "socket", nil
	case e.Type()&fs.ModeSymlink != 0:
		to, err := os.Readlink(name)
		return "link to " + tildeAll(to), err
	default:
		return e.Type().String(), nil
	}
}

// isCached tells whether a file is the binary that may stay: bin/<its hash>/wce2e.
func isCached(base, name, hash string) bool {
	return name == filepath.Join(base, BinDir, hash, "wce2e")
}

// tilde writes a path without the home directory.
func tilde(name string) string {
	for _, home := range homes() {
		if within(home, name) {
			return "~" + strings.TrimPrefix(name, home)
		}
	}
	return name
}

// tildeAll writes a text without the home directory.
func tildeAll(text string) string {
	for _, home := range homes() {
		text = strings.ReplaceAll(text, home+"/", "~/")
	}
	return text
}

// homes are the spellings of the home directory, the longest first; none where
// there is no home to speak of.
func homes() spellings {
	home, err := os.UserHomeDir()
	if err != nil || home == "" {
		return nil
	}
	all, err := spell(home)
	if err != nil {
		return nil
	}
	all = slices.DeleteFunc(all, func(dir string) bool { return dir == "/" })
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) })
	return all
}
