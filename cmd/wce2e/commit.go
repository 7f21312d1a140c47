package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"

	"github.com/worldcompute/wce2e/evidence"
)

// commitBundle commits a bundle and nothing else, whatever its verdict: failures
// are evidence too.
func commitBundle(ctx context.Context, dir, inventory string, results evidence.Results) error {
	message := fmt.Sprintf("evidence: %s: %s (%s)", inventory, results.Label, filepath.Base(dir))
	for _, args := range [][]string{
		{"add", "--", "."},
		{"commit", "--quiet", "--message", message, "--only", "--", "."},
	} {
		cmd := exec.CommandContext(ctx, "git", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("commit %s: git %s: %w: %s", dir, args[0], err, out)
		}
	}
	return nil
}
