package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/evidence"
)

// gitConfig makes a global configuration of git, the only one there is.
func gitConfig(t *testing.T, text string) {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("SKIPPED: there is no git")
	}
	path := filepath.Join(t.TempDir(), "gitconfig")
	noErr(t, os.WriteFile(path, []byte(text), 0o644))
	t.Setenv("GIT_CONFIG_GLOBAL", path)
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	// A hook of git runs with these set, and a person may have them set.
	for _, name := range []string{"GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL"} {
		t.Setenv(name, "")
		noErr(t, os.Unsetenv(name))
	}
}

const gitUser = "[user]\nname = A\nemail = a@example.org\n"

// gitRepo makes an empty repository.
func gitRepo(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	_, err := git(t.Context(), dir, "init", "--quiet")
	noErr(t, err)
	return dir
}

func sealedBundle(t *testing.T, root string) string {
	t.Helper()
	w, err := evidence.Create(root, "firewall-traversal", time.Now())
	noErr(t, err)
	_, err = w.Append(evidence.RunEnded, "", evidence.Ended{How: "finished"})
	noErr(t, err)
	_, err = w.RunLog().Write([]byte("level=INFO\n"))
	noErr(t, err)
	_, err = w.WriteLog("laptop", strings.NewReader("x\n"), 0)
	noErr(t, err)
	noErr(t, w.WriteFile("inventory.yaml", []byte("version: 1\n")))
	noErr(t, w.Seal())
	return w.Dir()
}

func TestACloneOfACommittedBundleIsWholeWhateverIsIgnored(t *testing.T) {
	ignore := filepath.Join(t.TempDir(), "ignore")
	noErr(t, os.WriteFile(ignore, []byte("*.log\n*.gz\nSHA256SUMS\n"), 0o644))
	gitConfig(t, gitUser+"[core]\nexcludesFile = "+ignore+"\nautocrlf = true\n")
	repo := gitRepo(t)
	attributes, err := os.ReadFile(filepath.Join(repoRoot, ".gitattributes"))
	noErr(t, err)
	noErr(t, os.WriteFile(filepath.Join(repo, ".gitattributes"), attributes, 0o644))
	_, err = git(t.Context(), repo, "add", ".gitattributes")
	noErr(t, err)
	_, err = git(t.Context(), repo, "commit", "--message", "attributes")
	noErr(t, err)
	noErr(t, os.WriteFile(filepath.Join(repo, "mine.txt"), []byte("not to be committed\n"), 0o644))
	_, err = git(t.Context(), repo, "add", "mine.txt")
	noErr(t, err)

	dir := sealedBundle(t, filepath.Join(repo, filepath.FromSlash(bundles)))
	noErr(t, commitBundle(t.Context(), dir, "lab", evidence.Results{Label: evidence.NotAccepted}))
	clone := filepath.Join(t.TempDir(), "clone")
	_, err = git(t.Context(), repo, "clone", "--quiet", repo, clone)
	noErr(t, err)

	rel, err := filepath.Rel(repo, dir)
	noErr(t, err)
	b, err := evidence.Open(filepath.Join(clone, rel))
	noErr(t, err)
	if len(b.Problems) > 0 || !b.Sealed || b.Logs["laptop"] == nil {
		t.Errorf("sealed %v, problems %v", b.Sealed, b.Problems)
	}
	if _, err := os.Stat(filepath.Join(clone, "mine.txt")); err == nil {
		t.Error("what else was staged was committed with it")
	}
}

func TestWhatKeepsABundleFromBeingCommittedIsToldBefore(t *testing.T) {
	gitConfig(t, gitUser)
	repo := gitRepo(t)
	noErr(t, canCommit(t.Context(), repo))
	noErr(t, canCommit(t.Context(), filepath.Join(repo, "not", "yet")))
	refused := func(what, dir, want string) {
		t.Helper()
		err := canCommit(t.Context(), dir)
		if err == nil {
			t.Errorf("%s: it could be committed", what)
			return
		}
		if e, ok := err.(*exitError); !ok || e.code != exitUsage || !strings.Contains(e.hint, "--no-commit") || !strings.Contains(e.Error(), want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("no repository", t.TempDir(), "not a git repository")
	refused("a repository's own folder", filepath.Join(repo, ".git", "x"), "not among its files")
	gitConfig(t, "[user]\nuseConfigOnly = true\n")
	refused("nobody's name", repo, "tell me who you are")
	t.Setenv("PATH", t.TempDir())
	refused("no git", repo, "executable file not found")
}

func TestAHookThatWaitsForAPersonDoesNotHangTheRun(t *testing.T) {
	gitConfig(t, gitUser)
	repo := gitRepo(t)
	hook := filepath.Join(repo, ".git", "hooks", "pre-commit")
	noErr(t, os.MkdirAll(filepath.Dir(hook), 0o755))
	noErr(t, os.WriteFile(hook, []byte("#!/bin/sh\necho waiting\nexec sleep 20\n"), 0o755))
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	began := time.Now()
	err := commitBundle(ctx, sealedBundle(t, repo), "lab", evidence.Results{})
	if err == nil || !strings.Contains(err.Error(), "git commit did not end") {
		t.Errorf("error %v", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}
