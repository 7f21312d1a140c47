package node

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
)

func TestAnIdentityIsMadeOnceAndForItsOwnerOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "dir")
	first, err := Identity(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Identity(dir)
	if err != nil || second != first {
		t.Errorf("then %s, %v; first %s", second, err, first)
	}
	for path, want := range map[string]fs.FileMode{dir: 0o700, filepath.Join(dir, identityFile): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %04o, want %04o", path, got, want)
		}
	}
}

func TestAnIdentityIsMadeWhereThereAreNoHardLinks(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EPERM, syscall.ENOTSUP, syscall.ENOSYS} {
		path := filepath.Join(newDir(t), identityFile)
		noLinks := func(from, to string) error { return &os.LinkError{Op: "link", Old: from, New: to, Err: errno} }
		first, err := createIdentity(path, noLinks)
		if err != nil {
			t.Fatalf("%s: %v", errno, err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", errno, info, err)
		}
		second, err := createIdentity(path, noLinks) // somebody was faster
		if err != nil || !second.Equals(first) {
			t.Errorf("%s: another identity, %v", errno, err)
		}
	}
	broken := func(string, string) error { return syscall.EIO }
	if _, err := createIdentity(filepath.Join(newDir(t), identityFile), broken); !errors.Is(err, syscall.EIO) {
		t.Errorf("error: %v", err)
	}
}

func TestTwoStartsAtOnceAgreeOnOneIdentity(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "node")
	var wg sync.WaitGroup
	ids := make([]peer.ID, 8)
	for i := range ids {
		wg.Go(func() {
			id, err := Identity(dir)
			if err != nil {
				t.Error(err)
			}
			ids[i] = id
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("identities %s and %s", ids[0], id)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, identityFile+".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAnIdentityThatOthersCanReadIsRefused(t *testing.T) {
	dir := newDir(t)
	if _, err := Identity(dir); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, identityFile)
	for path, mode := range map[string]fs.FileMode{key: 0o640, dir: 0o755} {
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err = Identity(dir)
		if err == nil || !strings.Contains(err.Error(), "chmod") || !strings.Contains(err.Error(), path) {
			t.Errorf("mode %04o of %s: %v", mode, path, err)
		}
		if err := os.Chmod(path, before.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestABrokenIdentityIsAnErrorAndIsKept(t *testing.T) {
	dir := newDir(t)
	path := filepath.Join(dir, identityFile)
	if err := os.WriteFile(path, []byte("not a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if id, err := Identity(dir); err == nil {
		t.Errorf("identity %s", id)
	}
	if raw, _ := os.ReadFile(path); string(raw) != "not a key" {
		t.Errorf("it was replaced: %q", raw)
	}
}

func TestTwoNodesDoNotShareADirectory(t *testing.T) {
	n := startNode(t, Config{})
	_, err := start(Config{Dir: n.cfg.Dir, NoBootstrap: true, Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
	if !errors.Is(err, ErrLocked) {
		t.Errorf("error: %v", err)
	}
	if _, err := FetchStatus(short(t), n.cfg.Dir); err != nil {
		t.Errorf("the first one suffered: %v", err)
	}
}

func TestANodeStartsAgainInItsDirectory(t *testing.T) {
	n := startNode(t, Config{})
	id := n.host.ID()
	n.end()
	again := startNode(t, Config{Dir: n.cfg.Dir})
	if again.host.ID() != id {
		t.Errorf("it was %s, now %s", id, again.host.ID())
	}
	boots := map[string]bool{}
	for _, ev := range again.events() {
		boots[ev.Boot] = true
	}
	if len(boots) != 2 {
		t.Errorf("boots: %v", boots)
	}
}

func TestTheSocketIsForItsOwnerOnlyAndGoesWithTheNode(t *testing.T) {
	n := startNode(t, Config{})
	path := filepath.Join(n.cfg.Dir, socketFile)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("mode %04o", mode)
	}
	n.end()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	if _, err := FetchStatus(short(t), n.cfg.Dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("error: %v", err)
	}
}

func TestASocketLeftBehindIsReplaced(t *testing.T) {
	dir := newDir(t)
	if err := os.WriteFile(filepath.Join(dir, socketFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := FetchStatus(short(t), dir); err == nil {
		t.Error("a file answered")
	}
	n := startNode(t, Config{Dir: dir})
	if _, err := FetchStatus(short(t), n.cfg.Dir); err != nil {
		t.Error(err)
	}
}

func TestADirectoryTooDeepForASocketIsAClearError(t *testing.T) {
	dir := filepath.Join(newDir(t), strings.Repeat("d", 100))
	_, err := start(Config{Dir: dir, NoBootstrap: true, Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
	if err == nil || !strings.Contains(err.Error(), "shorter --dir") {
		t.Errorf("error: %v", err)
	}
	checkBooks(t, readEvents(t, dir))
}
