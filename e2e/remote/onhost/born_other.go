//go:build !linux

package onhost

import (
	"fmt"
	"slices"
	"strconv"
	"syscall"

	ps "github.com/shirou/gopsutil/v4/process"
)

// born tells when a process began, in a form that no other process of this
// number has: milliseconds since 1970, as the kernel keeps them. A process that
// has ended and only waits to be reaped counts as gone.
func born(pid int) (string, error) {
	p, err := ps.NewProcess(int32(pid))
	if err != nil {
		return "", err
	}
	if states, err := p.Status(); err == nil && slices.Contains(states, ps.Zombie) {
		return "", fmt.Errorf("process %d has ended", pid)
	}
	ms, err := p.CreateTime()
	return strconv.FormatInt(ms, 10), err
}

// nodeAttr gives the node a group of its own, which is ended as a whole. Where
// there is no Linux, a node outlives a supervisor that is killed; cleaning finds it.
func nodeAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
