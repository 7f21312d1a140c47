package release

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"

	"github.com/worldcompute/wce2e/evidence"
)

// bundles are no source: a run adds one, and must not change what it proves.
const bundles = "evidence/phase1"

// ErrNoCheckout tells that there is no source to build from.
var ErrNoCheckout = errors.New("there is no checkout of " + module + " here")

// Checkout finds the root of the source tree: dir or a folder above it; for an
// empty dir, from the working folder, else from where this binary was compiled.
func Checkout(dir string) (string, error) {
	starts := []string{dir}
	if dir == "" {
		here, err := os.Getwd()
		if err != nil {
			return "", err
		}
		_, file, _, _ := runtime.Caller(0) // a full path when this was built without -trimpath: go run
		starts = []string{here, filepath.Dir(file)}
	}
	for _, start := range starts {
		at, err := filepath.Abs(start)
		if err != nil || !filepath.IsAbs(start) && dir == "" {
			continue
		}
		for ; ; at = filepath.Dir(at) {
			if isCheckout(at) {
				return at, nil
			}
			if at == filepath.Dir(at) {
				break
			}
		}
	}
	return "", ErrNoCheckout
}

func isCheckout(dir string) bool {
	content, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	return err == nil && modfile.ModulePath(content) == module
}

// Source tells which source tree Build's builds come from: its commit, its
// digest, and the Go that builds it. Without git, or where the checkout is not a
// repository of its own, the commit is empty and nothing is dirty. A running
// release build knows what the distribution that it lies in says, or the
// checkout from which the same bytes can be built again; else only its Go.
func (b *Builder) Source(ctx context.Context) (evidence.Source, error) {
	path, sum, notRelease := Self()
	if notRelease == nil {
		if src, err := sourceOfDist(distBesideUs(), path, sum); err == nil {
			return src, nil
		}
	}
	root, err := Checkout(b.Dir)
	if notRelease == nil && (err != nil || !b.rebuilds(ctx, root, sum)) {
		return evidence.Source{Go: runtime.Version()}, nil
	}
	if err != nil {
		return evidence.Source{}, fmt.Errorf("find the source: %w", err)
	}
	src, err := sourceAt(ctx, root)
	if err != nil {
		return evidence.Source{}, err
	}
	src.Go, err = goVersion(ctx, root, b.Toolchain)
	return src, err
}

// rebuilds tells whether the checkout gives the running release build again.
func (b *Builder) rebuilds(ctx context.Context, root, sum string) bool {
	tree, err := digestTree(ctx, root)
	if err != nil {
		return false
	}
	_, again, err := b.cached(ctx, Here(), root, tree)
	return err == nil && again == sum
}

// sourceAt tells about a checkout, but not about Go.
func sourceAt(ctx context.Context, root string) (src evidence.Source, err error) {
	if src.Tree, err = digestTree(ctx, root); err != nil {
		return evidence.Source{}, err
	}
	if !isRepository(ctx, root) {
		return src, nil
	}
	if commit, err := git(ctx, root, "rev-parse", "--verify", "--quiet", "HEAD"); err == nil {
		src.Commit = strings.TrimSpace(commit)
	}
	changed, err := git(ctx, root, "status", "--porcelain", "--untracked-files=all", "--", ".", ":(exclude)"+bundles)
	if err != nil {
		return evidence.Source{}, err
	}
	src.Dirty = strings.TrimSpace(changed) != ""
	return src, nil
}

// digestTree hashes the source tree. Anybody can do it with common tools, in a
// checkout without symbolic links:
//
//	git ls-files -z --cached --others --exclude-standard ':!evidence/phase1' |
//	  LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum
func digestTree(ctx context.Context, root string) (string, error) {
	files, err := listTree(ctx, root)
	if err != nil {
		return "", fmt.Errorf("list the source files of %s: %w", root, err)
	}
	slices.Sort(files)
	whole := sha256.New()
	for _, name := range slices.Compact(files) {
		sum, err := hashEntry(filepath.Join(root, filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) {
			continue // tracked, and deleted
		}
		if err != nil {
			return "", err
		}
		fmt.Fprintf(whole, "%s  %s\n", sum, name)
	}
	return hex.EncodeToString(whole.Sum(nil)), nil
}

// hashEntry hashes a file; of a symbolic link, where it points.
func hashEntry(path string) (string, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	if info.Mode()&fs.ModeSymlink == 0 {
		return hashFile(path)
	}
	to, err := os.Readlink(path)
	sum := sha256.Sum256([]byte(to))
	return hex.EncodeToString(sum[:]), err
}

// listTree lists the source files: what git tracks or would, else what is there.
func listTree(ctx context.Context, root string) ([]string, error) {
	if !isRepository(ctx, root) {
		return walkTree(root)
	}
	out, err := git(ctx, root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", ".", ":(exclude)"+bundles)
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(out, "\x00"), "\x00"), nil
}

// walkTree lists all files but those that are never source.
func walkTree(root string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		switch {
		case e.IsDir() && slices.Contains([]string{".git", DistDir, bundles}, name):
			return fs.SkipDir
		case !e.IsDir():
			files = append(files, name)
		}
		return nil
	})
	return files, err
}

// isRepository tells whether root is the top of a git repository that git is
// willing to read.
func isRepository(ctx context.Context, root string) bool {
	prefix, err := git(ctx, root, "rev-parse", "--show-prefix")
	return err == nil && strings.TrimSpace(prefix) == ""
}

func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	var said bytes.Buffer
	cmd.Dir, cmd.Stderr = dir, &said
	cmd.Env = append(os.Environ(), "LC_ALL=C", "GIT_OPTIONAL_LOCKS=0")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, firstLines(said.String(), 2))
	}
	return string(out), nil
}
