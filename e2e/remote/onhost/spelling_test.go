package onhost

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// linked gives a base folder a second name: through a home that is a link, or by
// being a link itself.
func linked(t *testing.T, base string, itself bool) string {
	t.Helper()
	dir := t.TempDir()
	from, to := filepath.Join(dir, "home"), filepath.Dir(base)
	if itself {
		from, to = filepath.Join(dir, BaseDir), base
	}
	if err := os.Symlink(to, from); err != nil {
		t.Fatal(err)
	}
	if itself {
		return from
	}
	return filepath.Join(from, BaseDir)
}

func TestWhatRunsBelowALinkIsFoundAndCleaned(t *testing.T) {
	for name, itself := range map[string]bool{"the home is a link": false, "the base is a link": true} {
		t.Run(name, func(t *testing.T) {
			real, bin := installed(t)
			base := linked(t, real, itself)
			t.Setenv("HOME", filepath.Dir(base))
			s := startIn(t, base, bin, "one") // a running binary is known by its real name
			left, err := Leftovers(t.Context(), base)
			if err != nil || len(left.Processes) != 2 || len(left.Listeners) != 3 || len(left.Allowed) != 1 {
				t.Errorf("left: %+v, %v", left, err)
			}
			if left.Files["~/.wce2e/runs/one/pid.json"] == "" {
				t.Errorf("files: %v", left.Files)
			}
			done, err := Clean(t.Context(), base, RunDir(base, "one"))
			if err != nil || len(done.Killed) != 2 || runs(s.PID, s.Born) || exists(RunDir(real, "one")) {
				t.Errorf("cleaned: %+v, %v", done, err)
			}
		})
	}
}

func TestOthersWhoOnlyAskAreNoLeftovers(t *testing.T) {
	base, bin := installed(t)
	run := func(argv ...string) string {
		cmd := exec.Command(bin, argv...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		go func() { _, _ = cmd.Process.Wait() }() // or it would be no process, but not gone either
		return strings.Join(cmd.Args, " ")
	}
	dir := RunDir(base, "one")
	run("host", "leftovers", "--dir", base)
	run("host", "clean", "--dir", dir)
	supervisor := run("host", "supervise", "--dir", dir)
	node := run("node", "dial", "--dir", dir)
	await(t, "all four", func() bool {
		found, err := processes(t.Context(), spellings{base})
		return err == nil && len(found) == 4
	})
	left, err := Leftovers(t.Context(), base)
	if err != nil || len(left.Processes) != 2 || !strings.HasSuffix(left.Processes[0], supervisor) || !strings.HasSuffix(left.Processes[1], node) {
		t.Errorf("%q, %v", left.Processes, err)
	}
	done, err := Clean(t.Context(), base, dir)
	slices.Sort(done.Killed)
	if err != nil || len(done.Killed) != 2 || strings.Contains(strings.Join(done.Killed, "\n"), "host clean") {
		t.Errorf("%+v, %v", done, err)
	}
}

func TestOldUploadsThatWereBrokenOffAreRemoved(t *testing.T) {
	base, bin := installed(t)
	put := func(age time.Duration, path ...string) string {
		name := filepath.Join(append([]string{base, BinDir}, path...)...)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
		return name
	}
	hash := filepath.Base(filepath.Dir(bin))
	old, alone := put(2*time.Hour, hash, ".wce2e.ABCD.part"), put(2*time.Hour, "other", ".wce2e.EFGH.part")
	fresh, foreign := put(time.Minute, hash, ".wce2e.IJKL.part"), put(2*time.Hour, hash, "notes.part")
	done, err := Clean(t.Context(), base, RunDir(base, "none"))
	if err != nil || done.Files != 2 {
		t.Errorf("%+v, %v", done, err)
	}
	if exists(old) || exists(filepath.Dir(alone)) {
		t.Error("an upload of two hours ago is still there")
	}
	if !exists(fresh) || !exists(foreign) || !exists(bin) {
		t.Error("too much was removed")
	}
}
