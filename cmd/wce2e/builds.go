package main

import (
	"context"
	"sync"

	"github.com/worldcompute/wce2e/e2e/release"
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
