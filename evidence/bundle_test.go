package evidence

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var start = time.Date(2026, 11, 22, 14, 20, 30, 0, time.UTC)

// newWriter begins a bundle whose clock ticks 250 ms an append.
func newWriter(t testing.TB) *Writer {
	t.Helper()
	w, err := Create(t.TempDir(), "firewall-traversal", start)
	must(t, err)
	t.Cleanup(func() { w.Close() })
	tick := start
	w.now = func() time.Time { tick = tick.Add(250 * time.Millisecond); return tick }
	return w
}

// nodeLine is an event as a node writes it: what encoding/json would escape or
// compact is in it.
const nodeLine = "{\"ts\":\"2026-11-22T14:20:31Z\",\"seq\":1,\"boot\":\"b\",\"event\":\"dial.ended\",\"err\":\"<tcp> & \u2028 \\u00e4\", \"ms\":1.50}"

// fill writes a small but complete run.
func fill(t testing.TB, w *Writer) {
	t.Helper()
	add := func(name Name, host string, data any) {
		t.Helper()
		_, err := w.Append(name, host, data)
		must(t, err)
	}
	add(RunStarted, "", Started{RunID: "r1", Inventory: "lab", Area: "firewall-traversal", Lab: true, Hold: Duration(20 * time.Second)})
	add(NodeSaid, "tensor02", json.RawMessage(nodeLine))
	_, err := w.AppendAll(
		Item{NodeSaid, "laptop", json.RawMessage(`{"seq":1}`)},
		Item{StepFailed, "laptop", Failure{Step: "dial", Err: "a < b"}},
	)
	must(t, err)
	_, err = w.RunLog().Write([]byte("level=INFO msg=\"hold\"\n"))
	must(t, err)
	must(t, w.WriteFile("inventory.yaml", []byte("version: 1\n")))
	for _, log := range []struct{ host, text string }{{"tensor02", "one\ntwo\n"}, {"laptop", ""}} {
		f, err := w.WriteLog(log.host, strings.NewReader(log.text), 0)
		must(t, err)
		add(LogCollected, log.host, f)
	}
	must(t, w.WriteFile(ResultsFile, []byte(`{"overall":"pass"}`)))
	must(t, w.WriteFile(MetadataFile, []byte(`{"run_id":"r1"}`)))
	must(t, w.WriteFile("index.md", []byte("# run\n")))
	add(RunEnded, "", Ended{How: "finished"})
}

func sealed(t testing.TB) string {
	t.Helper()
	w := newWriter(t)
	fill(t, w)
	must(t, w.Seal())
	return w.Dir()
}

func open(t testing.TB, dir string) *Bundle {
	t.Helper()
	b, err := Open(dir)
	must(t, err)
	return b
}

// whole fails unless the bundle verifies.
func whole(t testing.TB, b *Bundle) {
	t.Helper()
	if len(b.Problems) > 0 {
		t.Fatalf("a good bundle has problems:\n%s", strings.Join(b.Problems, "\n"))
	}
}

// hasProblem fails unless one of the problems says all the words.
func hasProblem(t testing.TB, b *Bundle, words ...string) {
	t.Helper()
	for _, p := range b.Problems {
		all := true
		for _, w := range words {
			all = all && strings.Contains(p, w)
		}
		if all {
			return
		}
	}
	t.Errorf("no problem says %q:\n%s", words, strings.Join(b.Problems, "\n"))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func readFile(t testing.TB, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	must(t, err)
	return b
}

func writeFile(t testing.TB, content []byte, path ...string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(path...), content, 0o644))
}
