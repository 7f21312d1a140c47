//go:build linux

package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSharedFilesAreInEveryHomeAndCannotBeChangedThere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(file, []byte("#!/bin/sh\necho shared\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	l := small()
	lab := bring(t, Config{Lab: l, Share: map[string]string{".wce2e/bin/x/program": file}})
	for _, h := range l.Hosts {
		c := lab.login(t, h.Name)
		if got := must(t, c, "~/.wce2e/bin/x/program && touch ~/.wce2e/bin/x/beside"); strings.TrimSpace(got) != "shared" {
			t.Errorf("%s: it says %q", h.Name, got)
		}
		if _, _, err := sh(t, c, "echo changed > ~/.wce2e/bin/x/program"); err == nil {
			t.Errorf("%s: it could be changed", h.Name)
		}
	}
	if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), "shared") {
		t.Errorf("on this machine it is %q now (%v)", text, err)
	}
}
