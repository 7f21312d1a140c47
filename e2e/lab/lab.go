//go:build linux

package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/worldcompute/wce2e/inventory"
)

const (
	// bootTimeout is for a machine that is busy with other labs; an idle one
	// needs a fraction of a second. Every host has it longer by bootTimeoutPerHost:
	// at a load of ten per core, 200 hosts took 15 s.
	bootTimeout        = 60 * time.Second
	bootTimeoutPerHost = time.Second / 4
	// closeTimeout is for lab init to notice that its pipe has closed; then it is killed.
	closeTimeout = 10 * time.Second
	// maxSocketPath is sun_path of unix(7), short of its final zero.
	maxSocketPath = 107
)

// Lab is a running lab.
type Lab struct {
	Dir       string // keys and sockets, gone after Close
	SSHConfig string // path of an OpenSSH client config that names every host
	Hosts     []Host // bystanders included

	process *os.Process   // lab init
	pipe    *os.File      // to lab init; its end is the lab's end
	status  *os.File      // from lab init
	done    chan struct{} // closed when lab init, and so every process of the lab, is gone
	close   func() error

	routers []string // the networks that have one

	mu        sync.Mutex    // guards the fields below: one order at a time
	orders    *json.Encoder // into pipe
	said      *json.Decoder // out of status
	entry     *os.File      // by which other processes find the lab, locked; nil: they do not
	entryPath string
}

// Up builds a lab. ctx bounds the building only: a lab that stands outlives it,
// so that a teardown after Ctrl-C still reaches the hosts. Close ends the lab, and
// so does the end of this process, however it comes. The error is
// inventory.Problems for a bad cfg.Lab, a *RefusedError where the kernel lets this
// user have no namespaces.
func Up(ctx context.Context, cfg Config) (*Lab, error) {
	if cfg.Lab == nil {
		return nil, errors.New("bring the lab up: there is none in the configuration")
	}
	if err := Check(cfg.Lab); err != nil {
		return nil, err
	}
	if err := fits(cfg.Lab); err != nil {
		return nil, fmt.Errorf("bring the lab up: %w", err)
	}
	if cfg.Lab.Bystanders > 0 && cfg.Binary == "" {
		return nil, errors.New("bring the lab up: its bystanders need a wce2e binary, and none was given")
	}
	p := newPlan(cfg.Lab)
	ctx, cancel := context.WithTimeout(ctx, bootTimeout+time.Duration(len(p.Machines))*bootTimeoutPerHost)
	defer cancel()
	p.Binary, p.Share, p.Proving = cfg.Binary, cfg.Share, cfg.proving
	dir, err := makeDir(cfg.Dir, p)
	if err != nil {
		return nil, fmt.Errorf("make the lab's folder: %w", err)
	}
	p.Dir = dir
	l, err := up(ctx, p, cfg.Log)
	if err != nil {
		return nil, errors.Join(explain(os.ReadFile, err), os.RemoveAll(dir))
	}
	return l, nil
}

// fits tells what this kernel lacks of l.
func fits(l *inventory.Lab) error {
	for _, n := range l.Networks {
		if prof, err := profileNamed(n.Profile); err == nil && prof.needsIPv6() && !hasIPv6() {
			return fmt.Errorf("network %s has the profile %s: %w, and profiles without IPv6 run all the same", n.Name, n.Profile, errNoIPv6)
		}
	}
	return nil
}

// makeDir makes a folder for keys and sockets, short enough for the latter.
func makeDir(dir string, p plan) (string, error) {
	longest := len(plan{}.captureSocket()) + 1
	for _, m := range p.Machines {
		longest = max(longest, len(plan{}.socket(m.Name))+1)
	}
	if dir == "" {
		dir, err := os.MkdirTemp("", "wce2e-lab-")
		if err != nil || len(dir)+longest <= maxSocketPath {
			return dir, err
		}
		os.Remove(dir)
		return os.MkdirTemp("/tmp", "wce2e-lab-")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if len(dir)+longest > maxSocketPath {
		return "", fmt.Errorf("%s is too long: a unix socket in it would have more than %d bytes", dir, maxSocketPath)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if inside, err := os.ReadDir(dir); err != nil || len(inside) > 0 {
		return "", errors.Join(err, fmt.Errorf("%s is not empty", dir))
	}
	return dir, os.Chmod(dir, 0o700)
}

// up starts lab init, tells it the plan, and waits for it.
func up(ctx context.Context, p plan, log *slog.Logger) (*Lab, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	config, err := p.writeClient()
	if err != nil {
		return nil, err
	}
	l := &Lab{Dir: p.Dir, SSHConfig: config, Hosts: p.hosts(), routers: p.routers(), done: make(chan struct{})}
	l.close = sync.OnceValue(l.end)
	if err := l.start(p, log); err != nil {
		return nil, fmt.Errorf("start lab init: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { l.status.Close() })
	_, err = next(l.said)
	if !stop() && ctx.Err() != nil {
		err = fmt.Errorf("wait for the lab: %w", context.Cause(ctx))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("bring the lab up: %w", err), l.Close())
	}
	return l, nil
}

// start runs lab init in new namespaces and hands it the plan.
func (l *Lab) start(p plan, log *slog.Logger) error {
	ordersR, ordersW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ordersR.Close()
	statusR, statusW, err := os.Pipe()
	if err != nil {
		return errors.Join(err, ordersW.Close())
	}
	defer statusW.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{initArg0, p.Dir}
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{ordersR, statusW}
	cmd.SysProcAttr = namespaces()
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return errors.Join(err, ordersW.Close(), statusR.Close())
	}
	l.process, l.pipe, l.status = cmd.Process, ordersW, statusR
	l.orders, l.said = json.NewEncoder(ordersW), json.NewDecoder(statusR)
	go func() {
		forward(stderr, log)
		if err := cmd.Wait(); err != nil {
			log.Warn("lab init ended", "err", err)
		}
		ordersW.Close() // here at the latest: a File that nobody refers to would close itself, and end the lab
		close(l.done)
	}()
	if err := l.orders.Encode(p); err != nil {
		return errors.Join(fmt.Errorf("hand over the plan: %w", err), l.Close())
	}
	return nil
}

// namespaces of the lab: PID, so that nothing outlives its init; user, where
// this process may not make the others.
func namespaces() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{
		Setsid:     true, // Ctrl-C is for the suite, which then tears down in order
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
	}
	if !privileged() {
		a.Cloneflags |= unix.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return a
}

// privileged tells whether this process may make namespaces without a user
// namespace. Root in a container often may not.
func privileged() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0 && data[0].Effective&(1<<unix.CAP_NET_ADMIN) != 0
}

// forward hands on what lab init and the hosts write, line by line.
func forward(from io.Reader, log *slog.Logger) {
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		log.Info("lab", "line", lines.Text())
	}
}

// Close ends the lab: processes, namespaces, folder. Closing again does nothing.
func (l *Lab) Close() error { return l.close() }

// Done is closed when the lab has ended, asked to or not.
func (l *Lab) Done() <-chan struct{} { return l.done }

func (l *Lab) end() error {
	if l.pipe == nil {
		return nil
	}
	var err error
	if e := l.pipe.Close(); !errors.Is(e, os.ErrClosed) {
		err = e
	}
	select {
	case <-l.done:
	case <-time.After(closeTimeout):
		err = errors.Join(err, fmt.Errorf("lab init did not end within %s and is killed", closeTimeout), l.process.Kill())
		<-l.done
	}
	l.status.Close() // by a cancelled Up, perhaps, before
	return errors.Join(err, l.unregister(), os.RemoveAll(l.Dir))
}
