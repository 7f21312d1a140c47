//go:build linux

package lab

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"sync"
	"syscall"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// session is one SSH session channel: one command, shell or file transfer
// (RFC 4254, section 6).
type session struct {
	ch     ssh.Channel
	reaper *reaper
	log    *slog.Logger
	env    []string
	pty    *pty // nil without a terminal

	started bool
	pid     int           // of the command, which leads a process group; 0 without one
	closers []func()      // let go of the command's pipes when the channel closes
	ended   chan struct{} // closed when the command has
	replied chan struct{} // closed when the request that started it is answered
}

func newSession(ch ssh.Channel, r *reaper, log *slog.Logger, env []string) *session {
	return &session{ch: ch, reaper: r, log: log, env: slices.Clone(env), ended: make(chan struct{}), replied: make(chan struct{})}
}

// environment is what every process of a host has.
func environment() []string {
	return []string{"HOME=" + home, "USER=" + login, "LOGNAME=" + login, "SHELL=/bin/sh",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
}

// handle answers requests until the channel closes. A command without a terminal
// lives on then, as it does under OpenSSH; one with a terminal gets SIGHUP.
func (s *session) handle(requests <-chan *ssh.Request) {
	for q := range requests {
		before := s.started
		ok := s.request(q)
		if q.WantReply {
			_ = q.Reply(ok, nil) // a channel that has gone ends the loop
		}
		if s.started && !before {
			close(s.replied)
		}
	}
	for _, c := range s.closers {
		c()
	}
	_ = s.ch.Close()
}

func (s *session) request(q *ssh.Request) bool {
	switch q.Type {
	case "env":
		return s.setEnv(q.Payload)
	case "pty-req":
		return !s.started && s.pty == nil && s.openPTY(q.Payload)
	case "window-change":
		return s.pty != nil && s.pty.resizeFrom(q.Payload) == nil
	case "exec":
		var m struct{ Command string }
		return ssh.Unmarshal(q.Payload, &m) == nil && s.run([]string{"sh", "-c", m.Command})
	case "shell":
		return s.run([]string{"-sh"}) // a leading dash makes it a login shell
	case "subsystem":
		var m struct{ Name string }
		return ssh.Unmarshal(q.Payload, &m) == nil && m.Name == "sftp" && s.serveFiles()
	case "signal":
		return s.signal(q.Payload)
	}
	return false // agent and X11 forwarding among them
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (s *session) setEnv(payload []byte) bool {
	var m struct{ Name, Value string }
	if ssh.Unmarshal(payload, &m) != nil || !envName.MatchString(m.Name) || s.started {
		return false
	}
	s.env = append(s.env, m.Name+"="+m.Value)
	return true
}

func (s *session) signal(payload []byte) bool {
	var m struct{ Name string }
	if ssh.Unmarshal(payload, &m) != nil || s.pid == 0 {
		return false
	}
	select {
	case <-s.ended:
		return false // its number may be another's by now
	default:
	}
	n := unix.SignalNum("SIG" + m.Name)
	return n != 0 && unix.Kill(-s.pid, n) == nil
}

// run starts a command of the login's shell.
func (s *session) run(argv []string) bool {
	if s.started {
		return false
	}
	s.started = true
	start := s.startPiped
	if s.pty != nil {
		start = s.startOnPTY
	}
	if err := start(argv); err != nil {
		s.log.Warn("a command did not start", "err", err)
		return false
	}
	return true
}

// startPiped runs argv with pipes, in a session of its own.
func (s *session) startPiped(argv []string) error {
	var pipes [3]struct{ r, w *os.File }
	for i := range pipes {
		var err error
		if pipes[i].r, pipes[i].w, err = os.Pipe(); err != nil {
			return err
		}
	}
	in, out, stderr := pipes[0], pipes[1], pipes[2]
	pid, ended, err := s.reaper.start("/bin/sh", argv, &os.ProcAttr{Dir: home, Env: s.env,
		Files: []*os.File{in.r, out.w, stderr.w}, Sys: &syscall.SysProcAttr{Setsid: true}})
	in.r.Close()
	out.w.Close()
	stderr.w.Close()
	if err != nil {
		return errors.Join(err, in.w.Close(), out.r.Close(), stderr.r.Close())
	}
	s.pid = pid
	s.closers = append(s.closers, func() { in.w.Close(); out.r.Close(); stderr.r.Close() })
	go func() {
		_, _ = io.Copy(in.w, s.ch) // a command need not read all of its input
		in.w.Close()
	}()
	var copies sync.WaitGroup
	copies.Go(func() { _, _ = io.Copy(s.ch, out.r) })
	copies.Go(func() { _, _ = io.Copy(s.ch.Stderr(), stderr.r) })
	go s.finish(ended, &copies)
	return nil
}

// finish reports the command's end, and closes the channel when all that it and
// its children had to say is through. A command can be faster than the answer to
// the request that started it, which has to come first.
func (s *session) finish(ended <-chan syscall.WaitStatus, copies *sync.WaitGroup) {
	status := <-ended
	close(s.ended)
	<-s.replied
	s.report(status)
	copies.Wait()
	_ = s.ch.CloseWrite()
	_ = s.ch.Close()
}

func (s *session) report(status syscall.WaitStatus) {
	if !status.Signaled() {
		_, _ = s.ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(status.ExitStatus())}))
		return
	}
	name := unix.SignalName(status.Signal())
	_, _ = s.ch.SendRequest("exit-signal", false, ssh.Marshal(struct {
		Signal     string
		CoreDumped bool
		Message    string
		Language   string
	}{name[len("SIG"):], status.CoreDump(), "", ""}))
}

// serveFiles is the sftp subsystem. It runs in this process, which sees the
// host's file system only.
func (s *session) serveFiles() bool {
	if s.started {
		return false
	}
	s.started = true
	server, err := sftp.NewServer(s.ch, sftp.WithServerWorkingDirectory(home))
	if err != nil {
		s.log.Warn("sftp did not start", "err", err)
		return false
	}
	go func() {
		code := 0
		if err := server.Serve(); err != nil && !errors.Is(err, io.EOF) {
			s.log.Debug("sftp ended", "err", err)
			code = 1
		}
		<-s.replied
		s.report(syscall.WaitStatus(code << 8))
		_ = s.ch.Close()
	}()
	return true
}
