package evidence

import (
	"archive/zip"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// smallBundle makes a sealed bundle with a log.
func smallBundle(t *testing.T) string {
	t.Helper()
	w, err := Create(t.TempDir(), "area", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Append(RunStarted, "", Started{RunID: "r"}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteLog("host", strings.NewReader(strings.Repeat("a line of a log\n", 1000)), 0); err != nil {
		t.Fatal(err)
	}
	if err := w.Seal(); err != nil {
		t.Fatal(err)
	}
	return w.Dir()
}

func TestAPackedBundleIsTheSameBundleUnpacked(t *testing.T) {
	dir, again := smallBundle(t), t.TempDir()
	file := filepath.Join(t.TempDir(), "b"+PackSuffix)
	if err := Pack(dir, file); err != nil {
		t.Fatal(err)
	}
	if err := Unpack(file, again); err != nil {
		t.Fatal(err)
	}
	a, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(again)
	if err != nil {
		t.Fatal(err)
	}
	a.Dir, b.Dir = "", ""
	if !reflect.DeepEqual(a, b) || len(b.Problems) > 0 {
		t.Errorf("unpacked it is another one: %v", b.Problems)
	}
	if err := Pack(dir, file); err == nil {
		t.Error("a file that was there was written over")
	}
}

func TestTheSameBundleIsPackedIntoTheSameBytes(t *testing.T) {
	dir, to := smallBundle(t), t.TempDir()
	var packed [2][]byte
	for i, name := range []string{"a", "b"} {
		if err := Pack(dir, filepath.Join(to, name)); err != nil {
			t.Fatal(err)
		}
		packed[i], _ = os.ReadFile(filepath.Join(to, name))
	}
	if string(packed[0]) != string(packed[1]) || len(packed[0]) == 0 {
		t.Error("it is not")
	}
}

func TestAFileThatIsNoPackedBundleIsNotUnpacked(t *testing.T) {
	write := func(names ...string) string {
		file := filepath.Join(t.TempDir(), "x.zip")
		f, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		z := zip.NewWriter(f)
		for _, n := range names {
			w, err := z.Create(n)
			if err != nil {
				t.Fatal(err)
			}
			w.Write([]byte("{}\n"))
		}
		if err := errors.Join(z.Close(), f.Close()); err != nil {
			t.Fatal(err)
		}
		return file
	}
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("no zip"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file string
		none bool // ErrNoBundle
	}{
		"no zip":                  {plain, true},
		"a zip of something else": {write("photo.jpg"), true},
		"a name that climbs out":  {write(TraceFile, "../evil"), false},
		"a name at the root":      {write(TraceFile, "/etc/evil"), false},
		"a name given twice":      {write(TraceFile, TraceFile), false},
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			dir := filepath.Join(parent, "in")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			err := Unpack(c.file, dir)
			if err == nil || errors.Is(err, ErrNoBundle) != c.none {
				t.Errorf("error %v", err)
			}
			if _, err := os.Stat(filepath.Join(parent, "evil")); err == nil {
				t.Error("it has left its folder")
			}
		})
	}
}

func TestWhoWatchesATraceIsToldOfEveryEventInOrder(t *testing.T) {
	w, err := Create(t.TempDir(), "area", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.Append(RunStarted, "", Started{RunID: "r"}); err != nil {
		t.Fatal(err)
	}
	var seen []Event
	w.Watch(func(e Event) { seen = append(seen, e) })
	if _, err := w.AppendAll(Item{HostUp, "a", Connected{}}, Item{HostUp, "b", Connected{}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Append("no.such.name", "", nil); err == nil {
		t.Error("an unknown name was accepted")
	}
	if err := w.Seal(); err != nil {
		t.Fatal(err)
	}
	b, err := Open(w.Dir())
	if err != nil {
		t.Fatal(err)
	}
	if want := b.Events[1:]; !reflect.DeepEqual(seen, want) {
		t.Errorf("told of %+v\nwant     %+v", seen, want)
	}
}
