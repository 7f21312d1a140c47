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
// the folder. It touches nothing of another run. A folder that is not there is
// clean.
func Clean(ctx context.Context, base, dir string) (Cleaned, error) {
	base, err := filepath.Abs(base)
	if err != nil {
		return Cleaned{}, err
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return Cleaned{}, err
	}
	done := Cleaned{Dir: dir, Killed: []string{}}
	if filepath.Base(base) != BaseDir || filepath.Dir(dir) != filepath.Join(base, RunsDir) {
		return done, fmt.Errorf("clean %s: it is no run's folder: those are in %s", dir, filepath.Join(BaseDir, RunsDir))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, cleanTimeout, fmt.Errorf("they did not end within %v", cleanTimeout))
	defer cancel()
	if err := killAll(ctx, base, dir, &done); err != nil {
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
	if err := os.Remove(filepath.Dir(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.EEXIST) {
		return done, err
	}
	return done, nil
}

// killAll kills the processes of a run until there are none.
func killAll(ctx context.Context, base, dir string, done *Cleaned) error {
	for {
		left, err := processes(ctx, base)
		if err != nil {
			return err
		}
		left = slices.DeleteFunc(left, func(p process) bool { return !p.mentions(dir) })
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
func (p process) mentions(dir string) bool {
	return slices.ContainsFunc(p.argv, func(word string) bool {
		_, value, isFlag := strings.Cut(word, "=")
		return within(dir, word) || isFlag && within(dir, value)
	})
}

// within tells whether a path is dir or lies below it.
func within(dir, path string) bool {
	return path == dir || strings.HasPrefix(path, dir+string(filepath.Separator))
}
