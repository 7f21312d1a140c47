package node

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestEventsAreBoundedAndOneOlderFileIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), eventsFile)
	const most, lines = 100, 35
	e, err := openEvents(path, most)
	if err != nil {
		t.Fatal(err)
	}
	line := []byte("0123456\n")
	for range lines {
		if n, err := e.Write(line); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	now, older := read(t, path), read(t, path+".1")
	if len(older) != most/len(line)*len(line) || len(now) != (lines-2*(most/len(line)))*len(line) {
		t.Errorf("%d and %d bytes", len(now), len(older))
	}
	if !bytes.HasPrefix(now, line) || !bytes.HasSuffix(older, line) {
		t.Error("a line was cut in two")
	}
	if left, _ := filepath.Glob(path + "*"); len(left) != 2 {
		t.Errorf("files: %v", left)
	}
}

func TestEventsGoOnWhereTheyCannotBeRotated(t *testing.T) {
	path := filepath.Join(t.TempDir(), eventsFile)
	e, err := openEvents(path, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	// Nothing can be renamed to a directory that is not empty.
	if err := os.MkdirAll(filepath.Join(path+".1", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := e.Write([]byte("0123456\n")); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, path); len(got) != 24 {
		t.Errorf("%q", got)
	}
}

func TestALineThatACrashHasCutIsEnded(t *testing.T) {
	path := filepath.Join(t.TempDir(), eventsFile)
	for before, want := range map[string]string{"": "new\n", "old\n": "old\nnew\n", "old\nhal": "old\nhal\nnew\n"} {
		if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		e, err := openEvents(path, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Write([]byte("new\n")); err != nil {
			t.Fatal(err)
		}
		e.Close()
		if got := string(read(t, path)); got != want {
			t.Errorf("after %q: %q", before, got)
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
