//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// screen is a terminal with a person at it.
type screen struct {
	t      *testing.T
	master *os.File
	shown  string
}

// newScreen opens a pseudo terminal; the program gets the other end.
func newScreen(t *testing.T, columns, rows uint16) (*screen, *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skipf("SKIPPED: no terminal can be had: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.SetNonblock(fd, true); err != nil { // which Fd has undone
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	s := &screen{t: t, master: master}
	s.resize(columns, rows)
	return s, tty
}

func (s *screen) resize(columns, rows uint16) {
	if err := unix.IoctlSetWinsize(int(s.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *screen) press(keys string) {
	if _, err := io.WriteString(s.master, keys); err != nil {
		s.t.Fatal(err)
	}
}

// await waits until what was shown since the last await matches.
func (s *screen) await(pattern string) {
	s.t.Helper()
	want := regexp.MustCompile(pattern)
	deadline := time.Now().Add(30 * time.Second)
	buf := make([]byte, 4096)
	for {
		if at := want.FindStringIndex(s.shown); at != nil {
			s.shown = s.shown[at[1]:]
			return
		}
		left := time.Until(deadline)
		if left <= 0 {
			s.t.Fatalf("the screen does not show %s, but %q", pattern, s.shown)
		}
		poll := []unix.PollFd{{Fd: int32(s.master.Fd()), Events: unix.POLLIN}}
		if n, _ := unix.Poll(poll, int(left.Milliseconds())); n > 0 {
			n, err := unix.Read(int(s.master.Fd()), buf)
			if err != nil {
				s.t.Fatalf("the screen went dark before it showed %s: %v; it had %q", pattern, err, s.shown)
			}
			s.shown += string(buf[:n])
		}
	}
}

func TestAShellHasTheTerminalOfThePersonInFrontOfIt(t *testing.T) {
	l := startLab(t, t.TempDir(), "inventory/lab.yaml")
	s, tty := newScreen(t, 97, 31)
	before, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	cmd := l.command("lab", "shell", "tensor02")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.await(`[#$] `)
	s.press("stty size; tty; echo $TERM\r")
	s.await(`\n31 97\r\n/dev/pts/\d+\r\nvt220\r\n`)
	s.press("echo began; sleep 1000\r")
	s.await(`\nbegan\r\n`)
	s.press("\x03") // Ctrl-C is for the program there
	s.await(`[#$] `)
	s.resize(50, 20)
	s.press("until stty size | grep -q '20 50'; do sleep 0.1; done; echo resized\r")
	s.await(`\nresized\r\n`)
	s.press("exit 3\r")
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("the shell ended with 3, and this command with %v", err)
	}
	after, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	if *after != *before {
		t.Errorf("the terminal is left as %+v, and was %+v", after, before)
	}
}
