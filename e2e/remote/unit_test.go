package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func TestAwaitSaysWhatItAwaitedHowLongAndWhatItSaw(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := Await(ctx, "a reservation on relay1", time.Millisecond, func(context.Context) (bool, string, error) { return false, "no relay", nil })
	var not *NotSeen
	if !errors.As(err, &not) || not.What != "a reservation on relay1" || not.Seen != "no relay" || not.Waited < 50*time.Millisecond || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	for _, part := range []string{"a reservation on relay1", "no relay", "ms"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

func TestAwaitEndsWithReadinessOrAnErrorAtOnce(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	calls := 0
	err := Await(ctx, "x", time.Millisecond, func(context.Context) (bool, string, error) { calls++; return calls == 3, "", nil })
	if err != nil || calls != 3 {
		t.Errorf("%v after %d calls", err, calls)
	}
	broken := errors.New("broken")
	calls = 0
	err = Await(ctx, "x", time.Hour, func(context.Context) (bool, string, error) { calls++; return false, "", broken })
	if !errors.Is(err, broken) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
	cancel()
	if err := Await(ctx, "x", time.Hour, func(context.Context) (bool, string, error) { return false, "", nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := Await(context.Background(), "x", 0, nil); err == nil {
		t.Error("it would wait for ever")
	}
}

// Login shells take words apart in ways of their own; what we send has to mean
// the same to all of them.
func TestEveryLoginShellReadsACommandAlike(t *testing.T) {
	found := 0
	for _, shell := range []string{"sh", "dash", "bash", "zsh", "ksh", "mksh", "fish", "tcsh", "csh", "busybox"} {
		path, err := exec.LookPath(shell)
		if err != nil {
			continue
		}
		found++
		for _, w := range tortures {
			argv := []string{"printf", "%s", w}
			args := []string{"-c", shellCommand("MARK", argv)}
			if shell == "busybox" {
				args = append([]string{"sh"}, args...)
			}
			out, err := exec.Command(path, args...).Output()
			if _, said, began := cutMark("MARK", out); err != nil || !began || string(said) != w {
				t.Errorf("%s: %.60q became %.60q (%v)", shell, w, out, err)
			}
		}
	}
	t.Logf("%d shells were there", found)
	if found == 0 {
		t.Error("no shell was tried")
	}
}

func TestPlatformsAreReadFromUname(t *testing.T) {
	for out, want := range map[string]string{
		"Linux x86_64\n": "linux/amd64", "Linux aarch64\n": "linux/arm64", "Darwin arm64\n": "darwin/arm64", "Linux armv7l\n": "linux/arm",
	} {
		goos, goarch, err := parseUname(out)
		if err != nil || goos+"/"+goarch != want {
			t.Errorf("%q: %s/%s, %v", out, goos, goarch, err)
		}
	}
	for _, out := range []string{"", "Linux\n", "SunOS sun4v\n", "Linux vax\n", "MINGW64_NT x86_64 Msys\n"} {
		if _, _, err := parseUname(out); err == nil {
			t.Errorf("%q is a platform", out)
		}
	}
}

func TestFreeSpaceIsReadFromEveryDF(t *testing.T) {
	for out, want := range map[string]uint64{
		"Filesystem     1024-blocks     Used Available Capacity Mounted on\n/dev/sda1 100 40 60 40% /\n":                           60 << 10,
		"Filesystem 1024-blocks Used Available Capacity Mounted on\nmap auto home x y 100 40 7 40% /System/Volumes/Data 1%\n":      7 << 10,
		"Filesystem 1024-blocks Used Available Capacity Mounted on\nserver:/export/a b 100 140 -40 100% /home\n":                   0,
		"df: warning\nFilesystem 1024-blocks Used Available Capacity Mounted on\n//srv/share 1000000000 1 999999999 0% /mnt/a b\n": 999999999 << 10,
	} {
		if got, err := parseDF(out); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", out, got, err, want)
		}
	}
	if _, err := parseDF("nonsense\n"); err == nil {
		t.Error("nonsense was read")
	}
}

func TestTargetsAreTakenApart(t *testing.T) {
	for in, want := range map[string]spec{
		"box": {host: "box"}, "me@box": {user: "me", host: "box"}, "me@box:2222": {user: "me", host: "box", port: "2222"},
		"a@b@box": {user: "a@b", host: "box"}, "me@[2001:db8::1]:22": {user: "me", host: "2001:db8::1", port: "22"}, "2001:db8::1": {host: "2001:db8::1"},
		"ssh://me@box:22": {user: "me", host: "box", port: "22"},
	} {
		if got, err := parseTarget(in); err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "me@", "box:0", "box:70000", "box:ssh", "-oProxyCommand=x", "-x@box"} {
		if got, err := parseTarget(in); err == nil {
			t.Errorf("%q became %+v", in, got)
		}
	}
}

// OpenSSH's own reading of ssh_config and the library's agree on what we use.
func TestBothReadersOfSSHConfigAgree(t *testing.T) {
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("SKIPPED: there is no ssh to ask")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "config")
	text := `Host box
  HostName box.example.net
  Port 2222
  IdentityFile ~/.ssh/box_%h_%r
  IdentityFile ` + dir + `/second
  ProxyCommand "` + dir + `/a program" -p %p "%h"
Host via
  ProxyJump one,two@three:22
Host *
  User everybody
  IdentitiesOnly yes
  HostKeyAlias shared
  UserKnownHostsFile ` + dir + `/known1 ` + dir + `/known2
  GlobalKnownHostsFile /dev/null
  ConnectTimeout 7
  IdentityAgent none
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"box", "via", "other", "me@box:23"} {
		want, err := parseTarget(target)
		if err != nil {
			t.Fatal(err)
		}
		asked, err := askSSH(t.Context(), file, want)
		if err != nil {
			t.Fatal(err)
		}
		read, err := readConfig(file, want.host)
		if err != nil {
			t.Fatal(err)
		}
		a, errA := resolve(Config{}, want, asked)
		b, errB := resolve(Config{}, want, read)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if target != "box" && target != "me@box:23" {
			a.identities, b.identities = nil, nil // the defaults of ssh's version
		}
		if !slices.Equal(a.identities, b.identities) || !slices.Equal(a.knownHosts, b.knownHosts) {
			t.Errorf("%s: ssh says %+v, the library %+v", target, a, b)
		}
		a.identities, b.identities, a.knownHosts, b.knownHosts = nil, nil, nil, nil
		if a.proxyCommand != b.proxyCommand || a.host != b.host || a.port != b.port || a.user != b.user || a.proxyJump != b.proxyJump ||
			a.keyAlias != b.keyAlias || a.timeout != b.timeout || a.agent != b.agent || a.identitiesOnly != b.identitiesOnly {
			t.Errorf("%s: ssh says %+v, the library %+v", target, a, b)
		}
	}
	box, err := settingsOf(t.Context(), Config{SSHConfig: file}, "me@box")
	if err != nil {
		t.Fatal(err)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	if box.identities[0] != home+"/.ssh/box_box.example.net_me" || box.proxyCommand != `"`+dir+`/a program" -p 2222 "box.example.net"` || box.timeout != 7*time.Second {
		t.Errorf("%+v", box)
	}
}

func TestWithoutSSHTheLibraryReadsTheConfig(t *testing.T) {
	s, cfg := newServer(t)
	t.Setenv("PATH", t.TempDir()) // no ssh
	r, err := Dial(t.Context(), "box", cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.Home() != s.dir {
		t.Errorf("home %q", r.Home())
	}
	if _, err := Dial(t.Context(), "box", Config{SSHConfig: filepath.Join(s.dir, "nothing")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a config that is not there: %v", err)
	}
}

func TestALineThatEndsIsToldFromAnAnswerThatIsAnError(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{fmt.Errorf("failed to send packet: %w", &fs.PathError{Op: "read", Path: "|0", Err: fs.ErrClosed}), true}, // of a ProxyCommand's pipe
		{fmt.Errorf("ssh: %w", net.ErrClosed), true},
		{io.ErrUnexpectedEOF, true},
		{fs.ErrNotExist, false},
		{&NoSpace{}, false},
	} {
		if got := isBroken(c.err); got != c.want {
			t.Errorf("%v: %t", c.err, got)
		}
	}
}

// neverOpens is a connection that ended just as a channel was asked for.
type neverOpens struct{ ssh.Conn }

func (neverOpens) OpenChannel(string, []byte) (ssh.Channel, <-chan *ssh.Request, error) { select {} }

func TestASessionThatIsAskedForAsTheConnectionEndsIsNotAwaited(t *testing.T) {
	l := &link{client: &ssh.Client{Conn: neverOpens{}}, dead: make(chan struct{})}
	close(l.dead)
	for range 2 {
		if _, err := askSession(t.Context(), l); !errors.Is(err, ErrLost) {
			t.Errorf("a command: %v", err)
		}
		if _, err := l.files(); !errors.Is(err, ErrLost) {
			t.Errorf("files: %v", err)
		}
	}
}
