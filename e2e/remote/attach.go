package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Command is something that a person runs on a machine, with streams of their
// own: nothing of them is kept or looked at. The zero Command is a login shell
// without input.
type Command struct {
	Argv           []string  // empty: the login shell
	Stdin          io.Reader // nil: none
	Stdout, Stderr io.Writer // nil: discarded. With a terminal, all output is Stdout's
	Terminal       *Terminal // nil: none
}

// Terminal is what a person sits at.
type Terminal struct {
	Kind    string // as TERM names it; empty means dumb
	Size    Size
	Resized <-chan Size // nil: it never is
}

// Size of a terminal, in characters.
type Size struct{ Width, Height int }

// Attach runs c on a machine and waits for its end. A command that ran and failed
// is no error: see Result.Code; the Result holds no output. target is as for
// Dial, but for Local. Cancelling ctx ends the command's session; the command may
// go on if it has no terminal, as with ssh.
func Attach(ctx context.Context, target string, cfg Config, c Command) (Result, error) {
	res, err := attach(ctx, target, cfg, c)
	if err != nil && len(c.Argv) > 0 {
		return res, fmt.Errorf("run %s on %s: %w", c.Argv[0], target, err)
	}
	return res, err
}

func attach(ctx context.Context, target string, cfg Config, c Command) (Result, error) {
	s, err := settingsOf(ctx, cfg, target)
	if err != nil {
		return Result{}, err
	}
	l, err := openLink(ctx, cfg, s, maxHops)
	if err != nil {
		return Result{}, err
	}
	defer l.close()
	session, err := openSession(ctx, l)
	if err != nil {
		return Result{}, err
	}
	defer session.Close()
	stop := context.AfterFunc(ctx, func() {
		_ = session.Signal(ssh.SIGTERM) // servers that know it end the command by it, the others by the closing
		l.close()
	})
	defer stop()
	if err := c.start(session); err != nil {
		return Result{}, err
	}
	res, err := ended(session.Wait())
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return res, err
}

// start wires the streams and runs the command. The library's own copying of
// standard input would make Wait wait for the next key that somebody types.
func (c Command) start(session *ssh.Session) error {
	session.Stdout, session.Stderr = c.Stdout, c.Stderr
	in, err := session.StdinPipe()
	if err != nil {
		return err
	}
	if err := c.openTerminal(session); err != nil {
		return err
	}
	if len(c.Argv) == 0 {
		err = session.Shell()
	} else {
		err = session.Start(commandLine(c.Argv))
	}
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	go feed(in, c.Stdin)
	return nil
}

func (c Command) openTerminal(session *ssh.Session) error {
	t := c.Terminal
	if t == nil {
		return nil
	}
	// The modes are the server's own: what matters, that the near end is raw, is ours.
	if err := session.RequestPty(or(t.Kind, "dumb"), t.Size.Height, t.Size.Width, ssh.TerminalModes{}); err != nil {
		return fmt.Errorf("ask for a terminal: %w", err)
	}
	go func() {
		for size := range t.Resized {
			_ = session.WindowChange(size.Height, size.Width) // a session that has ended has no size
		}
	}()
	return nil
}

// commandLine makes any login shell run argv. Unlike shellCommand it prints no
// mark, since whatever comes is for a person.
func commandLine(argv []string) string {
	words := make([]string, len(argv))
	for i, w := range argv {
		words[i] = quote(w)
	}
	return "exec /bin/sh -c '" + innermost("exec "+strings.Join(words, " ")) + "'"
}

// ended makes a Result of what Wait returned.
func ended(err error) (Result, error) {
	var exit *ssh.ExitError
	var missing *ssh.ExitMissingError
	switch {
	case errors.As(err, &exit) && exit.Signal() != "":
		return Result{Code: -1, Signal: exit.Signal()}, nil
	case errors.As(err, &exit):
		return Result{Code: exit.ExitStatus()}, nil
	case errors.As(err, &missing) || isBroken(err):
		return Result{}, ErrLost
	}
	return Result{}, err
}
