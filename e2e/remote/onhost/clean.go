package onhost

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Cleaned is what Clean has done.
type Cleaned struct {
	Dir    string   `json:"dir"`
	Killed []string `json:"killed"` // processes that still ran there
	Files  int      `json:"files"`  // files removed
}

const (
	cleanTimeout = 10 * time.Second // for processes to be gone after SIGKILL
	cleanEvery   = 20 * time.Millisecond
)

// Clean kills what still runs in the folder of a run, below base, and removes
// the folder. It touches nothing of another run, but for uploads that were given
// up long ago. A folder that is not there is clean.
func Clean(ctx context.Context, base, dir string) (Cleaned, error) {
	bases, err := spell(base)
	if err != nil {
		return Cleaned{}, err
	}
	dirs, err := spell(dir)
	if err != nil {
		return Cleaned{}, err
	}
	dir = dirs.given()
	done := Cleaned{Dir: dir, Killed: []string{}}
	inRuns := func(base string) bool { return filepath.Dir(dir) == filepath.Join(base, RunsDir) }
	if filepath.Base(bases.given()) != BaseDir || !slices.ContainsFunc(bases, inRuns) {
		return done, fmt.Errorf("clean %s: it is no run's folder: those are in %s", dir, filepath.Join(BaseDir, RunsDir))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, cleanTimeout, fmt.Errorf("they did not end within %v", cleanTimeout))
	defer cancel()
	if err := killAll(ctx, bases, dirs, &done); err != nil {
		return done, fmt.Errorf("end what runs in %s: %w", dir, err)
	}
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			done.Files++
		}
		return nil // RemoveAll reports what stands in its way
	})
	if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
		return done, fmt.Errorf("remove %s: %w", dir, err)
	}
	if err := removeParts(bases.real(), &done); err != nil {
		return done, err
	}
	if err := os.Remove(filepath.Dir(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.EEXIST) {
		return done, err
	}
	return done, nil
}

// partAge is how old an upload must be that has not grown, to be given up: no
// connection lives so long without a byte.
const partAge = time.Hour

// removeParts removes the binaries whose upload was broken off.
func removeParts(base string, done *Cleaned) error {
	parts, _ := fs.Glob(os.DirFS(base), BinDir+"/*/.wce2e.*.part") // the pattern is well-formed
	for _, name := range parts {
		name = filepath.Join(base, filepath.FromSlash(name))
		info, err := os.Lstat(name)
		if err == nil && (!info.Mode().IsRegular() || time.Since(info.ModTime()) < partAge) {
			continue
		}
		if err == nil {
			err = os.Remove(name)
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue // somebody else cleans
		}
		if err != nil {
			return fmt.Errorf("remove an upload that was broken off: %w", err)
		}
		done.Files++
		_ = os.Remove(filepath.Dir(name)) // unless the binary is there
	}
	return nil
}

// killAll kills the processes of a run until there are none. Those that ask, and
// those that clean, end by themselves: two hosts of an inventory may be one machine.
func killAll(ctx context.Context, base, dir spellings, done *Cleaned) error {
	for {
		left, err := processes(ctx, base)
		if err != nil {
			return err
		}
		left = slices.DeleteFunc(left, func(p process) bool {
			return !p.mentions(dir) || p.isHelper() && !p.isHost("start")
		})
		if len(left) == 0 {
			return nil
		}
		for _, p := range left {
			if text := p.String(); !slices.Contains(done.Killed, text) {
				done.Killed = append(done.Killed, text)
			}
			if err := sendSignal(p.pid, p.born, syscall.SIGKILL); err != nil && !errors.Is(err, ErrNotRunning) {
				return fmt.Errorf("kill process %d: %w", p.pid, err)
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(cleanEvery):
		}
	}
}

// mentions tells whether a process was started for a folder: it is, or holds,
// one of its arguments.
func (p process) mentions(dir spellings) bool {
	return slices.ContainsFunc(p.argv, func(word string) bool {
		_, value, isFlag := strings.Cut(word, "=")
		return dir.hold(word) || isFlag && dir.hold(value)
	})
}
