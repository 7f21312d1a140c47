package onhost

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Running is pid.json: who runs in a folder.
type Running struct {
	PID        int       `json:"pid"`        // of the node
	Born       string    `json:"born"`       // tells it from a later process with its number
	Supervisor int       `json:"supervisor"` // PID
	SuperBorn  string    `json:"supervisor_born"`
	StartedAt  time.Time `json:"started_at"`
	Args       []string  `json:"args"`
}

// ErrNotRunning tells that the process that was meant has ended.
var ErrNotRunning = errors.New("it does not run any more")

// Signal sends a signal to the node of a folder: a fault on purpose, say. name
// is as in KILL or SIGKILL.
func Signal(dir, name string) error {
	sig := unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(name), "SIG"))
	if sig == 0 {
		return fmt.Errorf("signal %q: there is none of that name", name)
	}
	who, err := readRunning(dir)
	if err != nil {
		return err
	}
	if err := sendSignal(who.PID, who.Born, sig); err != nil {
		return fmt.Errorf("send SIG%s to the node of %s: %w", strings.TrimPrefix(strings.ToUpper(name), "SIG"), dir, err)
	}
	return nil
}

// sendSignal sends sig to a process, unless its number now belongs to another one.
func sendSignal(pid int, birth string, sig syscall.Signal) error {
	p, err := os.FindProcess(pid) // on Linux a handle that stays with this process
	if err != nil {
		return ErrNotRunning
	}
	defer p.Release()
	if now, err := born(pid); err != nil || now != birth {
		return ErrNotRunning
	}
	if err := p.Signal(sig); errors.Is(err, os.ErrProcessDone) {
		return ErrNotRunning
	} else if err != nil {
		return err
	}
	return nil
}

// runs tells whether a process still runs.
func runs(pid int, birth string) bool {
	now, err := born(pid)
	return err == nil && now == birth
}

func readRunning(dir string) (Running, error) {
	var who Running
	err := readJSON(filepath.Join(dir, PIDFile), &who)
	if errors.Is(err, fs.ErrNotExist) {
		return Running{}, fmt.Errorf("no node was started in %s", dir)
	}
	return who, err
}

func readJSON(name string, v any) error {
	content, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(content, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// writeJSON writes a file so that a reader sees all of it or nothing.
func writeJSON(name string, v any) error {
	content, err := json.Marshal(v)
	if err != nil {
		return err
	}
	part := name + ".part"
	if err := os.WriteFile(part, append(content, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(part, name)
}
