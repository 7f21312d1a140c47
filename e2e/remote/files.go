package remote

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/pkg/sftp"
)

// filesGrace is how long a transfer that is to end may take to notice, before
// its connection is closed under it.
const filesGrace = 2 * time.Second

// Upload writes a file over SFTP: under another name first, then renamed.
func (m *machine) Upload(ctx context.Context, name string, mode uint32, content io.Reader) error {
	name = m.abs(name)
	up := &upload{target: m.s.target, name: name, mode: os.FileMode(mode), size: sizeOf(content), content: &cancellable{ctx: ctx, from: content}}
	err := m.withFiles(ctx, up.to)
	return m.fileErr("write", name, err)
}

// ReadFrom reads a part of a regular file over SFTP.
func (m *machine) ReadFrom(ctx context.Context, name string, offset, limit int64) ([]byte, error) {
	name = m.abs(name)
	var got []byte
	err := m.withFiles(ctx, func(c *sftp.Client) (begun bool, err error) {
		got, err = readPart(c, name, offset, limit)
		return false, err // reading twice does no harm
	})
	return got, m.fileErr("read", name, err)
}

func (m *machine) fileErr(operation, name string, err error) error {
	var full *NoSpace
	if err == nil || errors.As(err, &full) {
		return err
	}
	return fmt.Errorf("%s %s on %s: %w", operation, name, m.s.target, err)
}

// withFiles calls do with an SFTP session, and sees to it that it comes back
// soon after ctx is done. do is called again, as in using, when the session was
// lost before it began anything.
func (m *machine) withFiles(ctx context.Context, do func(*sftp.Client) (begun bool, err error)) error {
	type outcome struct {
		begun bool
		err   error
	}
	return m.using(ctx, func(l *link) (bool, error) {
		client, err := l.files()
		if err != nil {
			return false, err
		}
		done := make(chan outcome, 1)
		go func() {
			begun, err := do(client)
			done <- outcome{begun, err}
		}()
		var came outcome
		select {
		case came = <-done:
		case <-ctx.Done():
			select {
			case <-done:
			case <-time.After(filesGrace):
				l.close()
				<-done // everything that waits on the line has failed with it
			}
			return true, context.Cause(ctx)
		}
		if ctx.Err() != nil && came.err != nil {
			return true, context.Cause(ctx)
		}
		if errors.Is(came.err, sftp.ErrSSHFxConnectionLost) || isBroken(came.err) {
			l.lostFiles(client)
			return came.begun, fmt.Errorf("%w: %w", ErrLost, came.err)
		}
		return came.begun, came.err
	})
}

func readPart(c *sftp.Client, name string, offset, limit int64) ([]byte, error) {
	f, err := c.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	buf := make([]byte, max(0, min(limit, info.Size()-offset)))
	n, err := f.ReadAt(buf, offset)
	if errors.Is(err, io.EOF) { // it has become shorter since
		err = nil
	}
	return buf[:n], err
}

// upload is one file on its way.
type upload struct {
	target  string
	name    string // absolute
	mode    os.FileMode
	size    int64 // -1: not known
	sent    int64
	free    int64 // before; only where it paid to ask
	content io.Reader
}

func (u *upload) to(c *sftp.Client) (begun bool, err error) {
	dir := path.Dir(u.name)
	part := path.Join(dir, "."+path.Base(u.name)+"."+rand.Text()[:8]+".part")
	f, err := create(c, part)
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeDirs(c, dir); err == nil {
			f, err = create(c, part)
		}
	}
	if err != nil {
		return false, u.explain(c, dir, err)
	}
	err = u.fill(c, f)
	if err == nil {
		err = rename(c, part, u.name)
	}
	if err == nil {
		return true, nil
	}
	err = u.explain(c, dir, err)
	if rerr := c.Remove(part); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) && !isBroken(rerr) {
		err = errors.Join(err, fmt.Errorf("remove %s: %w", part, rerr))
	}
	return true, err
}

func create(c *sftp.Client, name string) (*sftp.File, error) {
	return c.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
}

// fill writes the content and closes the file.
func (u *upload) fill(c *sftp.Client, f *sftp.File) error {
	err := f.Chmod(u.mode) // before the content: it may be a secret
	if err == nil {
		err = u.checkSpace(c)
	}
	if err == nil {
		u.sent, err = f.ReadFromWithConcurrency(u.content, 0)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// worthAsking is the size from which it pays to ask for the free space first.
const worthAsking = 1 << 20

func (u *upload) checkSpace(c *sftp.Client) error {
	if 0 <= u.size && u.size < worthAsking {
		return nil
	}
	if u.free = freeAt(c, path.Dir(u.name)); u.free >= 0 && u.free < u.size {
		return &NoSpace{Target: u.target, Path: u.name, Need: u.size, Free: u.free}
	}
	return nil
}

// explain tells whether a failure was for want of space. SFTP's version 3 has no
// word for it: OpenSSH just says "Failure".
func (u *upload) explain(c *sftp.Client, dir string, err error) error {
	var status *sftp.StatusError
	if !errors.As(err, &status) || status.Code != sftpFailure && status.Code != sftpNoSpace {
		return err
	}
	const inFlight = 4 << 20 // bytes that a server may have refused and freed by now
	free := freeAt(c, dir)
	isFull := free >= 0 && (free < max(u.size-u.sent, 1) || u.sent > 0 && free < inFlight)
	if status.Code != sftpNoSpace && !isFull {
		return err
	}
	return &NoSpace{Target: u.target, Path: u.name, Need: u.size, Free: max(free, u.free), Cause: err}
}

// Status codes of SFTP: draft-ietf-secsh-filexfer-02 (version 3) section 7, and -13 section 9.1.
const (
	sftpFailure = 4
	sftpNoSpace = 14
)

// freeAt gives the bytes that may still be written in dir; -1 when the server
// does not tell (OpenSSH's and pkg/sftp's do).
func freeAt(c *sftp.Client, dir string) int64 {
	vfs, err := c.StatVFS(dir)
	if err != nil {
		return -1
	}
	return int64(vfs.Bavail * vfs.Frsize)
}

// makeDirs makes what is missing of a folder, for its owner alone.
func makeDirs(c *sftp.Client, dir string) error {
	if info, err := c.Stat(dir); err == nil {
		if !info.IsDir() {
			return fmt.Errorf("%s is not a folder", dir)
		}
		return nil
	}
	if dir == "/" || dir == "." {
		return fmt.Errorf("%s: %w", dir, fs.ErrNotExist)
	}
	if err := makeDirs(c, path.Dir(dir)); err != nil {
		return err
	}
	if err := c.Mkdir(dir); err != nil {
		if info, serr := c.Stat(dir); serr == nil && info.IsDir() { // somebody else was quicker
			return nil
		}
		return fmt.Errorf("make folder %s: %w", dir, err)
	}
	return c.Chmod(dir, 0o700)
}

// rename puts a file in the place of another, atomically where the server can.
func rename(c *sftp.Client, from, to string) error {
	if _, can := c.HasExtension("posix-rename@openssh.com"); can {
		return c.PosixRename(from, to)
	}
	if err := c.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return c.Rename(from, to)
}

// sizeOf tells how much a reader will give; -1 when it does not say.
func sizeOf(r io.Reader) int64 {
	switch r := r.(type) {
	case interface{ Len() int }:
		return int64(r.Len())
	case interface{ Stat() (os.FileInfo, error) }:
		if info, err := r.Stat(); err == nil && info.Mode().IsRegular() {
			return info.Size()
		}
	}
	return -1
}

// cancellable is a reader that ends with ctx.
type cancellable struct {
	ctx  context.Context
	from io.Reader
}

func (c *cancellable) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.from.Read(p)
}
