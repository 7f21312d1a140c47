// Package release makes what is deployed: one static binary per platform, the
// same bytes from the same source tree on any machine.
//
//	CGO_ENABLED=0 go build -trimpath -buildvcs=false ./cmd/wce2e
//
// A running binary that is such a build is used as it is. Otherwise the build is
// found in dist/ or among earlier ones, or made from the checkout.
package release

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
)

const (
	module  = "github.com/worldcompute/wce2e"
	command = module + "/cmd/wce2e"
)

// Platform is a system and an architecture, in Go's words.
type Platform struct{ OS, Arch string }

func (p Platform) String() string { return p.OS + "/" + p.Arch }

// Here is the platform of the running binary.
func Here() Platform { return Platform{OS: runtime.GOOS, Arch: runtime.GOARCH} }

// Platforms are those that a distribution holds.
var Platforms = []Platform{{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "arm64"}}

// supported are those that a build can be made for: where WASM is compiled.
var supported = append([]Platform{{"darwin", "amd64"}}, Platforms...)

// Builder gives builds. The zero Builder works in a checkout, and where the
// running binary is itself a release build.
type Builder struct {
	Dir       string       // in or below the checkout; empty means the working folder, else where this binary was compiled
	Cache     string       // of earlier builds; empty means wce2e/build in the user's cache folder
	Toolchain string       // the Go to build with, as in go1.26.8; empty means the one installed
	Fresh     bool         // build, whatever there is already: for proving that the same bytes come out
	Log       func(string) // told what takes long; nil means nobody is
}

// Build gives a release build for a platform: its path on this machine and its
// SHA-256 in hex. Concurrent calls for one platform may both build; they end up
// with the same file.
func (b *Builder) Build(ctx context.Context, goos, goarch string) (path, sum string, err error) {
	p := Platform{OS: goos, Arch: goarch}
	if !slices.Contains(supported, p) {
		return "", "", fmt.Errorf("release binary for %s: wce2e runs on %v", p, supported)
	}
	if path, sum, err = b.find(ctx, p); err != nil {
		return "", "", fmt.Errorf("release binary for %s: %w", p, err)
	}
	return path, sum, nil
}

func (b *Builder) find(ctx context.Context, p Platform) (path, sum string, err error) {
	self, selfSum, notRelease := Self()
	if notRelease == nil && !b.Fresh {
		if p == Here() {
			return self, selfSum, nil
		}
		if _, err := sourceOfDist(distBesideUs(), self, selfSum); err == nil {
			return inDist(distBesideUs(), p, "")
		}
	}
	root, err := Checkout(b.Dir)
	if errors.Is(err, ErrNoCheckout) && !b.Fresh {
		path, sum, derr := inDist(distBesideUs(), p, "")
		if derr != nil {
			return "", "", fmt.Errorf("%w, and %w: run from a checkout, or put what make dist makes beside this binary", err, derr)
		}
		return path, sum, nil
	}
	if err != nil {
		return "", "", err
	}
	if notRelease == nil && !b.Fresh && !b.rebuilds(ctx, root, selfSum) {
		// All hosts of a run get builds of one source.
		return "", "", fmt.Errorf("this binary was not built from %s: run one that was (make build), or put what make dist makes beside it", root)
	}
	tree, err := digestTree(ctx, root)
	if err != nil {
		return "", "", err
	}
	if !b.Fresh {
		if path, sum, err := inDist(filepath.Join(root, DistDir), p, tree); err == nil {
			return path, sum, nil
		}
	}
	return b.cached(ctx, p, root, tree)
}

// cached gives an earlier build of the same tree by the same Go, or makes it.
func (b *Builder) cached(ctx context.Context, p Platform, root, tree string) (path, sum string, err error) {
	cache := b.Cache
	if cache == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return "", "", err
		}
		cache = filepath.Join(base, "wce2e", "build")
	}
	version, err := goVersion(ctx, root, b.Toolchain)
	if err != nil {
		return "", "", err
	}
	dir := filepath.Join(cache, tree[:16]+"-"+version+"-"+p.OS+"-"+p.Arch)
	path = filepath.Join(dir, "wce2e")
	if want, err := os.ReadFile(path + ".sha256"); err == nil && !b.Fresh {
		if sum, err := hashFile(path); err == nil && sum == string(want) {
			return path, sum, nil
		}
	}
	path, sum, err = b.compile(ctx, p, root, dir)
	if err != nil {
		return "", "", err
	}
	// The tree is what was hashed only if nobody has edited it meanwhile.
	if now, err := digestTree(ctx, root); err != nil {
		return "", "", err
	} else if now != tree {
		return "", "", errors.Join(fmt.Errorf("the files of %s have changed while they were being built", root), os.RemoveAll(dir))
	}
	return path, sum, os.WriteFile(path+".sha256", []byte(sum), 0o600)
}

// say tells what takes long.
func (b *Builder) say(format string, args ...any) {
	if b.Log != nil {
		b.Log(fmt.Sprintf(format, args...))
	}
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("hash %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
