package remote

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestADiskThatIsFullIsNamedWithWhatWasNeeded(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: a small disk takes root to mount")
	}
	s, cfg := newServer(t)
	small := filepath.Join(s.dir, "small")
	if err := os.Mkdir(small, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("SKIPPED: a small disk cannot be mounted: %v", err)
	}
	defer syscall.Unmount(small, syscall.MNT_DETACH)
	t.Setenv("HOME", s.dir)
	for _, r := range []Remote{mustDial(t, "box", cfg), mustDial(t, Local, Config{})} {
		for name, content := range map[string]io.Reader{"known size": bytes.NewReader(make([]byte, 5e6)), "unknown size": io.LimitReader(endless{}, 5e6)} {
			err := r.Upload(t.Context(), small+"/file", 0o600, content)
			var full *NoSpace
			if !errors.As(err, &full) || full.Path != small+"/file" || full.Free > 3<<20 || full.Free < 1<<20 || full.Need != map[bool]int64{true: 5e6, false: -1}[name == "known size"] {
				t.Errorf("%T, %s: %v (%+v)", r, name, err, full)
			}
		}
		if left, err := os.ReadDir(small); err != nil || len(left) > 0 {
			t.Errorf("%T left %v (%v)", r, left, err)
		}
		if err := r.Upload(t.Context(), small+"/file", 0o600, strings.NewReader("fits")); err != nil {
			t.Errorf("%T: %v", r, err)
		}
		if err := os.Remove(small + "/file"); err != nil {
			t.Error(err)
		}
	}
}
