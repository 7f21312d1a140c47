package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/worldcompute/wce2e/evidence"
)

// DistDir holds builds for several platforms, at the root of a checkout, with
// SHA256SUMS (as sha256sum writes it) and SOURCE (an evidence.Source as JSON).
const DistDir = "dist"

const (
	sumsFile   = "SHA256SUMS"
	sourceFile = "SOURCE"
)

// DistName is the name of a platform's build in a distribution.
func DistName(p Platform) string { return "wce2e-" + p.OS + "-" + p.Arch }

// Dist builds all Platforms from the checkout into out.
func (b *Builder) Dist(ctx context.Context, out string) error {
	root, err := Checkout(b.Dir)
	if err != nil {
		return err
	}
	src, err := sourceAt(ctx, root)
	if err != nil {
		return err
	}
	if src.Go, err = goVersion(ctx, root, b.Toolchain); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	var sums strings.Builder
	for _, p := range Platforms {
		sum, err := b.distOne(ctx, p, root, out)
		if err != nil {
			return fmt.Errorf("build for %s: %w", p, err)
		}
		fmt.Fprintf(&sums, "%s  %s\n", sum, DistName(p))
	}
	content, err := json.MarshalIndent(src, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(out, sumsFile), []byte(sums.String()), 0o644),
		os.WriteFile(filepath.Join(out, sourceFile), append(content, '\n'), 0o644),
	)
}

func (b *Builder) distOne(ctx context.Context, p Platform, root, out string) (sum string, err error) {
	temp, err := os.MkdirTemp(out, ".dist-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	path, sum, err := b.compile(ctx, p, root, temp)
	if err != nil {
		return "", err
	}
	return sum, os.Rename(path, filepath.Join(out, DistName(p)))
}

// inDist finds a platform's build in a distribution made from the given tree;
// from any when tree is empty. A file whose hash is not the recorded one is no build.
func inDist(dir string, p Platform, tree string) (path, sum string, err error) {
	if tree != "" {
		src, err := readSource(dir)
		if err != nil {
			return "", "", err
		}
		if src.Tree != tree {
			return "", "", fmt.Errorf("%s was made from another source tree", dir)
		}
	}
	sums, err := os.ReadFile(filepath.Join(dir, sumsFile))
	if err != nil {
		return "", "", err
	}
	want := ""
	for line := range strings.Lines(string(sums)) {
		if fields := strings.Fields(line); len(fields) == 2 && strings.TrimPrefix(fields[1], "*") == DistName(p) {
			want = fields[0]
		}
	}
	if want == "" {
		return "", "", fmt.Errorf("%s holds no build for %s", dir, p)
	}
	path = filepath.Join(dir, DistName(p))
	if sum, err = hashFile(path); err != nil {
		return "", "", err
	}
	if sum != want {
		return "", "", fmt.Errorf("%s has SHA-256 %s, not the %s of %s", path, sum, want, sumsFile)
	}
	return path, sum, nil
}

// sourceOfDist tells what a build of a distribution was made from. It must be
// the build at path, with the hash sum.
func sourceOfDist(dir, path, sum string) (evidence.Source, error) {
	_, recorded, err := inDist(dir, Here(), "")
	if err != nil {
		return evidence.Source{}, err
	}
	if recorded != sum {
		return evidence.Source{}, fmt.Errorf("%s is not the build of %s", path, dir)
	}
	return readSource(dir)
}

func readSource(dir string) (src evidence.Source, err error) {
	name := filepath.Join(dir, sourceFile)
	content, err := os.ReadFile(name)
	if err != nil {
		return src, err
	}
	if err := json.Unmarshal(content, &src); err != nil {
		return src, fmt.Errorf("%s: %w", name, err)
	}
	return src, nil
}

// distBesideUs is the folder of the running binary, or dist/ in it.
func distBesideUs() string {
	self, err := os.Executable()
	if err != nil {
		return DistDir
	}
	beside := filepath.Dir(self)
	if _, err := os.Stat(filepath.Join(beside, sumsFile)); err == nil {
		return beside
	}
	return filepath.Join(beside, DistDir)
}
