package onhost

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// StartConfig says what is to run where. Dir and Args must be set.
type StartConfig struct {
	Dir   string        // of the node; made, 0700, when it is missing
	Lease time.Duration // 0 means DefaultLease
	Args  []string      // of our own binary: node run ...
	// Supervisor is the command that ends up in RunSupervisor, to which --dir,
	// --lease, -- and Args are added; nil means this binary's host supervise.
	Supervisor []string
}

// DefaultLease is how long a node lives on without the suite.
const DefaultLease = 60 * time.Second

// Started is what Start has done.
type Started struct {
	Running
	// Warning tells what may end the node too early on this machine; empty: nothing known.
	Warning string `json:"warning,omitempty"`
}

// upTimeout bounds the start of a supervisor and of its child, which is two times
// the start of a 40 MB binary, perhaps from a network file system.
const upTimeout = 20 * time.Second

// upFD is where a supervisor writes, one line, how its start went.
const upFD = 3

type upMessage struct {
	Running
	Err string `json:"err,omitempty"`
}

// Start starts a supervisor that outlives the calling process and the login
// session, and comes back when the node runs below it.
func Start(ctx context.Context, cfg StartConfig) (Started, error) {
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return Started{}, err
	}
	if cfg.Lease <= 0 {
		cfg.Lease = DefaultLease
	}
	if len(cfg.Args) == 0 {
		return Started{}, errors.New("start nothing: no arguments were given")
	}
	if err := vacant(dir); err != nil {
		return Started{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, upTimeout, fmt.Errorf("the supervisor did not come up within %v", upTimeout))
	defer cancel()
	who, err := launch(ctx, cfg, dir)
	if err != nil {
		return Started{}, fmt.Errorf("start a node in %s: %w", dir, err)
	}
	return Started{Running: who, Warning: logoutWarning(ctx)}, nil
}

// vacant makes the folder, or tells who runs in it.
func vacant(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var before Running
	err := readJSON(filepath.Join(dir, PIDFile), &before)
	if err == nil && (runs(before.Supervisor, before.SuperBorn) || runs(before.PID, before.Born)) {
		return fmt.Errorf("a node runs in %s already: process %d", dir, before.PID)
	}
	return nil
}

// lock keeps a second supervisor out of the folder, until unlock or the end of
// this one: two that start in the same moment both find it vacant. It locks the
// supervisors' log, by flock(2); where the file system has no locks, nothing.
func lock(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, selfLog), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return nil, errors.Join(fmt.Errorf("a node runs in %s already", dir), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// clearOld removes what an earlier node left that would be taken for the new one's.
func clearOld(dir string) error {
	for _, name := range []string{PIDFile, ExitFile, StopFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// launch starts the supervisor and waits for its word.
func launch(ctx context.Context, cfg StartConfig, dir string) (Running, error) {
	argv := cfg.Supervisor
	if argv == nil {
		self, err := os.Executable()
		if err != nil {
			return Running{}, err
		}
		argv = []string{self, "host", "supervise"}
	}
	argv = append(append(argv[:len(argv):len(argv)], "--dir", dir, "--lease", cfg.Lease.String(), "--"), cfg.Args...)
	says, tells, err := os.Pipe()
	if err != nil {
		return Running{}, err
	}
	defer says.Close()
	cmd, err := detach(dir, argv, tells)
	tells.Close()
	if err != nil {
		return Running{}, err
	}
	stop := context.AfterFunc(ctx, func() { says.Close() })
	defer stop()
	line, rerr := bufio.NewReader(says).ReadBytes('\n')
	var word upMessage
	switch err := json.Unmarshal(line, &word); {
	case ctx.Err() != nil:
		_ = cmd.Process.Signal(syscall.SIGTERM) // should it come up after all, it ends its node
		return Running{}, context.Cause(ctx)
	case rerr != nil || err != nil:
		return Running{}, fmt.Errorf("the supervisor ended: %s", lastLine(filepath.Join(dir, selfLog)))
	case word.Err != "":
		return Running{}, errors.New(word.Err)
	}
	return word.Running, cmd.Process.Release()
}

// detach starts argv in a session of its own, with no terminal and nothing of
// the SSH connection's in its hands: sshd waits for those who hold its pipes.
func detach(dir string, argv []string, tells *os.File) (*exec.Cmd, error) {
	log, err := os.OpenFile(filepath.Join(dir, selfLog), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	keepInherited()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = dir, log, log, []*os.File{tells}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd, cmd.Start()
}

// keepInherited sees to it that what we were given open by whoever called us, by
// mistake mostly, goes no further. Our own files do not anyway.
func keepInherited() {
	open, err := os.ReadDir("/dev/fd")
	if err != nil {
		return // no harm in most cases: there are rarely any
	}
	for _, e := range open {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}

func lastLine(name string) string {
	text := tail(name)
	if i := strings.LastIndexByte(text, '\n'); i >= 0 {
		text = text[i+1:]
	}
	if text == "" {
		return "it said nothing"
	}
	return text
}
