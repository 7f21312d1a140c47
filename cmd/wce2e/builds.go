package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/worldcompute/wce2e/e2e/release"
	"github.com/worldcompute/wce2e/evidence"
)

// builds gives the release build of each platform, made at most once however
// many hosts ask for it at the same time.
type builds struct {
	release.Builder

	mu   sync.Mutex // guards made; held while building
	made map[release.Platform]build
}

type build struct{ path, sum string }

func (b *builds) get(ctx context.Context, goos, goarch string) (path, sum string, err error) {
	p := release.Platform{OS: goos, Arch: goarch}
	b.mu.Lock()
	defer b.mu.Unlock()
	if got, ok := b.made[p]; ok {
		return got.path, got.sum, nil
	}
	path, sum, err = b.Build(ctx, goos, goarch)
	if err != nil {
		return "", "", err
	}
	if b.made == nil {
		b.made = map[release.Platform]build{}
	}
	b.made[p] = build{path, sum}
	return path, sum, nil
}

// source tells what those builds are made from. A suite that is itself a
// release build knows that only from the record beside it, if there is one: the
// checkout it happens to be run in proves nothing about it.
func (b *builds) source(ctx context.Context) (evidence.Source, error) {
	self, _, err := release.Self()
	if err != nil {
		return b.Source(ctx)
	}
	s := evidence.Source{Go: runtime.Version()}
	record, err := os.ReadFile(filepath.Join(filepath.Dir(self), "SOURCE"))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(record, &s); err != nil {
		return s, fmt.Errorf("the record of this binary's source: %w", err)
	}
	return s, nil
}
