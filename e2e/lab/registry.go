//go:build linux

package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Labs that stand are found through files in a folder of the user's own. The
// process that keeps a lab holds a lock on its file, which the kernel lets go
// with the process, however that ends: a file that can be locked tells of a lab
// that is no more.

// Register lets other processes of this user find the lab, by StandingLabs, until
// Close. It is for once in a lab's life.
func (l *Lab) Register(name string) error {
	if err := l.register(name); err != nil {
		return fmt.Errorf("let other commands find the lab: %w", err)
	}
	return nil
}

func (l *Lab) register(name string) error {
	dir, err := registry()
	if err != nil {
		return err
	}
	if err := ownFolder(dir); err != nil {
		return err
	}
	text, err := json.Marshal(Standing{Name: name, PID: os.Getpid(), Since: time.Now().UTC(),
		Dir: l.Dir, SSHConfig: l.SSHConfig, Hosts: l.Hosts, Routers: l.routers})
	if err != nil {
		return err
	}
	// Written under another name and locked before it has its own, so that nobody
	// finds half of it, or takes it for a dead lab's.
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	path := filepath.Join(dir, filepath.Base(l.Dir)+"-"+strconv.Itoa(os.Getpid())+entrySuffix)
	if err = errors.Join(err, unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()), f.Close())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entry, l.entryPath = f, path
	return nil
}

const entrySuffix = ".json"

// unregister takes the lab's file away, and the folder with the last of them.
func (l *Lab) unregister() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.entry == nil {
		return nil
	}
	err := errors.Join(os.Remove(l.entryPath), l.entry.Close())
	l.entry = nil
	_ = os.Remove(filepath.Dir(l.entryPath)) // refused while there are others
	return err
}

// StandingLabs are those that processes of this user have registered, the newest
// first. What labs that died have left of themselves is removed.
func StandingLabs() ([]Standing, error) {
	dir, err := registry()
	if err != nil {
		return nil, err
	}
	entries, err := filepath.Glob(filepath.Join(dir, "*"+entrySuffix))
	if err != nil || len(entries) == 0 {
		return nil, err
	}
	if err := isOwn(dir); err != nil {
		return nil, fmt.Errorf("look for labs: %w", err)
	}
	var labs []Standing
	for _, e := range entries {
		s, alive, err := readEntry(e)
		switch {
		case errors.Is(err, os.ErrNotExist): // it has just ended
		case err != nil:
			return nil, fmt.Errorf("look for labs: %w", err)
		case alive:
			labs = append(labs, s)
		}
	}
	slices.SortFunc(labs, func(a, b Standing) int { return b.Since.Compare(a.Since) })
	return labs, nil
}

// readEntry reads a lab's file, and removes it if its lab is dead.
func readEntry(path string) (s Standing, alive bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return s, false, err
	}
	defer f.Close()
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); {
	case err == nil:
		return s, false, os.Remove(path)
	case !errors.Is(err, unix.EWOULDBLOCK):
		return s, false, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := json.NewDecoder(f).Decode(&s); err != nil {
		return s, false, fmt.Errorf("read %s: %w", path, err)
	}
	return s, true, nil
}

// registry is the folder of those files: where the user's session has its own, or
// else, as after su, below os.TempDir.
func registry() (string, error) {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" && isOwn(dir) == nil {
		return filepath.Join(dir, "wce2e-labs"), nil
	}
	return filepath.Abs(filepath.Join(os.TempDir(), "wce2e-labs-"+strconv.Itoa(os.Getuid())))
}

func ownFolder(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return isOwn(dir)
}

// isOwn refuses a folder in which others can write: what they put there would be
// run as this user's ProxyCommand.
func isOwn(dir string) error {
	var s unix.Stat_t
	if err := unix.Lstat(dir, &s); err != nil {
		return &os.PathError{Op: "lstat", Path: dir, Err: err}
	}
	if s.Mode&unix.S_IFMT != unix.S_IFDIR || s.Uid != uint32(os.Geteuid()) || s.Mode&0o022 != 0 {
		return fmt.Errorf("%s is not a folder that only this user can write to", dir)
	}
	return nil
}
