package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// levels are the instruction sets that a release is built for: the lowest.
var levels = map[string]string{"GOAMD64": "v1", "GOARM64": "v8.0"}

// compile makes a release build of the checkout, in dir.
func (b *Builder) compile(ctx context.Context, p Platform, root, dir string) (path, sum string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", err
	}
	temp, err := os.MkdirTemp(dir, ".build-")
	if err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	part := filepath.Join(temp, "wce2e")
	b.say("building the release binary (%s)", p)
	env := buildEnv(os.Environ(), p)
	if _, err := runGo(ctx, root, b.Toolchain, env, "build", "-trimpath", "-buildvcs=false", "-o", part, "./cmd/wce2e"); err != nil {
		return "", "", err
	}
	path = filepath.Join(dir, "wce2e")
	if err := os.Rename(part, path); err != nil {
		return "", "", err
	}
	sum, err = hashFile(path)
	return path, sum, err
}

// buildEnv is an environment in which the same source gives the same bytes. An
// empty variable would leave the word to the user's go env file, so those that
// must say nothing say something harmless.
func buildEnv(env []string, p Platform) []string {
	fixed := map[string]string{
		"CGO_ENABLED": "0", "GOOS": p.OS, "GOARCH": p.Arch, "GOWORK": "off",
		"GOFLAGS": "-trimpath", "GOAMD64": levels["GOAMD64"], "GOARM64": levels["GOARM64"], "GOFIPS140": "off",
	}
	dropped := map[string]bool{"GOEXPERIMENT": true, "GODEBUG": true, "GO_EXTLINK_ENABLED": true, "GOROOT": true}
	var out []string
	for _, kv := range env {
		key, _, _ := strings.Cut(kv, "=")
		if _, ours := fixed[key]; !ours && !dropped[key] {
			out = append(out, kv)
		}
	}
	for key, value := range fixed {
		out = append(out, key+"="+value)
	}
	return out
}

// goVersion tells the version of Go that builds.
func goVersion(ctx context.Context, root, toolchain string) (string, error) {
	out, err := runGo(ctx, root, toolchain, os.Environ(), "env", "GOVERSION")
	return strings.TrimSpace(out), err
}

// runGo runs the go command in a folder.
func runGo(ctx context.Context, dir, toolchain string, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	var out, said bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, &out, &said
	if toolchain != "" {
		cmd.Env = append(cmd.Env[:len(cmd.Env):len(cmd.Env)], "GOTOOLCHAIN="+toolchain)
	}
	err := cmd.Run()
	switch {
	case err == nil:
		return out.String(), nil
	case ctx.Err() != nil:
		return "", fmt.Errorf("go %s: %w", args[0], context.Cause(ctx))
	case errors.Is(err, exec.ErrNotFound):
		return "", fmt.Errorf("go %s: Go is not installed: %w", args[0], err)
	}
	return "", fmt.Errorf("go %s in %s: %w: %s", args[0], dir, err, firstLines(said.String(), 5))
}

func firstLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[:min(n, len(lines))], "; ")
}
