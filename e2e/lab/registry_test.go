//go:build linux

package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stand is a lab that was never built, as far as other processes can see.
func stand(t *testing.T, name string) *Lab {
	t.Helper()
	l := &Lab{Dir: filepath.Join(t.TempDir(), name), Hosts: []Host{{Name: name}}, routers: []string{"campus"}}
	if err := l.Register(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.unregister(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func loginSession(t *testing.T) (dir string) {
	dir = t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	return dir
}

func names(t *testing.T) string {
	t.Helper()
	labs, err := StandingLabs()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, s := range labs {
		all = append(all, s.Name)
	}
	return strings.Join(all, " ")
}

func TestStandingLabsAreFoundNewestFirstAndOnlyWhileTheyStand(t *testing.T) {
	dir := loginSession(t)
	if got := names(t); got != "" {
		t.Errorf("before there is any: %s", got)
	}
	old := stand(t, "old")
	time.Sleep(2 * time.Millisecond) // so that one is newer
	stand(t, "new")
	if got := names(t); got != "new old" {
		t.Errorf("found: %s", got)
	}
	labs, _ := StandingLabs()
	if s := labs[1]; s.Dir != old.Dir || s.PID != os.Getpid() || s.Hosts[0].Name != "old" || s.Routers[0] != "campus" {
		t.Errorf("it is told as %+v", s)
	}
	if err := old.unregister(); err != nil {
		t.Fatal(err)
	}
	if got := names(t); got != "new" {
		t.Errorf("after one has ended: %s", got)
	}
	// The kernel lets go of the lock of a process that was killed.
	dead := stand(t, "dead")
	if err := unix.Flock(int(dead.entry.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	if got := names(t); got != "new" {
		t.Errorf("with a dead one: %s", got)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "wce2e-labs", "dead*")); len(left) > 0 {
		t.Errorf("the dead one's file is still there: %v", left)
	}
	dead.entry = nil
}

func TestTheLastLabTakesTheRegistryAlong(t *testing.T) {
	dir := loginSession(t)
	l := stand(t, "only")
	if err := l.unregister(); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestAFolderThatOthersCanWriteToIsNotTrusted(t *testing.T) {
	dir := loginSession(t)
	folder := filepath.Join(dir, "wce2e-labs")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "trap.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := StandingLabs(); err == nil || !strings.Contains(err.Error(), "only this user can write to") {
		t.Errorf("read from it: %v", err)
	}
	if err := new(Lab).Register("x"); err == nil {
		t.Error("wrote to it")
	}
}
