package onhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/worldcompute/wce2e/evidence"
)

// Ended is exit.json: how a node ended.
type Ended struct {
	evidence.Exit
	Asked     bool      `json:"asked"` // somebody had asked for it: the suite, or a signal to the supervisor
	StartedAt time.Time `json:"started_at"`
	EndedAt   time.Time `json:"ended_at"`
	// Note says what is not known: empty where the supervisor saw the end.
	Note string `json:"note,omitempty"`
}

const (
	lookEvery = 500 * time.Millisecond // how often the supervisor looks at its folder
	termGrace = 5 * time.Second        // for the node to end in order, before SIGKILL
)

// Supervise runs argv until it ends, is asked to end, or the lease lapses, and
// writes down how it ended. It calls up once the node runs. It returns after
// the node has ended.
func Supervise(dir string, lease time.Duration, argv []string, log *slog.Logger, up func(Running) error) error {
	// The node is to die with the supervisor; the kernel ties that to the thread
	// that started it (prctl(2), PR_SET_PDEATHSIG).
	runtime.LockOSThread()
	unlock, err := lock(dir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := clearOld(dir); err != nil {
		return err
	}
	asked, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP) // caught, not ignored: the node would inherit that
	cmd, err := startNode(dir, argv)
	if err != nil {
		return fmt.Errorf("start %s: %w", argv[0], err)
	}
	w := &watcher{
		dir: dir, lease: lease, log: log, node: cmd.Process, started: time.Now(),
		ended: make(chan struct{}), guardDone: make(chan struct{}),
	}
	go w.guard(asked)
	err = w.announce(argv, up)
	if err != nil { // nobody will know of the node: it must not stay
		w.signalNode(syscall.SIGKILL)
	}
	_ = cmd.Wait() // its state says how the node ended
	close(w.ended)
	w.killGroup() // what the node started itself
	return errors.Join(err, w.record(cmd.ProcessState))
}

// startNode starts argv with its output at the end of the log file. There is no
// pipe in between: the last words of a node arrive even when the supervisor dies.
func startNode(dir string, argv []string) (*exec.Cmd, error) {
	out, err := os.OpenFile(filepath.Join(dir, LogFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = dir, out, out, nodeAttr()
	return cmd, cmd.Start()
}

// watcher is the supervisor's eye on one node.
type watcher struct {
	dir     string
	lease   time.Duration
	log     *slog.Logger
	node    *os.Process // the handle stays with this process, whoever gets its number later
	started time.Time
	ended   chan struct{} // closed when the node has ended

	asked, lapsed bool          // why guard ended the node; to be read after guardDone
	guardDone     chan struct{} // closed when guard has returned
}

func (w *watcher) announce(argv []string, up func(Running) error) error {
	who := Running{PID: w.node.Pid, Supervisor: os.Getpid(), StartedAt: w.started.UTC(), Args: argv}
	var err error
	if who.SuperBorn, err = born(who.Supervisor); err != nil {
		return err
	}
	// A node that has ended already is known by the number it had, and by no birth.
	who.Born, _ = born(w.node.Pid)
	if err := writeJSON(filepath.Join(w.dir, PIDFile), who); err != nil {
		return err
	}
	return up(who)
}

// guard ends the node when that is asked for, or when the lease lapses. The
// lease is a change of the file's content, however it came about: clocks, also
// those of file systems, may jump.
func (w *watcher) guard(asked context.Context) {
	defer close(w.guardDone)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	content, renewed := w.leaseContent(), time.Now()
	for {
		select {
		case <-w.ended:
			return
		case <-asked.Done():
			w.asked = true
		case <-tick.C:
			if now := w.leaseContent(); now != content {
				content, renewed = now, time.Now()
			}
			w.asked = exists(filepath.Join(w.dir, StopFile))
			w.lapsed = time.Since(renewed) >= w.lease
		}
		if w.asked || w.lapsed {
			w.log.Info("ending the node", "asked", w.asked, "lease_lapsed", w.lapsed)
			w.end()
			return
		}
	}
}

// end asks the node to end, and makes it when it does not.
func (w *watcher) end() {
	w.signalNode(syscall.SIGTERM)
	select {
	case <-w.ended:
	case <-time.After(termGrace):
		w.log.Warn("the node does not end by itself", "after", termGrace)
		w.signalNode(syscall.SIGKILL)
	}
}

// signalNode sends a signal to the node itself, unless it has ended.
func (w *watcher) signalNode(sig syscall.Signal) {
	if err := w.node.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		w.log.Error("signal the node", "signal", sig, "err", err)
	}
	if sig == syscall.SIGTERM { // a node that a fault has stopped could not hear it
		_ = w.node.Signal(syscall.SIGCONT)
	}
}

// killGroup kills what is left of the node's group once the node has ended. As
// long as there is anything, the number belongs to the group.
func (w *watcher) killGroup() {
	if err := syscall.Kill(-w.node.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) && !errors.Is(err, syscall.EPERM) {
		w.log.Error("kill the node's group", "err", err)
	}
}

// record writes exit.json.
func (w *watcher) record(state *os.ProcessState) error {
	<-w.guardDone
	end := Ended{Asked: w.asked, StartedAt: w.started.UTC(), EndedAt: time.Now().UTC()}
	end.Exit = evidence.Exit{Code: state.ExitCode(), Lease: w.lapsed, Tail: tail(filepath.Join(w.dir, LogFile))}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		end.Code, end.Signal = -1, strings.TrimPrefix(unix.SignalName(status.Signal()), "SIG")
	}
	w.log.Info("the node has ended", "code", end.Code, "signal", end.Signal)
	return writeJSON(filepath.Join(w.dir, ExitFile), end)
}

func (w *watcher) leaseContent() string {
	content, err := os.ReadFile(filepath.Join(w.dir, LeaseFile))
	if err != nil {
		return ""
	}
	return string(content)
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}
