package names

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func openCache(t *testing.T, path string) (*cache, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	return &cache{path: path, log: slog.New(slog.NewTextHandler(&log, nil))}, &log
}

func TestAnswersSurviveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "names.json")
	texts, ips := question{"_dnsaddr." + boot, TXT}, question{boot, IP}
	began := time.Now()
	c, log := openCache(t, path)
	c.put(texts, []string{"dnsaddr=/ip4/11.0.0.1/tcp/4001", "a \"quote\", <ä>"})
	c.put(ips, []string{public, "2a00::1"})
	if log.Len() > 0 {
		t.Error(log)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v", info.Mode(), err)
	}
	c, _ = openCache(t, path)
	got, since := c.get(texts)
	if !slices.Equal(got, []string{"dnsaddr=/ip4/11.0.0.1/tcp/4001", "a \"quote\", <ä>"}) || since.Before(began.Add(-time.Second)) {
		t.Errorf("texts: %q of %v", got, since)
	}
	if got, _ := c.get(ips); !slices.Equal(got, []string{public, "2a00::1"}) {
		t.Errorf("addresses: %q", got)
	}
	if got, _ := c.get(question{boot, TXT}); got != nil {
		t.Errorf("the addresses of a name are its texts: %q", got)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestUselessCacheFilesCostNothingElse(t *testing.T) {
	entry := func(change func(*cached)) string {
		a := cached{boot, IP, []string{public}, time.Now().UTC()}
		change(&a)
		raw, err := formatCache([]cached{a})
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	good := entry(func(*cached) {})
	for what, c := range map[string]struct {
		content string
		log     bool
	}{
		"empty":         {"", true},
		"cut":           {good[:len(good)/2], true},
		"not JSON":      {"\x00\xff", true},
		"other version": {strings.Replace(good, `"version":1`, `"version":2`, 1), true},
		"too long":      {good + strings.Repeat(" ", maxCacheFile), true},
		"expired":       {entry(func(a *cached) { a.Since = a.Since.Add(-maxAge - time.Hour) }), false},
		"of the future": {entry(func(a *cached) { a.Since = a.Since.Add(maxSkew + time.Hour) }), false},
		"no address":    {entry(func(a *cached) { a.Values = []string{public, "portal"} }), false},
		"private":       {entry(func(a *cached) { a.Values = []string{inside} }), false},
		"no values":     {entry(func(a *cached) { a.Values = nil }), false},
		"no type":       {entry(func(a *cached) { a.Type = "MX" }), false},
		"no name":       {entry(func(a *cached) { a.Name = "a..b" }), false},
	} {
		path := filepath.Join(t.TempDir(), "names.json")
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		k, log := openCache(t, path)
		if got, _ := k.get(question{boot, IP}); got != nil || (log.Len() > 0) != c.log {
			t.Errorf("%s: %q, log %q", what, got, log)
		}
		k.put(question{boot, IP}, []string{other})
		k, _ = openCache(t, path)
		if got, _ := k.get(question{boot, IP}); !slices.Equal(got, []string{other}) {
			t.Errorf("%s: written over: %q", what, got)
		}
	}
	k, log := openCache(t, filepath.Join(t.TempDir(), "names.json"))
	if got, _ := k.get(question{boot, IP}); got != nil || log.Len() > 0 {
		t.Errorf("no file: %q, log %q", got, log)
	}
}

func TestCacheThatCannotBeWrittenSaysSoAndWorks(t *testing.T) {
	c, log := openCache(t, filepath.Join(t.TempDir(), "missing", "names.json"))
	c.put(question{boot, IP}, []string{public})
	if got, _ := c.get(question{boot, IP}); !slices.Equal(got, []string{public}) || !strings.Contains(log.String(), "missing") {
		t.Errorf("got %q, log %q", got, log)
	}
}

func TestCacheIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "names.json")
	c, _ := openCache(t, path)
	long := slices.Repeat([]string{strings.Repeat("x", maxCachedText)}, 16)
	name := func(i int) question { return question{fmt.Sprintf("n%d.example.org", i), TXT} }
	for i := range maxCached + 10 {
		c.put(name(i), long)
	}
	if len(c.answers) != maxCached {
		t.Errorf("%d answers", len(c.answers))
	}
	if _, ok := c.answers[name(0)]; ok {
		t.Error("the oldest is still there")
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() > maxCacheFile {
		t.Errorf("%d bytes, %v", info.Size(), err)
	}
	c, log := openCache(t, path)
	if got, _ := c.get(name(maxCached + 9)); got == nil || log.Len() > 0 {
		t.Errorf("the newest is gone; log %q", log)
	}
	c.put(question{"long.example.org", TXT}, []string{strings.Repeat("x", maxCachedText+1)})
	if got, _ := c.get(question{"long.example.org", TXT}); got != nil {
		t.Errorf("kept %d bytes", len(got[0]))
	}
}

func TestAnAnswerThatIsTheSameIsNotWrittenAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "names.json")
	c, _ := openCache(t, path)
	c.put(question{boot, IP}, []string{public})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	c.put(question{boot, IP}, []string{public})
	if _, err := os.Stat(path); err == nil {
		t.Error("written again")
	}
	c.put(question{boot, IP}, []string{other})
	if _, err := os.Stat(path); err != nil {
		t.Errorf("not written: %v", err)
	}
}

func FuzzCacheFile(f *testing.F) {
	now := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	whole, err := formatCache([]cached{
		{boot, IP, []string{public, "2a00::1"}, now},
		{"_dnsaddr." + boot, TXT, []string{"dnsaddr=/ip4/11.0.0.1/tcp/4001"}, now.Add(-time.Hour)},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte(`{"version":1,"answers":[{"name":"x","type":"IP","values":["::"],"since":"2026-11-25T00:00:00Z"}]}`))
	f.Add([]byte(`{"version":1,"answers":[null,{"type":"TXT"}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		answers, err := parseCache(raw, now)
		if err != nil {
			return
		}
		if len(answers) > maxCached {
			t.Fatalf("%d answers", len(answers))
		}
		again, err := formatCache(answers)
		if err != nil || len(again) > maxCacheFile {
			t.Fatalf("%d bytes, %v", len(again), err)
		}
		reread, err := parseCache(again, now)
		if err != nil || len(reread) > len(answers) || !reflect.DeepEqual(reread, answers[:len(reread)]) {
			t.Fatalf("%+v became %+v, %v", answers, reread, err)
		}
	})
}
