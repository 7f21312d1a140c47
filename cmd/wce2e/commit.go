package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/worldcompute/wce2e/evidence"
)

const (
	// gitTimeout is how long one git command may take. Bundles are small: what
	// takes longer is a hook, or a signing program that waits for a person.
	gitTimeout = time.Minute
	// gitGrace is how long git's children may keep its output open once git is gone.
	gitGrace = 2 * time.Second
)

// canCommit tells whether commitBundle could commit a bundle made in dir, which
// need not exist yet. Its error is a usage error that says how to go without.
func canCommit(ctx context.Context, dir string) error {
	if err := asksGit(ctx, dir); err != nil {
		return &exitError{code: exitUsage, err: fmt.Errorf("the bundle could not be committed: %w", err), hint: "--no-commit leaves it uncommitted"}
	}
	return nil
}

func asksGit(ctx context.Context, dir string) error {
	dir, err := existing(dir)
	if err != nil {
		return err
	}
	switch inside, err := git(ctx, dir, "rev-parse", "--is-inside-work-tree"); {
	case err != nil:
		return err
	case inside != "true":
		return fmt.Errorf("%s is in a git repository, but not among its files", dir)
	}
	// The identities that git commit would use, or its words on why there is none.
	for _, ident := range []string{"GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"} {
		if _, err := git(ctx, dir, "var", ident); err != nil {
			return err
		}
	}
	return nil
}

// existing is dir, or the nearest folder above it that exists.
func existing(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for {
		_, err := os.Stat(dir)
		if !errors.Is(err, fs.ErrNotExist) {
			return dir, err
		}
		dir = filepath.Dir(dir)
	}
}

// commitBundle commits a bundle and nothing else, whatever its verdict: failures
// are evidence too. All of it: whoever ignores *.log everywhere would otherwise
// publish a bundle that every clone refuses.
func commitBundle(ctx context.Context, dir, inventory string, results evidence.Results) error {
	message := fmt.Sprintf("evidence: %s: %s (%s)", inventory, results.Label, filepath.Base(dir))
	for _, args := range [][]string{
		{"add", "--force", "--", "."},
		{"commit", "--quiet", "--message", message, "--only", "--", "."},
	} {
		if _, err := git(ctx, dir, args...); err != nil {
			return fmt.Errorf("commit %s: %w", dir, err)
		}
	}
	return nil
}

// git runs git in dir and gives what it printed. It asks nobody anything, and
// takes no longer than gitTimeout.
func git(ctx context.Context, dir string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, gitTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir, cmd.WaitDelay = dir, gitGrace
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0")
	var out, said bytes.Buffer // a hook complains on either
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	complaint := strings.TrimSpace(said.String() + out.String())
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("git %s did not end (%w): %s", args[0], context.Cause(ctx), cmp.Or(complaint, "it said nothing"))
	case err != nil:
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, complaint)
	}
	return strings.TrimSpace(out.String()), nil
}
