package evidence

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestAMachineWithoutGPUsHasAnEmptyList(t *testing.T) {
	text, err := json.Marshal(Metadata{Machines: []Machine{{Hostname: "a"}, {GPUs: []string{"H100"}}}})
	must(t, err)
	if got := string(text); !strings.Contains(got, `"gpus":[]`) || !strings.Contains(got, `"gpus":["H100"]`) || !strings.Contains(got, `"hostname":"a"`) {
		t.Errorf("metadata %s", got)
	}
}

func TestTheTraceIsWrittenTheSameForEver(t *testing.T) {
	dir := sealed(t)
	got := readFile(t, dir, TraceFile)
	golden := filepath.Join("testdata", "trace.golden.jsonl")
	if *update {
		must(t, os.MkdirAll("testdata", 0o755))
		writeFile(t, got, golden)
	}
	if want := readFile(t, golden); !bytes.Equal(got, want) {
		t.Errorf("the trace's bytes have changed; bundles of old cannot be read with new ones:\n%s\nwant\n%s", got, want)
	}
}

func TestANodesLineKeepsItsBytes(t *testing.T) {
	lines := []string{
		nodeLine,
		`{"a":"` + "\u2028\u2029\u0085" + `<script>&amp;"}`,
		`{"html":"<>&","u":"\u2028\u003c","space": [ 1 , 2 ]	}`,
		"{\"bad utf-8\":\"\xff\xfe\"}",
		`{"n":1.0,"e":1E+2,"n":2}`,
		`"word"`, `12.50`, `null`,
	}
	w := newWriter(t)
	for _, l := range lines {
		if _, err := w.Append(NodeSaid, "tensor02", json.RawMessage(l)); err != nil {
			t.Fatalf("%q: %v", l, err)
		}
	}
	b := open(t, w.Dir())
	whole(t, b)
	for i, l := range lines {
		if got := string(b.Events[i].Data); got != l {
			t.Errorf("wrote %q, read %q", l, got)
		}
	}
}

func TestJSONOnSeveralLinesIsPutOnOne(t *testing.T) {
	w := newWriter(t)
	_, err := w.Append(NodeStatus, "tensor02", json.RawMessage("{\n  \"name\": \"<a>\"\n}\n"))
	must(t, err)
	b := open(t, w.Dir())
	whole(t, b)
	if got := string(b.Events[0].Data); got != `{"name":"<a>"}` {
		t.Errorf("got %s", got)
	}
}

func TestWhatCannotBeWrittenChangesNothing(t *testing.T) {
	w := newWriter(t)
	_, err := w.Append(RunStarted, "", Started{})
	must(t, err)
	before := readFile(t, w.Dir(), TraceFile)
	bad := map[string]Item{
		"an unknown name":  {Name: "node.dreamt"},
		"no JSON":          {Name: NodeSaid, Data: json.RawMessage(`{"a":`)},
		"two documents":    {Name: NodeSaid, Data: json.RawMessage(`{} {}`)},
		"a channel":        {Name: StepFailed, Data: make(chan int)},
		"a host not UTF-8": {Name: NodeSaid, Host: "\xff"},
		"a line too long":  {Name: NodeSaid, Data: json.RawMessage(`"` + strings.Repeat("x", MaxLine) + `"`)},
	}
	for what, it := range bad {
		if _, err := w.AppendAll(Item{Name: HostUp, Host: "a"}, it); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	if after := readFile(t, w.Dir(), TraceFile); !bytes.Equal(before, after) {
		t.Errorf("the trace has changed:\n%s", after)
	}
	if seq, err := w.Append(HostUp, "a", nil); err != nil || seq != 2 {
		t.Errorf("the next append: seq %d, %v; want 2", seq, err)
	}
	whole(t, open(t, w.Dir()))
}

func TestAfterAFailedWriteTheTraceTakesNoMoreLines(t *testing.T) {
	w := newWriter(t)
	_, err := w.Append(RunStarted, "", Started{})
	must(t, err)
	must(t, w.trace.Close()) // as good as a disk that is gone
	if _, err := w.Append(HostUp, "a", nil); err == nil {
		t.Fatal("a write to a closed file succeeded")
	}
	if _, err := w.Append(HostUp, "a", nil); err == nil || !strings.Contains(err.Error(), "earlier write failed") {
		t.Errorf("got %v", err)
	}
	b := open(t, w.Dir())
	whole(t, b)
	if len(b.Events) != 1 {
		t.Errorf("%d events, want 1", len(b.Events))
	}
}

func TestManyAppendAtOnceAndTheChainHolds(t *testing.T) {
	w := newWriter(t)
	w.now = time.Now
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 25 {
				it := Item{NodeSaid, fmt.Sprint("h", g), json.RawMessage(fmt.Sprintf(`{"seq":%d}`, i))}
				if _, err := w.AppendAll(it, it); err != nil {
					t.Error(err)
				}
				fmt.Fprintf(w.RunLog(), "h%d says %d\n", g, i)
			}
		})
	}
	wg.Wait()
	must(t, w.Seal())
	b := open(t, w.Dir())
	whole(t, b)
	if len(b.Events) != 8*25*2 {
		t.Errorf("%d events", len(b.Events))
	}
}

func TestABundleIsNeverOverwritten(t *testing.T) {
	root := t.TempDir()
	for _, want := range []string{"20261122T142030Z", "20261122T142030Z-2", "20261122T142030Z-3"} {
		w, err := Create(root, "firewall-traversal", start.In(time.FixedZone("", 3600)))
		must(t, err)
		must(t, w.Seal())
		if got := filepath.Base(w.Dir()); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got := filepath.Base(filepath.Dir(w.Dir())); got != "firewall-traversal" {
			t.Errorf("area %s", got)
		}
	}
	for _, area := range []string{"", "..", "a/b", "/etc"} {
		if _, err := Create(root, area, start); err == nil {
			t.Errorf("area %q was taken", area)
		}
	}
}

func TestFilesStayInTheBundleAndAreReadable(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	w := newWriter(t)
	for _, name := range []string{"", "../x", "/etc/x", "a/../../x", ".hidden", "a b", "x\ny", `a\b`, "a//b", TraceFile, RunLogFile, SumsFile} {
		if err := w.WriteFile(name, nil); err == nil {
			t.Errorf("%q was written", name)
		}
	}
	if _, err := w.WriteLog("../../x", strings.NewReader(""), 0); err == nil {
		t.Error("a log got out of the bundle")
	}
	must(t, w.WriteFile("plots/rtt.svg", []byte("<svg/>")))
	must(t, w.WriteFile("plots/rtt.svg", []byte("<svg></svg>")))
	must(t, w.Seal())
	for _, name := range []string{"plots/rtt.svg", TraceFile, RunLogFile, SumsFile} {
		info, err := os.Stat(filepath.Join(w.Dir(), name))
		must(t, err)
		if info.Mode().Perm() != 0o644 {
			t.Errorf("%s has mode %o", name, info.Mode().Perm())
		}
	}
	if got := string(readFile(t, w.Dir(), "plots/rtt.svg")); got != "<svg></svg>" {
		t.Errorf("got %s", got)
	}
}

func TestASealedBundleTakesNothingMore(t *testing.T) {
	w := newWriter(t)
	fill(t, w)
	must(t, w.Seal())
	_, appendErr := w.Append(HostUp, "a", nil)
	_, logErr := w.RunLog().Write([]byte("late\n"))
	for what, err := range map[string]error{"append": appendErr, "run.log": logErr, "file": w.WriteFile("x", nil), "seal": w.Seal()} {
		if !errors.Is(err, ErrSealed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	whole(t, open(t, w.Dir()))
}

func TestSha256sumAcceptsTheSums(t *testing.T) {
	tool, err := exec.LookPath("sha256sum")
	if err != nil {
		t.Skip("SKIPPED: there is no sha256sum on this machine")
	}
	cmd := exec.Command(tool, "--strict", "-c", SumsFile)
	cmd.Dir = sealed(t)
	if out, err := cmd.CombinedOutput(); err != nil || bytes.Count(out, []byte(": OK")) != 8 {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestEveryNameIsKnown(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "event.go", nil, 0)
	must(t, err)
	n := 0
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			if id, ok := v.Type.(*ast.Ident); ok && id.Name == "Name" {
				n++
				word := Name(strings.Trim(v.Values[0].(*ast.BasicLit).Value, `"`))
				if !known[word] {
					t.Errorf("%s (%q) is not in Names", v.Names[0], word)
				}
			}
		}
	}
	if n == 0 || n != len(Names) {
		t.Errorf("event.go has %d names, Names %d", n, len(Names))
	}
}

func TestALogOverItsBudgetKeepsItsHeadAndItsTail(t *testing.T) {
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, "line %d\n", i)
	}
	all := text.String()
	for _, budget := range []int64{64, 65, 1000, 5000, int64(len(all)) - 1} {
		w := newWriter(t)
		f, err := w.WriteLog("tensor02", strings.NewReader(all), budget)
		must(t, err)
		_, err = w.Append(LogCollected, "tensor02", f)
		must(t, err)
		b := open(t, w.Dir())
		whole(t, b)
		got := string(b.Logs["tensor02"])
		head, rest, _ := strings.Cut(got, "--- ")
		_, tail, _ := strings.Cut(rest, " ---\n")
		if f.Kept != int64(len(head)+len(tail)) || f.Kept > budget || f.Size != int64(len(all)) || f.SHA256 != hashLine([]byte(all)) {
			t.Errorf("budget %d: %+v, head %d, tail %d", budget, f, len(head), len(tail))
		}
		if !strings.HasPrefix(all, head) || !strings.HasSuffix(all, tail) || !strings.HasSuffix(tail, "line 999\n") || !strings.HasPrefix(head, "line 0\n") {
			t.Errorf("budget %d: kept\n%s", budget, got)
		}
	}
}

func TestALogIsTheSameHoweverItArrives(t *testing.T) {
	text := []byte(strings.Repeat("a line of a log\n", 500))
	for _, budget := range []int64{100, 7999, 8000, 8001} {
		var want []byte
		for try := range 5 {
			c := newHeadTail(budget)
			for rest := text; len(rest) > 0; {
				n := len(rest)
				if try > 0 {
					n = min(n, 1+rand.IntN(700))
				}
				_, err := c.Write(rest[:n])
				must(t, err)
				rest = rest[n:]
			}
			got, _ := c.text()
			if try == 0 {
				want = got
			} else if !bytes.Equal(got, want) {
				t.Fatalf("budget %d: in pieces\n%s\nat once\n%s", budget, got, want)
			}
		}
		if budget >= int64(len(text)) != bytes.Equal(want, text) {
			t.Errorf("budget %d keeps %d of %d", budget, len(want), len(text))
		}
	}
}

func TestALogThatBreaksOffIsKept(t *testing.T) {
	w := newWriter(t)
	boom := errors.New("connection lost")
	f, err := w.WriteLog("tensor02", &failing{"one\ntwo\n", boom}, 0)
	if !errors.Is(err, boom) || f.Size != 8 {
		t.Errorf("got %+v, %v", f, err)
	}
	if got := string(open(t, w.Dir()).Logs["tensor02"]); got != "one\ntwo\n" {
		t.Errorf("kept %q", got)
	}
}

type failing struct {
	text string
	err  error
}

func (f *failing) Read(p []byte) (int, error) {
	if f.text == "" {
		return 0, f.err
	}
	n := copy(p, f.text)
	f.text = f.text[n:]
	return n, nil
}
