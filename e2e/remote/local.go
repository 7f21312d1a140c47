package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// local is this machine, without SSH.
type local struct{ home string }

func newLocal() (*local, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, fmt.Errorf("find the home directory of this machine: %w", err)
	}
	// As SFTP's realpath does for other machines: a path of the home is compared
	// with those of running programs, which are resolved.
	if home, err = filepath.EvalSymlinks(home); err != nil {
		return nil, fmt.Errorf("find the home directory of this machine: %w", err)
	}
	return &local{home: home}, nil
}

func (l *local) Home() string  { return l.home }
func (*local) HostKey() string { return "" }
func (*local) Close() error    { return nil }

// Exec runs argv in the home directory, as a login would.
func (l *local) Exec(ctx context.Context, argv []string, stdin io.Reader) (Result, error) {
	return l.exec(ctx, argv, stdin, io.Discard)
}

// ExecLive runs argv and copies its stderr as it comes.
func (l *local) ExecLive(ctx context.Context, argv []string, live io.Writer) (Result, error) {
	return l.exec(ctx, argv, nil, live)
}

func (l *local) exec(ctx context.Context, argv []string, stdin io.Reader, live io.Writer) (Result, error) {
	if len(argv) == 0 {
		return Result{}, errors.New("run nothing: no command was given")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	stdout, stderr := &printed{full: cancel}, &printed{full: cancel, live: live}
	cmd.Dir, cmd.Stdout, cmd.Stderr = l.home, stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the suite, which ends what it started
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = termGrace
	err := runFed(cmd, stdin)
	res := Result{Stdout: stdout.bytes(), Stderr: stderr.bytes()}
	if ctx.Err() != nil {
		if cmd.Process != nil {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what is left of its group, usually nothing
		}
		return res, fmt.Errorf("run %s: %w", argv[0], context.Cause(ctx))
	}
	return localResult(argv[0], res, cmd, err)
}

// runFed runs a command with an input that need not be read to its end.
func runFed(cmd *exec.Cmd, stdin io.Reader) error {
	if stdin == nil {
		return cmd.Run()
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	go feed(in, stdin)
	return cmd.Wait()
}

// localResult says how a command ended, in the words of a remote shell.
func localResult(name string, res Result, cmd *exec.Cmd, err error) (Result, error) {
	var exit *exec.ExitError
	var failed *exec.Error
	var path *fs.PathError
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay): // a child of its own still holds its output
	case errors.As(err, &exit):
	case errors.As(err, &failed) || errors.As(err, &path) && errors.Is(err, fs.ErrNotExist):
		res.Code, res.Stderr = 127, append(res.Stderr, (err.Error()+"\n")...)
		return res, nil
	case errors.Is(err, fs.ErrPermission):
		res.Code, res.Stderr = 126, append(res.Stderr, (err.Error()+"\n")...)
		return res, nil
	default:
		return res, fmt.Errorf("run %s: %w", name, err)
	}
	res.Code = cmd.ProcessState.ExitCode()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		res.Code, res.Signal = -1, strings.TrimPrefix(unix.SignalName(status.Signal()), "SIG")
	}
	return res, nil
}

// Upload writes a file under another name first, then renames it.
func (l *local) Upload(ctx context.Context, name string, mode uint32, content io.Reader) error {
	name = absolute(l.home, name)
	dir, size, sent := filepath.Dir(name), sizeOf(content), int64(0)
	err := os.MkdirAll(dir, 0o700)
	var part *os.File
	if err == nil {
		part, err = os.CreateTemp(dir, "."+filepath.Base(name)+".*.part")
	}
	if err == nil {
		err = part.Chmod(os.FileMode(mode))
		if err == nil {
			sent, err = io.Copy(part, &cancellable{ctx: ctx, from: content})
		}
		if err = errors.Join(err, part.Close()); err == nil {
			err = os.Rename(part.Name(), name)
		}
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		err = &NoSpace{Target: Local, Path: name, Need: size, Free: freeHere(dir, sent), Cause: err}
	} else if err != nil {
		err = fmt.Errorf("write %s: %w", name, err)
	}
	if err != nil && part != nil {
		err = errors.Join(err, os.Remove(part.Name()))
	}
	return err
}

// freeHere gives the bytes that were free in dir before sent were written; -1
// when the system does not tell.
func freeHere(dir string, sent int64) int64 {
	var vfs unix.Statfs_t
	if unix.Statfs(dir, &vfs) != nil {
		return -1
	}
	return int64(vfs.Bavail)*int64(vfs.Bsize) + sent
}

// ReadFrom reads a part of a file.
func (l *local) ReadFrom(_ context.Context, name string, offset, limit int64) ([]byte, error) {
	f, err := os.Open(absolute(l.home, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var part bytes.Buffer
	_, err = part.ReadFrom(io.NewSectionReader(f, offset, limit))
	return part.Bytes(), err
}
