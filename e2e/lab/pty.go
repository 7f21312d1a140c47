//go:build linux

package lab

import (
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// pty is a pseudo terminal for people who log in to look around.
type pty struct {
	master *os.File
	slave  *os.File // closed once the command has it
	term   string
}

// openPTY makes a terminal of the size that a pty-req asks for (RFC 4254, 6.2).
func (s *session) openPTY(payload []byte) bool {
	var m struct {
		Term                 string
		Columns, Rows        uint32
		PixelsWide, PixelsHi uint32
		Modes                string
	}
	if ssh.Unmarshal(payload, &m) != nil {
		return false
	}
	p, err := newPTY()
	if err != nil {
		s.log.Warn("no terminal", "err", err)
		return false
	}
	p.term = m.Term
	s.pty = p
	s.closers = append(s.closers, func() { p.master.Close(); p.slave.Close() })
	return p.resize(m.Columns, m.Rows) == nil
}

func newPTY() (*pty, error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/ptmx: %w", err)
	}
	master := os.NewFile(uintptr(fd), "/dev/ptmx")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		master.Close()
		return nil, fmt.Errorf("unlock the terminal: %w", err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		master.Close()
		return nil, fmt.Errorf("ask for the terminal's number: %w", err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		master.Close()
		return nil, err
	}
	return &pty{master: master, slave: slave}, nil
}

func (p *pty) resizeFrom(payload []byte) error {
	var m struct{ Columns, Rows, PixelsWide, PixelsHi uint32 }
	if err := ssh.Unmarshal(payload, &m); err != nil {
		return err
	}
	return p.resize(m.Columns, m.Rows)
}

func (p *pty) resize(columns, rows uint32) error {
	conn, err := p.master.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = conn.Control(func(fd uintptr) {
		set = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: uint16(columns), Row: uint16(rows)})
	})
	if err != nil {
		return err
	}
	return set
}

// startOnPTY runs argv as the leader of the terminal's session. Closing the
// terminal's master hangs it up.
func (s *session) startOnPTY(argv []string) error {
	tty := s.pty.slave
	pid, ended, err := s.reaper.start("/bin/sh", argv, &os.ProcAttr{Dir: home, Env: append(s.env, "TERM="+s.pty.term),
		Files: []*os.File{tty, tty, tty}, Sys: &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}})
	tty.Close()
	if err != nil {
		return err
	}
	s.pid = pid
	go func() { _, _ = io.Copy(s.pty.master, s.ch) }()
	var copies sync.WaitGroup
	copies.Go(func() { _, _ = io.Copy(s.ch, s.pty.master) }) // ends with EIO when the last user of the terminal has gone
	go s.finish(ended, &copies)
	return nil
}
