package remote

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// keepsContract is what every Remote does, whatever is behind it.
func keepsContract(t *testing.T, r Remote) {
	t.Run("words arrive as they are", func(t *testing.T) { wordsArrive(t, r) })
	t.Run("exit codes and signals are told", func(t *testing.T) { endsAreTold(t, r) })
	t.Run("stdin is fed and need not be read", func(t *testing.T) { stdinIsFed(t, r) })
	t.Run("stderr is seen while the command runs", func(t *testing.T) { stderrIsLive(t, r) })
	t.Run("cancelling ends the command", func(t *testing.T) { cancelEnds(t, r) })
	t.Run("too much output is an error", func(t *testing.T) { tooMuch(t, r) })
	t.Run("files", func(t *testing.T) { filesMove(t, r) })
	t.Run("a running program's file can be replaced", func(t *testing.T) { replacedWhileRunning(t, r) })
	t.Run("platform and free space", func(t *testing.T) { platformAndSpace(t, r) })
	t.Run("many at once", func(t *testing.T) { manyAtOnce(t, r) })
}

// tortures are words that some shell somewhere takes apart.
var tortures = []string{
	"", " ", "a b", "'", "''", `"`, `\`, `\\`, `\'`, "it's", "$HOME", "${HOME}", "$(id)", "`id`", "!", "!!", "a!b", "*", "?", "[a]", "~", "~root", "#", "a#b",
	";", "&", "&&", "|", ">", "<", "(", ")", "{a,b}", "=", "-n", "--", "-e", "%s", "%", `\n`, `\0101`, "\n", "a\nb", "a\n", "\n\n", "\t", "\r", "a\r\n", "ümläut", "日本", "\x01", "\x7f",
	strings.Repeat("x'\n", 2000),
}

func wordsArrive(t *testing.T, r Remote) {
	script := `for w in "$@"; do printf '%s\0' "$w"; done`
	check := func(words []string) {
		t.Helper()
		res, err := r.Exec(t.Context(), append([]string{"sh", "-c", script, "sh"}, words...), nil)
		if err != nil {
			t.Fatalf("%.40q: %v", words, err)
		}
		got := strings.Split(strings.TrimSuffix(string(res.Stdout), "\x00"), "\x00")
		if !slices.Equal(got, words) || len(res.Stderr) > 0 {
			t.Errorf("sent %.200q, arrived %.200q, stderr %q", words, got, res.Stderr)
		}
	}
	check(tortures)
	for _, w := range []string{"'", "!", `\`, "\n", "a\n", "plain"} {
		check([]string{w})
	}
}

func endsAreTold(t *testing.T, r Remote) {
	for _, c := range []struct {
		argv []string
		want Result
	}{
		{[]string{"sh", "-c", "echo out; echo err >&2"}, Result{Stdout: []byte("out\n"), Stderr: []byte("err\n")}},
		{[]string{"sh", "-c", "exit 3"}, Result{Code: 3}},
		{[]string{"sh", "-c", "exit 255"}, Result{Code: 255}},
		{[]string{"sh", "-c", "kill -KILL $$"}, Result{Code: -1, Signal: "KILL"}},
		{[]string{"sh", "-c", "kill -TERM $$"}, Result{Code: -1, Signal: "TERM"}},
	} {
		res, err := r.Exec(t.Context(), c.argv, nil)
		if err != nil {
			t.Errorf("%q: %v", c.argv, err)
			continue
		}
		if string(res.Stdout) != string(c.want.Stdout) || string(res.Stderr) != string(c.want.Stderr) || res.Code != c.want.Code || res.Signal != c.want.Signal {
			t.Errorf("%q: %+v, want %+v", c.argv, res, c.want)
		}
	}
	for argv0, code := range map[string]int{"no-such-program": 127, "/no/such/program": 127, "/etc/passwd": 126} {
		res, err := r.Exec(t.Context(), []string{argv0}, nil)
		if err != nil || res.Code != code && (code != 127 || res.Code != 126) || len(res.Stderr) == 0 { // 126: a folder of PATH may not be read
			t.Errorf("%s: %+v %v, want exit %d and a word", argv0, res, err, code)
		}
	}
	res, err := r.Exec(t.Context(), []string{"pwd"}, nil)
	if err != nil || strings.TrimSpace(string(res.Stdout)) != r.Home() {
		t.Errorf("a command starts in %q (%v), home is %q", res.Stdout, err, r.Home())
	}
}

func stdinIsFed(t *testing.T, r Remote) {
	content := make([]byte, 3<<20)
	_, _ = rand.Read(content) // never fails
	res, err := r.Exec(t.Context(), []string{"cat"}, bytes.NewReader(content))
	if err != nil || !bytes.Equal(res.Stdout, content) {
		t.Errorf("3 MB through cat: %d bytes back, %v", len(res.Stdout), err)
	}
	res, err = r.Exec(t.Context(), []string{"cat"}, nil)
	if err != nil || len(res.Stdout) > 0 || res.Code != 0 {
		t.Errorf("no stdin: %+v %v", res, err)
	}
	forever, end := io.Pipe() // nobody ever writes
	defer end.Close()
	began := time.Now()
	res, err = r.Exec(t.Context(), []string{"echo", "done"}, forever)
	if err != nil || string(res.Stdout) != "done\n" || time.Since(began) > 5*time.Second {
		t.Errorf("with a stdin that never ends: %+v %v after %v", res, err, time.Since(began))
	}
	res, err = r.Exec(t.Context(), []string{"head", "-c", "1"}, endless{})
	if err != nil || string(res.Stdout) != "y" {
		t.Errorf("with a stdin that is not read to its end: %+v %v", res, err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'y'
	}
	return len(p), nil
}

// stderrIsLive: the command ends only once somebody has seen what it says.
func stderrIsLive(t *testing.T, r Remote) {
	seen := path.Join(scratch(t, r), "seen")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	live := writerFunc(func(p []byte) (int, error) { return len(p), os.WriteFile(seen, p, 0o600) })
	res, err := r.ExecLive(ctx, []string{"sh", "-c", `echo now >&2; while [ ! -e "$1" ]; do sleep 0.05; done; echo out`, "sh", seen}, live)
	if err != nil || string(res.Stderr) != "now\n" || string(res.Stdout) != "out\n" {
		t.Errorf("%+v %v", res, err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func cancelEnds(t *testing.T, r Remote) {
	dir := scratch(t, r)
	for name, trap := range map[string]string{"polite": "", "stubborn": "trap '' TERM; "} {
		pidFile := path.Join(dir, name)
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() {
			_, err := r.Exec(ctx, []string{"sh", "-c", trap + "echo $$ > " + pidFile + "; while :; do sleep 0.1; done"}, nil)
			failed <- err
		}()
		pid := awaitFile(t, r, pidFile)
		cancel()
		select {
		case err := <-failed:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: error %v, want it to be context.Canceled", name, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: Exec did not come back within 10s of its cancellation", name)
		}
		within(t, 5*time.Second, name+" to be gone", func(ctx context.Context) (bool, string, error) {
			res, err := r.Exec(ctx, []string{"kill", "-0", pid}, nil)
			return res.Code != 0, "it runs", err
		})
	}
}

func tooMuch(t *testing.T, r Remote) {
	res, err := r.Exec(t.Context(), []string{"sh", "-c", "yes | head -c 100000000"}, nil)
	if !errors.Is(err, errTooMuch) || len(res.Stdout) > maxOutput {
		t.Errorf("%d bytes, %v", len(res.Stdout), err)
	}
}

func filesMove(t *testing.T, r Remote) {
	ctx := t.Context()
	dir := scratch(t, r)
	big := make([]byte, 40<<20)
	_, _ = rand.Read(big) // never fails
	name := path.Join(dir, "new", "deep", "a file's name")
	if err := r.Upload(ctx, name, 0o755, bytes.NewReader(big)); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, r, name); !bytes.Equal(got, big) {
		t.Errorf("40 MB arrived as %d other bytes", len(got))
	}
	if mode := modeOf(t, r, name); mode != "755" {
		t.Errorf("mode %s, want 755", mode)
	}
	for _, made := range []string{"new", "new/deep"} {
		if mode := modeOf(t, r, path.Join(dir, made)); mode != "700" {
			t.Errorf("%s was made with mode %s, want 700", made, mode)
		}
	}
	if err := r.Upload(ctx, name, 0o600, strings.NewReader("short")); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, r, name); string(got) != "short" || modeOf(t, r, name) != "600" {
		t.Errorf("replaced: %.20q, mode %s", got, modeOf(t, r, name))
	}
	for _, c := range []struct {
		offset, limit int64
		want          string
	}{{0, 100, "short"}, {1, 3, "hor"}, {5, 10, ""}, {99, 10, ""}, {0, 0, ""}} {
		got, err := r.ReadFrom(ctx, name, c.offset, c.limit)
		if err != nil || string(got) != c.want {
			t.Errorf("from %d at most %d: %q, %v", c.offset, c.limit, got, err)
		}
	}
	if _, err := r.ReadFrom(ctx, path.Join(dir, "nothing"), 0, 1); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("a missing file: %v", err)
	}
	if err := r.Upload(ctx, path.Join(name, "below a file"), 0o600, strings.NewReader("x")); err == nil {
		t.Error("a file was written below a file")
	}
	if err := r.Upload(ctx, path.Join(dir, "broken"), 0o600, io.MultiReader(strings.NewReader("half"), failing{})); !errors.Is(err, errFailing) {
		t.Errorf("a content that breaks off: %v", err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := r.Upload(cancelled, path.Join(dir, "cancelled"), 0o600, io.LimitReader(endless{}, 1<<34)); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled upload: %v", err)
	}
	within(t, 5*time.Second, "nothing half written to stay", func(ctx context.Context) (bool, string, error) {
		res, err := r.Exec(ctx, []string{"find", dir, "-type", "f"}, nil)
		return strings.TrimSpace(string(res.Stdout)) == name, string(res.Stdout), err
	})
	if err := r.Upload(ctx, "~/"+path.Base(dir)+"-tilde", 0o600, strings.NewReader("home")); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, r, path.Join(r.Home(), path.Base(dir)+"-tilde")); string(got) != "home" {
		t.Errorf("~/ is not the home directory: %q", got)
	}
	if _, err := r.Exec(ctx, []string{"rm", path.Join(r.Home(), path.Base(dir)+"-tilde")}, nil); err != nil {
		t.Error(err)
	}
}

var errFailing = errors.New("the content broke off")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errFailing }

func replacedWhileRunning(t *testing.T, r Remote) {
	program := path.Join(scratch(t, r), "program")
	sleeper, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Skipf("SKIPPED: there is no program to copy: %v", err)
	}
	if err := r.Upload(t.Context(), program, 0o755, bytes.NewReader(sleeper)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := r.Exec(ctx, []string{program, "30"}, nil); done <- err }()
	within(t, 5*time.Second, "the program to run", func(ctx context.Context) (bool, string, error) {
		res, err := r.Exec(ctx, []string{"sh", "-c", "ps -eo args | grep -c '^'" + program}, nil)
		return strings.TrimSpace(string(res.Stdout)) != "0", string(res.Stdout), err
	})
	if err := r.Upload(t.Context(), program, 0o755, bytes.NewReader(sleeper)); err != nil {
		t.Errorf("replace a running program: %v", err)
	}
	cancel()
	<-done
}

func platformAndSpace(t *testing.T, r Remote) {
	goos, goarch, err := PlatformOf(t.Context(), r)
	if err != nil || goos == "" || goarch == "" {
		t.Errorf("platform %s/%s, %v", goos, goarch, err)
	}
	here, err := FreeSpace(t.Context(), r, "/")
	if err != nil || here == 0 {
		t.Errorf("free space of /: %d, %v", here, err)
	}
	below, err := FreeSpace(t.Context(), r, "/no/such/folder")
	if err != nil || below > here*5/4 || below < here*3/4 { // others write, too
		t.Errorf("free space of a folder that is not there: %d, want about %d: %v", below, here, err)
	}
}

func manyAtOnce(t *testing.T, r Remote) {
	errs := make(chan error, 24)
	for range cap(errs) {
		go func() {
			res, err := r.Exec(t.Context(), []string{"sh", "-c", "sleep 0.05; echo x"}, nil)
			if err == nil && string(res.Stdout) != "x\n" {
				err = errors.New("other output")
			}
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// scratch makes a folder on the machine for one test.
func scratch(t *testing.T, r Remote) string {
	t.Helper()
	out, err := output(t.Context(), r, "mktemp", "-d")
	if err != nil {
		t.Fatal(err)
	}
	dir := strings.TrimSpace(out)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if _, err := output(ctx, r, "rm", "-rf", dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func readAll(t *testing.T, r Remote, name string) []byte {
	t.Helper()
	var all []byte
	for {
		part, err := r.ReadFrom(t.Context(), name, int64(len(all)), 1<<22)
		if err != nil {
			t.Fatal(err)
		}
		if len(part) == 0 {
			return all
		}
		all = append(all, part...)
	}
}

func modeOf(t *testing.T, r Remote, name string) string {
	t.Helper()
	out, err := output(t.Context(), r, "stat", "-c", "%a", name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func awaitFile(t *testing.T, r Remote, name string) (content string) {
	t.Helper()
	within(t, 10*time.Second, name, func(ctx context.Context) (bool, string, error) {
		b, err := r.ReadFrom(ctx, name, 0, 1<<16)
		content = strings.TrimSpace(string(b))
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return content != "", "nothing", err
	})
	return content
}

func within(t *testing.T, d time.Duration, what string, ready func(context.Context) (bool, string, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	if err := Await(ctx, what, 20*time.Millisecond, ready); err != nil {
		t.Fatal(err)
	}
}

func TestThisMachineKeepsTheContract(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	r, err := Dial(t.Context(), Local, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.HostKey() != "" || r.Home() != os.Getenv("HOME") || !filepath.IsAbs(r.Home()) {
		t.Errorf("host key %q, home %q", r.HostKey(), r.Home())
	}
	keepsContract(t, r)
}

func TestAMachineOverSSHKeepsTheContract(t *testing.T) {
	t.Parallel()
	s, cfg := newServer(t)
	r, err := Dial(t.Context(), "box", cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if !strings.HasPrefix(r.HostKey(), "SHA256:") || r.Home() != s.dir {
		t.Errorf("host key %q, home %q", r.HostKey(), r.Home())
	}
	keepsContract(t, r)
	if n := s.loggedIn(); n != 1 {
		t.Errorf("%d logins for one Remote", n)
	}
}
