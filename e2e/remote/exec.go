package remote

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	// maxOutput bounds what a command may print. Files are for more.
	maxOutput = 64 << 20
	// A command that is to end gets this long after SIGTERM, and this long after
	// SIGKILL, before it is left to itself.
	termGrace = time.Second
	killGrace = time.Second
	// A kill of our own takes a session, over a slow line.
	killTimeout = 5 * time.Second
)

var errTooMuch = fmt.Errorf("it printed more than %d MB", maxOutput>>20)

// Exec runs argv through the login shell there, which is made to add nothing.
func (m *machine) Exec(ctx context.Context, argv []string, stdin io.Reader) (Result, error) {
	return m.exec(ctx, argv, stdin, io.Discard)
}

// ExecLive runs argv and copies its stderr as it comes.
func (m *machine) ExecLive(ctx context.Context, argv []string, live io.Writer) (Result, error) {
	return m.exec(ctx, argv, nil, live)
}

func (m *machine) exec(ctx context.Context, argv []string, stdin io.Reader, live io.Writer) (Result, error) {
	if len(argv) == 0 {
		return Result{}, errors.New("run nothing: no command was given")
	}
	select {
	case m.sessions <- struct{}{}:
		defer func() { <-m.sessions }()
	case <-ctx.Done():
		return Result{}, m.execErr(argv, context.Cause(ctx))
	}
	var res Result
	err := m.using(ctx, func(l *link) (begun bool, err error) {
		session, err := openSession(ctx, l)
		if err != nil {
			return false, err
		}
		defer session.Close()
		res, err = m.runSession(ctx, l, session, argv, stdin, live)
		return true, err
	})
	if err != nil {
		return res, m.execErr(argv, err)
	}
	return res, nil
}

func (m *machine) execErr(argv []string, err error) error {
	return fmt.Errorf("run %s on %s: %w", argv[0], m.s.target, err)
}

// openSession opens a session. We keep below sshd's limit on their number, but
// the server counts one until it has noticed its end: so a refusal is met with
// patience.
func openSession(ctx context.Context, l *link) (*ssh.Session, error) {
	patience := time.Now().Add(sessionPatience)
	for {
		session, err := askSession(ctx, l)
		var refused *ssh.OpenChannelError
		if !errors.As(err, &refused) || time.Now().After(patience) || ctx.Err() != nil {
			return session, err
		}
		pause(ctx, 50*time.Millisecond)
	}
}

// sessionPatience is for a busy server to notice that a child has ended.
const sessionPatience = 5 * time.Second

// askSession asks for a session, or gives up when ctx is done, since a line that has
// just gone dead says nothing at all, or when the connection ends: what is asked for in
// that very moment, x/crypto/ssh never answers.
func askSession(ctx context.Context, l *link) (*ssh.Session, error) {
	type opened struct {
		session *ssh.Session
		err     error
	}
	got := make(chan opened, 1)
	go func() {
		s, err := l.client.NewSession()
		got <- opened{s, err}
	}()
	select {
	case o := <-got:
		var refused *ssh.OpenChannelError
		if o.err != nil && !errors.As(o.err, &refused) {
			l.close()
			select {
			case <-l.dead: // watch gets there by itself
			case <-ctx.Done():
			}
		}
		return o.session, o.err
	case <-l.dead:
		return nil, ErrLost
	case <-ctx.Done():
		go func() { // whoever comes too late is sent away
			select {
			case o := <-got:
				if o.session != nil {
					o.session.Close()
				}
			case <-l.dead:
			}
		}()
		return nil, context.Cause(ctx)
	}
}

// runSession runs argv in a session and waits for its end, or for ctx's.
func (m *machine) runSession(ctx context.Context, l *link, session *ssh.Session, argv []string, stdin io.Reader, live io.Writer) (Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stdout, stderr := &printed{full: cancel}, &printed{full: cancel, live: live}
	session.Stdout, session.Stderr = stdout, stderr
	in, err := session.StdinPipe()
	if err != nil {
		return Result{}, err
	}
	mark := "wce2e-" + rand.Text()
	ended := make(chan error, 1)
	go func() {
		if err := session.Start(shellCommand(mark, argv)); err != nil {
			ended <- fmt.Errorf("start: %w", err)
			return
		}
		go feed(in, stdin)
		ended <- session.Wait()
	}()
	select {
	case err = <-ended:
	case <-ctx.Done():
		pid, _, _ := cutMark(mark, stdout.bytes())
		m.endCommand(l, session, pid, ended)
		res, _ := settle(mark, stdout.bytes(), stderr.bytes(), nil) // the end that was asked for says more than what came of it
		return res, context.Cause(ctx)
	}
	return settle(mark, stdout.bytes(), stderr.bytes(), err)
}

// feed gives a command its input. It is not waited for: a command may end
// without having read it all.
func feed(in io.WriteCloser, from io.Reader) {
	if from != nil {
		_, _ = io.Copy(in, from) // an error means that the command has ended, or will notice that its input did
	}
	in.Close()
}

// endCommand ends a command: SIGTERM, SIGKILL, and the session closed under it.
// Signals go as the SSH protocol has them and, since OpenSSH refuses that to
// root and old servers know nothing of it, by kill in a session of its own.
func (m *machine) endCommand(l *link, session *ssh.Session, pid int, ended <-chan error) {
	for _, step := range []struct {
		do    func()
		grace time.Duration
	}{
		{func() { _ = session.Signal(ssh.SIGTERM); m.kill(l, "TERM", pid) }, termGrace},
		{func() { _ = session.Signal(ssh.SIGKILL); m.kill(l, "KILL", pid) }, killGrace},
		{func() { session.Close() }, killGrace},
	} {
		go step.do() // it may block on a dead line
		select {
		case <-ended:
			return
		case <-time.After(step.grace):
		}
	}
}

// kill sends a signal to a command and its children. Commands have a session,
// and so a group, of their own. A failure shows in that the command goes on.
func (m *machine) kill(l *link, signal string, pid int) {
	if pid <= 1 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	select {
	case m.kills <- struct{}{}:
		defer func() { <-m.kills }()
	case <-ctx.Done():
		return
	}
	session, err := openSession(ctx, l)
	if err != nil {
		return
	}
	defer session.Close()
	stop := context.AfterFunc(ctx, func() { session.Close() })
	defer stop()
	_ = session.Run(fmt.Sprintf("kill -%s -%d", signal, pid))
}

// settle makes a Result of what a session gave.
func settle(mark string, stdout, stderr []byte, err error) (Result, error) {
	_, ours, began := cutMark(mark, stdout)
	res := Result{Stdout: ours, Stderr: stderr}
	var exit *ssh.ExitError
	var missing *ssh.ExitMissingError
	switch {
	case errors.As(err, &exit) && exit.Signal() != "":
		res.Code, res.Signal = -1, exit.Signal()
	case errors.As(err, &exit):
		res.Code = exit.ExitStatus()
	case errors.As(err, &missing) || isBroken(err):
		return res, ErrLost
	case err != nil:
		return res, err
	}
	if !began && (err == nil || exit != nil) {
		return res, fmt.Errorf("the login shell there did not run it: exit %d: %s", res.Code, firstLine(append(stdout, stderr...)))
	}
	return res, nil
}

// printed collects what a command prints, from the goroutine that reads it.
type printed struct {
	full context.CancelCauseFunc // called when it is too much
	live io.Writer               // gets a copy; nil: nobody does
	mu   sync.Mutex              // guards buf, and keeps copies in order
	buf  bytes.Buffer
}

func (o *printed) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.buf.Len()+len(p) > maxOutput {
		o.full(errTooMuch)
		return len(p), nil
	}
	if o.live != nil {
		_, _ = o.live.Write(p) // by its contract an error is nobody's
	}
	return o.buf.Write(p)
}

func (o *printed) bytes() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Clone(o.buf.Bytes())
}
