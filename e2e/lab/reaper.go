//go:build linux

package lab

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// reaper waits for every child of PID 1: those that were started here, and
// orphans, which the kernel gives to PID 1. os/exec cannot be used beside it,
// since each would take the other's children.
type reaper struct {
	mu       sync.Mutex // guards the field below, and holds off reaping while a child starts
	awaiting map[int]chan<- syscall.WaitStatus
}

func newReaper() *reaper {
	r := &reaper{awaiting: map[int]chan<- syscall.WaitStatus{}}
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	go func() {
		for range died {
			r.reap()
		}
	}()
	return r
}

// start runs a program. Its end comes once through the channel.
func (r *reaper) start(path string, argv []string, attr *os.ProcAttr) (pid int, ended <-chan syscall.WaitStatus, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := os.StartProcess(path, argv, attr)
	if err != nil {
		return 0, nil, err
	}
	defer p.Release()
	c := make(chan syscall.WaitStatus, 1)
	r.awaiting[p.Pid] = c
	return p.Pid, c, nil
}

func (r *reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var s syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &s, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if c, ok := r.awaiting[pid]; ok {
			delete(r.awaiting, pid)
			c <- s
		}
	}
}
