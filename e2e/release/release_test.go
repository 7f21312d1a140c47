package release

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

// The real command, from two folders. Go's build cache serves the second build
// what the first has compiled, since -trimpath makes them the same to it; that
// it is right in that, the next test shows of a program that compiles quickly.
func TestTwoCheckoutsGiveTheSameBytes(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: it compiles the whole command: minutes, the first time")
	}
	root, err := Checkout("")
	if err != nil {
		t.Fatal(err)
	}
	first, second := filepath.Join(t.TempDir(), "first"), filepath.Join(t.TempDir(), "else", "where")
	copyTree(t, root, first) // a copy, since the checkout may be being edited
	copyTree(t, first, second)
	t.Setenv("GOFLAGS", "-tags=nonsense") // a user's own flags change nothing
	path := sameBytes(t, first, second)
	out, err := exec.Command("go", "version", "-m", path).Output()
	if err != nil || strings.Contains(string(out), "nonsense") || !strings.Contains(string(out), "CGO_ENABLED=0") {
		t.Errorf("the build says of itself (%v):\n%s", err, out)
	}
}

func TestTwoMachinesGiveTheSameBytes(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: it compiles Go's runtime anew")
	}
	first := smallCheckout(t)
	second := filepath.Join(t.TempDir(), "else", "where")
	copyTree(t, first, second)
	sameBytes(t, first, second, func() { t.Setenv("GOCACHE", t.TempDir()) })
}

// sameBytes builds two checkouts, with something done in between.
func sameBytes(t *testing.T, first, second string, between ...func()) (path string) {
	t.Helper()
	sums := map[string]string{}
	for _, dir := range []string{first, second} {
		b := Builder{Dir: dir, Cache: t.TempDir(), Fresh: true}
		var sum string
		var err error
		if path, sum, err = b.Build(t.Context(), Here().OS, Here().Arch); err != nil {
			t.Fatal(err)
		}
		sums[sum] = path
		for _, do := range between {
			do()
		}
	}
	if len(sums) != 1 {
		t.Fatalf("two checkouts of one source tree gave different builds: %v", sums)
	}
	return path
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	names, err := listTree(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(from, name))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		write(t, to, name, string(content))
	}
}

func write(t *testing.T, root, name, content string) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// smallCheckout is a module of our name whose command builds in a second.
func smallCheckout(t *testing.T) string {
	root := t.TempDir()
	write(t, root, "go.mod", "module "+module+"\n\ngo 1.26.0\n")
	write(t, root, "cmd/wce2e/main.go", "package main\n\nfunc main() { println(\"small\") }\n")
	return root
}

func gitIn(t *testing.T, root string, args ...string) {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=t", "-c", "user.email=t@example.net"}, args...)...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v: %s", args, err, out)
	}
}

func TestTheDigestFollowsContentAndNamesButNotBundles(t *testing.T) {
	for _, withGit := range []bool{false, true} {
		root := smallCheckout(t)
		if withGit {
			write(t, root, ".gitignore", "/dist/\n")
			gitIn(t, root, "init", "-q")
			gitIn(t, root, "add", ".")
		}
		digest := func() string {
			t.Helper()
			sum, err := digestTree(context.Background(), root)
			if err != nil {
				t.Fatal(err)
			}
			return sum
		}
		first := digest()
		write(t, root, "evidence/phase1/area/run/trace.jsonl", "{}")
		write(t, root, "dist/SOURCE", "{}")
		if digest() != first {
			t.Errorf("git=%v: a bundle or a distribution changed the digest", withGit)
		}
		write(t, root, "cmd/wce2e/more.go", "package main\n")
		second := digest()
		if second == first {
			t.Errorf("git=%v: a new file left the digest as it was", withGit)
		}
		write(t, root, "cmd/wce2e/more.go", "package main // changed\n")
		if third := digest(); third == second || third == first {
			t.Errorf("git=%v: another content left the digest as it was", withGit)
		}
		if err := os.Remove(filepath.Join(root, "cmd/wce2e/more.go")); err != nil {
			t.Fatal(err)
		}
		if digest() != first {
			t.Errorf("git=%v: the same tree has another digest", withGit)
		}
	}
}

func TestTheDigestIsTheOneThatCommonToolsCompute(t *testing.T) {
	if _, err := exec.LookPath("sha256sum"); err != nil {
		t.Skip("SKIPPED: there is no sha256sum")
	}
	root := smallCheckout(t)
	write(t, root, "a name with spaces", "x")
	write(t, root, "evidence/phase1/area/run/trace.jsonl", "{}")
	gitIn(t, root, "init", "-q")
	sum, err := digestTree(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", "git ls-files -z --cached --others --exclude-standard ':!evidence/phase1' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Fields(string(out))[0]; sum != want {
		t.Errorf("digest %s; the tools say %s", sum, want)
	}
}

func TestSourceTellsCommitAndWhetherTheTreeDiffersFromIt(t *testing.T) {
	root := smallCheckout(t)
	b := Builder{Dir: root}
	source := func() (commit, tree string, dirty bool) {
		t.Helper()
		s, err := b.Source(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(s.Go, "go1.") {
			t.Errorf("Go is %q", s.Go)
		}
		return s.Commit, s.Tree, s.Dirty
	}
	if commit, _, dirty := source(); commit != "" || dirty {
		t.Errorf("without git: commit %q, dirty %v", commit, dirty)
	}
	gitIn(t, root, "init", "-q")
	gitIn(t, root, "add", ".")
	gitIn(t, root, "commit", "-q", "-m", "first")
	commit, tree, dirty := source()
	if len(commit) != 40 || dirty {
		t.Errorf("a clean checkout: commit %q, dirty %v", commit, dirty)
	}
	write(t, root, "evidence/phase1/area/run/trace.jsonl", "{}")
	if c, tr, dirty := source(); c != commit || tr != tree || dirty {
		t.Error("a bundle made the checkout another one")
	}
	write(t, root, "cmd/wce2e/more.go", "package main\n")
	if c, tr, dirty := source(); c != commit || tr == tree || !dirty {
		t.Error("an untracked file does not make the checkout dirty")
	}
}

func TestABuildIsMadeOncePerTree(t *testing.T) {
	root := smallCheckout(t)
	built := 0
	b := Builder{Dir: root, Cache: t.TempDir(), Log: func(string) { built++ }}
	build := func() (path, sum string) {
		t.Helper()
		path, sum, err := b.Build(context.Background(), Here().OS, Here().Arch)
		if err != nil {
			t.Fatal(err)
		}
		return path, sum
	}
	path, first := build()
	if _, again := build(); built != 1 || again != first {
		t.Errorf("the same tree was built %d times", built)
	}
	if err := os.WriteFile(path, []byte("rotten"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, again := build(); built != 2 || again != first {
		t.Errorf("a cached binary that is not what it was: built %d times, %s", built, again)
	}
	write(t, root, "cmd/wce2e/main.go", "package main\n\nfunc main() { println(\"other\") }\n")
	if _, other := build(); built != 3 || other == first {
		t.Errorf("another tree: built %d times, %s", built, other)
	}
}

func TestADistributionServesItsOwnTreeOnly(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: it compiles Go's runtime for other platforms")
	}
	root := smallCheckout(t)
	built := 0
	b := Builder{Dir: root, Cache: t.TempDir(), Log: func(string) { built++ }}
	if err := b.Dist(t.Context(), filepath.Join(root, DistDir)); err != nil {
		t.Fatal(err)
	}
	if built != len(Platforms) {
		t.Errorf("%d builds for %d platforms", built, len(Platforms))
	}
	entries, err := os.ReadDir(filepath.Join(root, DistDir))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{"SHA256SUMS", "SOURCE", "wce2e-darwin-arm64", "wce2e-linux-amd64", "wce2e-linux-arm64"}; !slices.Equal(names, want) {
		t.Errorf("dist holds %v, want %v", names, want)
	}
	path, _, err := b.Build(t.Context(), "darwin", "arm64")
	if err != nil || path != filepath.Join(root, DistDir, "wce2e-darwin-arm64") || built != len(Platforms) {
		t.Errorf("build %s (%v) after %d builds", path, err, built)
	}
	if err := os.WriteFile(path, []byte("rotten"), 0o700); err != nil {
		t.Fatal(err)
	}
	if path, _, err := b.Build(t.Context(), "darwin", "arm64"); err != nil || built != len(Platforms)+1 {
		t.Errorf("a changed file of dist was used: %s (%v)", path, err)
	}
	write(t, root, "cmd/wce2e/main.go", "package main\n\nfunc main() { println(\"other\") }\n")
	if path, _, err := b.Build(t.Context(), "linux", "arm64"); err != nil || built != len(Platforms)+2 {
		t.Errorf("a build of another tree was used: %s (%v)", path, err)
	}
}

func TestABuildThatFailsSaysWhat(t *testing.T) {
	root := smallCheckout(t)
	write(t, root, "cmd/wce2e/main.go", "package main\n\nfunc main() { nonsense() }\n")
	b := Builder{Dir: root, Cache: t.TempDir()}
	_, _, err := b.Build(t.Context(), "linux", "amd64")
	if err == nil || !strings.Contains(err.Error(), "linux/amd64") || !strings.Contains(err.Error(), "undefined: nonsense") {
		t.Errorf("%v", err)
	}
}

func TestWithoutACheckoutThereIsAClearError(t *testing.T) {
	b := Builder{Dir: t.TempDir(), Cache: t.TempDir()}
	_, _, err := b.Build(t.Context(), "linux", "arm64")
	if err == nil || !strings.Contains(err.Error(), "there is no checkout") || !strings.Contains(err.Error(), "make dist") {
		t.Errorf("%v", err)
	}
	if _, _, err := b.Build(t.Context(), "linux", "mips"); err == nil || !strings.Contains(err.Error(), "linux/mips") {
		t.Errorf("%v", err)
	}
}

func TestOnlyAReleaseBuildTakesItselfForOne(t *testing.T) {
	if _, _, err := Self(); err == nil {
		t.Error("the test binary takes itself for a release build")
	}
	release := func() *debug.BuildInfo {
		return &debug.BuildInfo{Path: command, Settings: []debug.BuildSetting{
			{Key: "-buildmode", Value: "exe"}, {Key: "-compiler", Value: "gc"}, {Key: "-trimpath", Value: "true"},
			{Key: "CGO_ENABLED", Value: "0"}, {Key: "GOARCH", Value: "amd64"}, {Key: "GOOS", Value: "linux"}, {Key: "GOAMD64", Value: "v1"},
		}}
	}
	if err := isRelease(release()); err != nil {
		t.Errorf("a release build: %v", err)
	}
	for _, s := range []debug.BuildSetting{
		{Key: "vcs.revision", Value: "x"}, {Key: "CGO_ENABLED", Value: "1"}, {Key: "-trimpath", Value: "false"}, {Key: "-race", Value: "true"},
		{Key: "-tags", Value: "x"}, {Key: "GOAMD64", Value: "v3"}, {Key: "-ldflags", Value: "-s"},
	} {
		info := release()
		info.Settings = append(info.Settings, s)
		if isRelease(info) == nil {
			t.Errorf("a build with %s=%s takes itself for a release build", s.Key, s.Value)
		}
	}
	other := release()
	other.Path = "example.net/cmd"
	if isRelease(other) == nil {
		t.Error("another command takes itself for a release build")
	}
}
