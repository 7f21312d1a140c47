package evidence

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestABundleIsReadAsItWasWritten(t *testing.T) {
	b := open(t, sealed(t))
	whole(t, b)
	if !b.Sealed || b.Torn || b.Lines != 7 || len(b.Events) != 7 || len(b.Sums) != 8 {
		t.Errorf("sealed %v, torn %v, %d lines, %d events, %d sums", b.Sealed, b.Torn, b.Lines, len(b.Events), len(b.Sums))
	}
	if string(b.Logs["tensor02"]) != "one\ntwo\n" || b.Logs["laptop"] == nil || len(b.Logs["laptop"]) != 0 {
		t.Errorf("logs %q", b.Logs)
	}
	if b.Metadata == nil || b.Metadata.RunID != "r1" || b.Results == nil || b.Results.Overall != "pass" {
		t.Errorf("metadata %v, results %v", b.Metadata, b.Results)
	}
}

func TestNoByteCanBeChangedUnseen(t *testing.T) {
	dir := sealed(t)
	rng := rand.New(rand.NewPCG(1, 2))
	eachFile(t, dir, func(name string) {
		good := readFile(t, dir, name)
		for _, at := range sample(rng, len(good), 100) {
			bad := bytes.Clone(good)
			bad[at] ^= byte(1 + rng.IntN(255))
			writeFile(t, bad, dir, name)
			b, err := Open(dir)
			if err == nil && len(b.Problems) == 0 {
				t.Errorf("%s: byte %d from %q to %q, unseen", name, at, good[at], bad[at])
			}
		}
		writeFile(t, good, dir, name)
	})
	whole(t, open(t, dir))
}

func TestNoFileCanBeShortenedLengthenedAddedOrTakenUnseen(t *testing.T) {
	dir := sealed(t)
	eachFile(t, dir, func(name string) {
		good := readFile(t, dir, name)
		changed := map[string][]byte{"longer": append(bytes.Clone(good), '\n'), "emptied": {}}
		if len(good) > 0 {
			changed["shorter"] = good[:len(good)-1]
		} else {
			delete(changed, "emptied")
		}
		for what, bad := range changed {
			writeFile(t, bad, dir, name)
			if b := open(t, dir); len(b.Problems) == 0 {
				t.Errorf("%s %s, unseen", name, what)
			}
		}
		must(t, os.Remove(filepath.Join(dir, name)))
		if b := open(t, dir); len(b.Problems) == 0 && b.Sealed {
			t.Errorf("%s taken, unseen", name)
		}
		writeFile(t, good, dir, name)
	})
	writeFile(t, nil, dir, "extra.txt")
	hasProblem(t, open(t, dir), "extra.txt", "not in SHA256SUMS")
}

func TestTheChainShowsAChangeWithoutSums(t *testing.T) {
	w := newWriter(t)
	fill(t, w)
	good := readFile(t, w.Dir(), TraceFile)
	last := bytes.LastIndexByte(good[:len(good)-1], '\n') // the last line has nothing that follows it
	for at := 0; at < last; at += 5 {
		bad := bytes.Clone(good)
		bad[at] ^= 1
		writeFile(t, bad, w.Dir(), TraceFile)
		if b := open(t, w.Dir()); len(b.Problems) == 0 {
			t.Fatalf("byte %d from %q to %q, unseen", at, good[at], bad[at])
		}
	}
}

func TestLinesTakenFromTheTraceAreMissed(t *testing.T) {
	w := newWriter(t)
	fill(t, w)
	lines := bytes.SplitAfter(readFile(t, w.Dir(), TraceFile), []byte("\n"))
	lines = lines[:len(lines)-1]
	for i := range len(lines) - 1 {
		writeFile(t, bytes.Join(append(append([][]byte{}, lines[:i]...), lines[i+1:]...), nil), w.Dir(), TraceFile)
		b := open(t, w.Dir())
		hasProblem(t, b, "the chain is broken")
		hasProblem(t, b, "seq is")
	}
	twice := bytes.Join(append(append([][]byte{}, lines...), lines[len(lines)-1]), nil)
	writeFile(t, twice, w.Dir(), TraceFile)
	hasProblem(t, open(t, w.Dir()), "goes on after run.ended")
}

func TestACutTraceIsReadableUpToTheCut(t *testing.T) {
	w := newWriter(t)
	fill(t, w)
	good := readFile(t, w.Dir(), TraceFile)
	third := bytes.LastIndexByte(good[:bytes.LastIndexByte(good[:len(good)-1], '\n')], '\n')
	cuts := rand.New(rand.NewPCG(1, 2)).Perm(third)[:100]
	for at := third; at <= len(good); at++ { // every byte of the last two lines
		cuts = append(cuts, at)
	}
	for _, at := range cuts {
		part := good[:at]
		writeFile(t, part, w.Dir(), TraceFile)
		b := open(t, w.Dir())
		whole(t, b)
		lines := bytes.Count(part, []byte("\n"))
		torn := at > 0 && part[at-1] != '\n'
		if b.Sealed || b.Lines != lines || len(b.Events) != lines || b.Torn != torn {
			t.Fatalf("cut at %d: %d lines, %d events, torn %v; want %d, torn %v", at, b.Lines, len(b.Events), b.Torn, lines, torn)
		}
		if want := part[bytes.LastIndexByte(part, '\n')+1:]; !bytes.Equal(b.Tail, want) {
			t.Fatalf("cut at %d: tail %q, want %q", at, b.Tail, want)
		}
	}
}

func TestALineSaysOneThing(t *testing.T) {
	w := newWriter(t)
	_, err := w.Append(HostUp, "a", nil)
	must(t, err)
	good := string(readFile(t, w.Dir(), TraceFile))
	for what, bad := range map[string]string{
		"a key twice":             strings.Replace(good, `"seq":1`, `"seq":1,"seq":1`, 1),
		"a key in capitals":       strings.Replace(good, `"host"`, `"HOST"`, 1),
		"an unknown key":          strings.Replace(good, `"host"`, `"mood":1,"host"`, 1),
		"space":                   strings.Replace(good, `"seq":1`, `"seq": 1`, 1),
		"an escape for a letter":  strings.Replace(good, `"a"`, `"\u0061"`, 1),
		"an empty line before it": "\n" + good,
		"a carriage return":       strings.Replace(good, "\n", "\r\n", 1),
	} {
		if bad == good {
			t.Fatalf("%s: the test changes nothing", what)
		}
		writeFile(t, []byte(bad), w.Dir(), TraceFile)
		if b := open(t, w.Dir()); len(b.Problems) == 0 {
			t.Errorf("%s: unseen", what)
		}
	}
}

func TestATraceOfANewerVersionIsAProblem(t *testing.T) {
	w := newWriter(t)
	line, err := encodeLine(Event{TS: start, Seq: 1, Name: "node.dreamt", Prev: firstPrev})
	must(t, err)
	writeFile(t, append(line, '\n'), w.Dir(), TraceFile)
	b := open(t, w.Dir())
	hasProblem(t, b, "trace.jsonl:1:", `"node.dreamt"`, "newer")
}

func TestALogMustBeTheOneThatWasHashedOnItsHost(t *testing.T) {
	for what, tamper := range map[string]func(*LogFile){
		"another text":          func(f *LogFile) { f.SHA256 = hashLine([]byte("one\nTWO\n")) },
		"another length":        func(f *LogFile) { f.Size++; f.Kept++ },
		"another file":          func(f *LogFile) { f.File = "logs/laptop.log.gz" },
		"more kept than it has": func(f *LogFile) { f.Kept++ },
		"cut, but not marked":   func(f *LogFile) { f.Size += 100 },
	} {
		w := newWriter(t)
		f, err := w.WriteLog("tensor02", strings.NewReader("one\ntwo\n"), 0)
		must(t, err)
		tamper(&f)
		_, err = w.Append(LogCollected, "tensor02", f)
		must(t, err)
		if b := open(t, w.Dir()); len(b.Problems) == 0 {
			t.Errorf("%s: unseen", what)
		}
	}
	w := newWriter(t)
	_, err := w.Append(LogCollected, "tensor02", LogFile{File: "logs/tensor02.log.gz"})
	must(t, err)
	hasProblem(t, open(t, w.Dir()), "logs/tensor02.log.gz: missing")
}

func TestAHostileBundleIsReadWithinBounds(t *testing.T) {
	t.Run("a line without end", func(t *testing.T) {
		dir := sealed(t)
		writeFile(t, bytes.Repeat([]byte("x"), MaxLine+1), dir, TraceFile)
		hasProblem(t, open(t, dir), "line 1 is longer than")
	})
	t.Run("a log that unpacks to too much", func(t *testing.T) {
		if testing.Short() {
			t.Skip("SKIPPED: -short: it unpacks 256 MiB")
		}
		dir := sealed(t)
		packed, err := pack(make([]byte, 1<<20))
		must(t, err)
		// Gzip files in a row are one gzip file.
		writeFile(t, bytes.Repeat(packed, maxLogText>>20+1), dir, "logs/tensor02.log.gz")
		hasProblem(t, open(t, dir), "logs/tensor02.log.gz", "unpack to more than")
	})
	t.Run("a file too large", func(t *testing.T) {
		dir := sealed(t)
		must(t, os.Truncate(filepath.Join(dir, "index.md"), maxFile+1)) // sparse
		hasProblem(t, open(t, dir), "index.md", "is the limit")
	})
	t.Run("a fifo", func(t *testing.T) {
		dir := sealed(t)
		must(t, os.Remove(filepath.Join(dir, "index.md")))
		must(t, syscall.Mkfifo(filepath.Join(dir, "index.md"), 0o644))
		hasProblem(t, open(t, dir), "index.md", "not a regular file")
	})
	t.Run("a link out of the bundle", func(t *testing.T) {
		dir := sealed(t)
		must(t, os.Rename(filepath.Join(dir, "index.md"), filepath.Join(t.TempDir(), "index.md")))
		must(t, os.Symlink("/etc/passwd", filepath.Join(dir, "index.md")))
		hasProblem(t, open(t, dir), "index.md", "not a regular file")
	})
	t.Run("a folder in a file's place", func(t *testing.T) {
		dir := sealed(t)
		must(t, os.Remove(filepath.Join(dir, "index.md")))
		must(t, os.Mkdir(filepath.Join(dir, "index.md"), 0o755))
		hasProblem(t, open(t, dir), "index.md: missing")
	})
	t.Run("a thousand problems", func(t *testing.T) {
		dir := sealed(t)
		writeFile(t, bytes.Repeat([]byte("{}\n"), 1000), dir, TraceFile)
		b := open(t, dir)
		if len(b.Problems) > 3*maxProblems {
			t.Errorf("%d problems told", len(b.Problems))
		}
		hasProblem(t, b, "more problems")
	})
}

func TestAFolderThatIsNoBundleIsSaidToBeNone(t *testing.T) {
	if _, err := Open(t.TempDir()); !errors.Is(err, ErrNoBundle) {
		t.Errorf("an empty folder: %v", err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "nowhere")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

func TestAnEmptyTraceHoldsNothing(t *testing.T) {
	w := newWriter(t)
	b := open(t, w.Dir())
	whole(t, b)
	if b.Sealed || len(b.Events) != 0 {
		t.Errorf("sealed %v, %d events", b.Sealed, len(b.Events))
	}
}

func TestRenderingAgainIsNoChangeButAnyOtherIs(t *testing.T) {
	dir := sealed(t)
	writeFile(t, []byte("# by hand\n"), dir, "index.md")
	must(t, Rerender(dir, map[string][]byte{"index.md": []byte("# again\n"), "report.html": []byte("<html>"), "screenshots/hold.svg": []byte("<svg/>")}))
	whole(t, open(t, dir))
	if got := string(readFile(t, dir, "screenshots", "hold.svg")); got != "<svg/>" {
		t.Errorf("the picture is %q", got)
	}
	if got := string(readFile(t, dir, "index.md")); got != "# again\n" {
		t.Errorf("index.md is %q", got)
	}

	before := readFile(t, dir, SumsFile)
	writeFile(t, []byte("{}"), dir, ResultsFile)
	err := Rerender(dir, map[string][]byte{"index.md": []byte("# third\n")})
	if err == nil || !strings.Contains(err.Error(), "results.json: changed") {
		t.Errorf("rendered over a changed results.json: %v", err)
	}
	if !bytes.Equal(before, readFile(t, dir, SumsFile)) || string(readFile(t, dir, "index.md")) != "# again\n" {
		t.Error("something was written")
	}
}

func TestOnlyRenderedFilesAreRenderedAgain(t *testing.T) {
	dir := sealed(t)
	for _, name := range []string{TraceFile, RunLogFile, SumsFile, MetadataFile, ResultsFile, "logs/tensor02.log.gz", "../x", "screenshots", "screenshots/../x", "screenshots/a/b", "screenshots/"} {
		if err := Rerender(dir, map[string][]byte{name: nil}); err == nil {
			t.Errorf("%s was rendered", name)
		}
	}
	whole(t, open(t, dir))
}

func TestAnUnsealedBundleStaysUnsealedWhenRendered(t *testing.T) {
	w := newWriter(t)
	fill(t, w)
	must(t, Rerender(w.Dir(), map[string][]byte{"index.md": nil}))
	if open(t, w.Dir()).Sealed {
		t.Error("it has become sealed")
	}
}

// FuzzOpen: no trace and no log makes Open fail, hang or panic, and what it
// takes for whole is what the writer would have written.
func FuzzOpen(f *testing.F) {
	dir := sealed(f)
	trace, log := readFile(f, dir, TraceFile), readFile(f, dir, "logs/tensor02.log.gz")
	f.Add(trace, log, readFile(f, dir, SumsFile))
	f.Add([]byte("{}\n\n"), []byte{0x1f, 0x8b}, []byte("x  y"))
	f.Add(trace[:len(trace)/2], log[:len(log)-4], []byte{})
	f.Add([]byte(`{"ts":"2026-11-22T14:20:30.5Z","seq":1,"event":"log.collected","host":"a","data":{"file":3},"prev":"`+firstPrev+`"}`+"\n"), []byte{}, []byte{})
	dir = f.TempDir()
	must(f, os.Mkdir(filepath.Join(dir, "logs"), 0o755))
	f.Fuzz(func(t *testing.T, trace, log, sums []byte) {
		writeFile(t, trace, dir, TraceFile)
		writeFile(t, log, dir, "logs/tensor02.log.gz")
		writeFile(t, sums, dir, SumsFile)
		b := open(t, dir)
		if len(b.Problems) > 0 {
			return
		}
		var again []byte
		for _, e := range b.Events {
			line, err := encodeLine(e)
			must(t, err)
			again = append(append(again, line...), '\n')
		}
		if !bytes.Equal(again, trace) {
			t.Errorf("taken for whole, but written it would be\n%s", again)
		}
	})
}

func eachFile(t *testing.T, dir string, do func(name string)) {
	t.Helper()
	n := 0
	must(t, fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
			do(name)
		}
		return err
	}))
	if n < 5 {
		t.Fatalf("only %d files", n)
	}
}

// sample gives all offsets of a short file, n random ones of a longer.
func sample(rng *rand.Rand, size, n int) []int {
	if size <= n {
		return rng.Perm(size)
	}
	at := make([]int, n)
	for i := range at {
		at[i] = rng.IntN(size)
	}
	return append(at, 0, size-1)
}
