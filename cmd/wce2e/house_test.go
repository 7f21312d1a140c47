package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"

	"github.com/worldcompute/wce2e/e2e/matrix"
	"github.com/worldcompute/wce2e/evidence"
)

const (
	module   = "github.com/worldcompute/wce2e"
	repoRoot = "../.."
	bundles  = "evidence/phase1"
)

// may says which of our packages a package may import, tests aside: "x" is x
// alone, "x/..." is x and what lies below it. A package without a row of its
// own has that of the nearest folder above it, in which it lies. What is not
// said is forbidden.
var may = map[string][]string{
	"cmd/wce2e": {"..."},

	"inventory":     {},
	"wasm-fixtures": {},
	"node/wire":     {},
	"evidence":      {},

	"node":           {"node/traversal/...", "node/sandbox", "node/netcheck", "node/wire"},
	"node/probe":     {"node/traversal/...", "node/netcheck", "node/wire"},
	"node/traversal": {"node/netcheck", "node/wire"},
	"node/netcheck":  {"node/wire"},
	"node/sandbox":   {"node/wire"},

	"e2e":               {"e2e/remote", "e2e/check", "inventory", "wasm-fixtures", "node/wire", "node/netcheck", "evidence"},
	"e2e/check":         {"evidence", "node/wire", "node/netcheck"},
	"e2e/remote":        {},
	"e2e/remote/onhost": {"evidence"},
	"e2e/release":       {"evidence"},
	"e2e/lab":           {"e2e/remote", "inventory"},
	"e2e/matrix":        {"e2e/lab", "inventory", "node/wire", "evidence", "evidence/report"},
	"evidence/report":   {"evidence", "node/netcheck"},
}

// foreign holds the leaves to the world outside: a reader of the wire, of the
// inventory or of a bundle needs none of these.
var foreign = map[string][]string{
	"node/wire":     {"github.com/libp2p/"},
	"evidence":      {"github.com/", "golang.org/", "gopkg.in/"},
	"inventory":     {"net/http", "github.com/libp2p/"},
	"wasm-fixtures": {"github.com/tetratelabs/"},
	"e2e/check":     {"os", "os/exec", "net/http", "math/rand", "math/rand/v2"},
}

func TestEveryRoomImportsOnlyWhatTheHouseAllows(t *testing.T) {
	seen := map[string]bool{}
	for file := range imports(t) {
		row, allowed, ok := rule(file.pkg)
		if !ok {
			t.Errorf("%s: no rule for package %s: add a row to the table", file.name, file.pkg)
			continue
		}
		seen[row] = true
		for _, imp := range file.imports {
			if ours, ok := strings.CutPrefix(imp, module+"/"); ok && !allows(allowed, ours) && !within(ours, row) {
				t.Errorf("%s: %s must not import %s", file.name, file.pkg, ours)
			}
			for _, f := range foreign[file.pkg] {
				if imp == f || strings.HasSuffix(f, "/") && strings.HasPrefix(imp, f) {
					t.Errorf("%s: %s must not import %s", file.name, file.pkg, imp)
				}
			}
		}
	}
	for _, leaf := range []string{"cmd/wce2e", "inventory", "node/wire", "evidence", "e2e/check"} {
		if !seen[leaf] {
			t.Errorf("no file of %s was looked at: the test looks in the wrong place", leaf)
		}
	}
}

// tableRow finds a package in a row of ARCHITECTURE.md's table.
var tableRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\|")

func TestTheHouseHasTheRoomsThatItsTableNames(t *testing.T) {
	there, told := map[string]bool{}, map[string]bool{}
	for file := range imports(t) {
		there[file.pkg] = true
	}
	for _, m := range tableRow.FindAllStringSubmatch(string(readRepo(t, "ARCHITECTURE.md")), -1) {
		told[m[1]] = true
		if !there[m[1]] {
			t.Errorf("ARCHITECTURE.md: there is no package %s", m[1])
		}
	}
	for pkg := range there {
		if !told[pkg] {
			t.Errorf("ARCHITECTURE.md: the table does not name the package %s", pkg)
		}
	}
	for row := range may {
		if !there[row] {
			t.Errorf("house_test.go: a rule for %s, which does not exist", row)
		}
	}
}

func TestTheHouseSaysWhyItHasEachDependency(t *testing.T) {
	mod, err := modfile.Parse("go.mod", readRepo(t, "go.mod"), nil)
	noErr(t, err)
	_, why, ok := strings.Cut(string(readRepo(t, "RATIONALE.md")), "\n## Dependencies\n")
	if !ok {
		t.Fatal("RATIONALE.md has no section on dependencies")
	}
	required := map[string]bool{}
	for _, r := range mod.Require {
		required[r.Mod.Path] = true
		if !r.Indirect && !strings.Contains(why, "`"+r.Mod.Path+"`") {
			t.Errorf("RATIONALE.md does not say why there is %s", r.Mod.Path)
		}
	}
	for _, m := range regexp.MustCompile("`([a-z.]+\\.[a-z]+/[^` ]+)`").FindAllStringSubmatch(why, -1) {
		if !required[m[1]] {
			t.Errorf("RATIONALE.md says why there is %s, and go.mod does not require it", m[1])
		}
	}
}

func TestTheHouseRuleKnowsAForbiddenImport(t *testing.T) {
	for _, c := range []struct {
		pkg, imports string
		want         bool
	}{
		{"node", "node/wire", true},
		{"node", "e2e", false},
		{"node", "evidence", false},
		{"node/traversal/dns", "node/netcheck", true}, // by the row of node/traversal
		{"node/traversal/dns", "node/sandbox", false},
		{"e2e", "node", false},
		{"e2e", "e2e/lab", false},
		{"e2e", "e2e/remote/onhost", false},
		{"evidence", "node/wire", false},
		{"e2e/lab", "evidence", false},
		{"cmd/wce2e", "e2e/remote/onhost", true},
	} {
		row, allowed, ok := rule(c.pkg)
		if got := ok && (allows(allowed, c.imports) || within(c.imports, row)); got != c.want {
			t.Errorf("%s imports %s: %v, want %v", c.pkg, c.imports, got, c.want)
		}
	}
}

// rule finds the row for a package, its own or the nearest above.
func rule(pkg string) (row string, allowed []string, ok bool) {
	for row = pkg; row != "."; row = path.Dir(row) {
		if allowed, ok = may[row]; ok {
			return row, allowed, true
		}
	}
	return "", nil, false
}

func allows(allowed []string, pkg string) bool {
	return slices.ContainsFunc(allowed, func(a string) bool {
		above, tree := strings.CutSuffix(a, "...")
		return a == pkg || tree && strings.HasPrefix(pkg+"/", above)
	})
}

// within tells whether pkg has no row of its own and falls under row.
func within(pkg, row string) bool {
	own, _, ok := rule(pkg)
	return ok && own == row
}

type goFile struct {
	name, pkg string
	imports   []string
}

// imports yields every Go file of the repository but the tests.
func imports(t *testing.T) func(func(goFile) bool) {
	return func(yield func(goFile) bool) {
		for name := range repoFiles(t) {
			if path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(repoRoot, name), nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			src := goFile{name: name, pkg: path.Dir(name)}
			for _, spec := range f.Imports {
				imp, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					t.Fatal(err)
				}
				src.imports = append(src.imports, imp)
			}
			if !yield(src) {
				return
			}
		}
	}
}

// upward finds relative paths that climb, as "../../x".
var upward = regexp.MustCompile(`(?:\.\./)+[A-Za-z][\w./-]*`)

func TestNoFileNamesAPathOfOneMachine(t *testing.T) {
	here, err := filepath.Abs(repoRoot)
	if err != nil {
		t.Fatal(err)
	}
	paths := []string{here}
	if home, err := os.UserHomeDir(); err == nil && strings.Count(home, "/") > 1 { // not /root: texts may speak of it
		paths = append(paths, home)
	}
	for name := range repoFiles(t) {
		text := readRepo(t, name)
		if slices.Contains(text[:min(len(text), 8000)], 0) {
			continue // binary
		}
		for n, line := range strings.Split(string(text), "\n") {
			for _, p := range paths {
				if strings.Contains(line, p+"/") || strings.HasSuffix(line, p) {
					t.Errorf("%s:%d: names %s, a path of this machine", name, n+1, p)
				}
			}
			for _, rel := range upward.FindAllString(line, -1) {
				if leavesRepo(name, rel) {
					t.Errorf("%s:%d: %s leads out of the repository", name, n+1, rel)
				}
			}
		}
	}
}

// leavesRepo tells whether rel, seen from the folder of file, is outside. Scripts
// of testscript and Go tests may speak of such paths to have them refused.
func leavesRepo(file, rel string) bool {
	if strings.Contains(file, "testdata/") || strings.HasSuffix(file, "_test.go") {
		return false
	}
	return strings.HasPrefix(path.Join(path.Dir(file), rel), "../")
}

func TestAPathOutOfTheRepositoryIsSeen(t *testing.T) {
	for _, c := range []struct {
		file, rel string
		want      bool
	}{
		{"README.md", "../elsewhere/notes.md", true},
		{"docs/relay.md", "../README.md", false},
		{"node/wire/doc.go", "../../../notes.md", true},
	} {
		if got := leavesRepo(c.file, c.rel); got != c.want || !upward.MatchString(c.rel) {
			t.Errorf("%s in %s: %v, want %v", c.rel, c.file, got, c.want)
		}
	}
}

func TestEveryCommittedBundleIsWholeAndHoldsNoSecret(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join(repoRoot, bundles, "*", "*", evidence.TraceFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, trace := range dirs {
		lookAtBundle(t, filepath.Dir(trace), filepath.Dir(trace))
	}
	packed, err := filepath.Glob(filepath.Join(repoRoot, bundles, "*", "*", matrix.CellsDir, "*"+evidence.PackSuffix))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range packed {
		dir := t.TempDir()
		if err := evidence.Unpack(file, dir); err != nil {
			t.Error(err)
			continue
		}
		lookAtBundle(t, file, dir)
	}
	t.Logf("%d bundles looked at, %d of them packed", len(dirs)+len(packed), len(packed))
}

// lookAtBundle looks at the bundle that lies in dir.
func lookAtBundle(t *testing.T, name, dir string) {
	t.Helper()
	b, err := evidence.Open(dir)
	if err != nil {
		t.Error(err)
		return
	}
	for _, p := range b.Problems {
		t.Errorf("%s: %s", name, p)
	}
	leaks, err := evidence.ScanSecrets(dir)
	if err != nil {
		t.Error(err)
	}
	for _, l := range leaks {
		t.Errorf("%s: %s", name, l)
	}
}

// repoFiles yields the files of the repository, without bundles, what git keeps
// for itself, and what is built.
func repoFiles(t *testing.T) func(func(string) bool) {
	return func(yield func(string) bool) {
		err := fs.WalkDir(os.DirFS(repoRoot), ".", func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && slices.Contains([]string{".git", bundles, "dist", "bin"}, name):
				return fs.SkipDir
			case d.Type().IsRegular() && !yield(name):
				return fs.SkipAll
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func readRepo(t *testing.T, name string) []byte {
	b, err := os.ReadFile(filepath.Join(repoRoot, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
