package localnet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func someWay() Way {
	return Way{
		Relay: "12D3KooWRelay", Addr: "/ip4/45.0.0.1/tcp/443/tls/ws", Transport: "wss",
		Narrow: true, When: noon, Took: 310 * time.Millisecond,
	}
}

func at(when time.Time) func() time.Time { return func() time.Time { return when } }

func TestTheWayThatWonIsThereAfterARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "networks.json")
	m := &Memory{Path: path, now: at(noon)}
	if w, ok := m.Get("campus"); ok {
		t.Errorf("an empty memory knows %+v", w)
	}
	other := someWay()
	other.Narrow, other.When = false, time.Time{}
	m.Put("campus", someWay())
	m.Put("home", other)
	m.Put("", other)

	again := &Memory{Path: path, now: at(noon)}
	if w, ok := again.Get("campus"); !ok || w != someWay() {
		t.Errorf("campus: %+v %v", w, ok)
	}
	if w, ok := again.Get("home"); !ok || w.When != noon || w.Narrow {
		t.Errorf("home: %+v %v", w, ok)
	}
	if w, ok := again.Get(""); ok {
		t.Errorf("something was remembered while offline: %+v", w)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("beside the file: %v %v", left, err)
	}
}

func TestOnlyTheOwnerMayReadTheMemory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "networks.json")
	(&Memory{Path: path}).Put("campus", someWay())
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

func TestThirtyTwoNetworksAreRemembered(t *testing.T) {
	m := &Memory{Path: filepath.Join(t.TempDir(), "networks.json"), now: at(noon.Add(time.Hour))}
	for i := range maxNetworks + 3 {
		w := someWay()
		w.When = noon.Add(time.Duration(i) * time.Second)
		m.Put(fmt.Sprint(i), w)
	}
	again := &Memory{Path: m.Path, now: m.now}
	for i := range maxNetworks + 3 {
		if _, ok := again.Get(fmt.Sprint(i)); ok != (i >= 3) {
			t.Errorf("network %d: %v", i, ok)
		}
	}
}

func TestAWayIsForgottenAfterNinetyDays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "networks.json")
	(&Memory{Path: path, now: at(noon)}).Put("campus", someWay())
	for _, c := range []struct {
		later time.Duration
		want  bool
	}{{forgetAfter, true}, {forgetAfter + time.Second, false}} {
		if _, ok := (&Memory{Path: path, now: at(noon.Add(c.later))}).Get("campus"); ok != c.want {
			t.Errorf("after %s: %v, want %v", c.later, ok, c.want)
		}
	}
	running := &Memory{Path: path, now: at(noon)}
	running.Get("campus")
	running.now = at(noon.Add(forgetAfter + time.Second))
	if _, ok := running.Get("campus"); ok {
		t.Error("a memory that is open for long forgets nothing")
	}
}

func TestAWayFromTheFutureExpiresToo(t *testing.T) {
	w := someWay()
	w.When = noon.AddDate(10, 0, 0)
	data, err := json.Marshal(memoryFile{memoryVersion, map[string]Way{"campus": w}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseMemory(data, noon)
	if err != nil || got["campus"].When != noon {
		t.Errorf("%+v %v", got, err)
	}
}

func TestADamagedFileIsAnEmptyMemoryAndAWarning(t *testing.T) {
	for name, content := range map[string]string{
		"cut short":             `{"version": 1, "networks": {"campus": {"rel`,
		"empty":                 ``,
		"of another version":    `{"version": 2, "networks": {}}`,
		"followed by something": `{"version": 1, "networks": {}} {}`,
		"without a relay":       `{"version": 1, "networks": {"campus": {"addr": "/ip4/1.2.3.4/tcp/1"}}}`,
		"too long":              `{"version": 1, "networks": {}}` + strings.Repeat(" ", maxMemory),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "networks.json")
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			m := &Memory{Path: path, Log: slog.New(slog.NewTextHandler(&log, nil)), now: at(noon)}
			if w, ok := m.Get("campus"); ok {
				t.Errorf("it says %+v", w)
			}
			if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), path) {
				t.Errorf("the warning: %q", log.String())
			}
			m.Put("campus", someWay())
			if w, ok := (&Memory{Path: path, now: at(noon)}).Get("campus"); !ok || w != someWay() {
				t.Errorf("it is not mended: %+v %v", w, ok)
			}
		})
	}
}

func TestAFolderThatIsGoneIsAWarning(t *testing.T) {
	var log bytes.Buffer
	m := &Memory{Path: filepath.Join(t.TempDir(), "gone", "networks.json"), Log: slog.New(slog.NewTextHandler(&log, nil)), now: at(noon)}
	m.Put("campus", someWay())
	if w, ok := m.Get("campus"); !ok || w != someWay() {
		t.Errorf("it is not kept until the end: %+v %v", w, ok)
	}
	if !strings.Contains(log.String(), "cannot be kept") {
		t.Errorf("the warning: %q", log.String())
	}
}

func TestTheZeroMemoryKeepsNothingOnDisk(t *testing.T) {
	t.Chdir(t.TempDir())
	var m Memory
	m.Put("campus", Way{Relay: "r", Addr: "a"})
	if w, ok := m.Get("campus"); !ok || w.When.IsZero() {
		t.Errorf("%+v %v", w, ok)
	}
	if left, err := os.ReadDir("."); err != nil || len(left) > 0 {
		t.Errorf("it wrote %v (%v)", left, err)
	}
}

// What was read is bounded and sound, and comes back the same when written.
func FuzzParseMemory(f *testing.F) {
	good, err := json.Marshal(memoryFile{memoryVersion, map[string]Way{"campus": someWay(), "home": {Relay: "r", Addr: "a"}}})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{string(good), `{}`, `{"version":1}`, `{"version":1,"networks":{"":{}}}`, `null`, `{"version":1,"networks":{"a":{"relay":"r","addr":"a","when":"9999-01-01T00:00:00Z","route":"http://a:b@c"}}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := parseMemory(data, noon)
		if err != nil {
			return
		}
		if got == nil || len(got) > maxNetworks {
			t.Fatalf("%d networks", len(got))
		}
		for network, w := range got {
			if network == "" || w.Relay == "" || w.Addr == "" || w.When.After(noon) || noon.Sub(w.When) > forgetAfter {
				t.Errorf("%q: %+v", network, w)
			}
		}
		text, err := json.Marshal(memoryFile{memoryVersion, got})
		if err != nil {
			t.Fatal(err)
		}
		back, err := parseMemory(text, noon)
		same := maps.EqualFunc(got, back, func(a, b Way) bool {
			sameTime := a.When.Equal(b.When)
			a.When, b.When = time.Time{}, time.Time{}
			return sameTime && reflect.DeepEqual(a, b)
		})
		if err != nil || !same {
			t.Errorf("%+v is not what comes back: %+v %v", got, back, err)
		}
	})
}
