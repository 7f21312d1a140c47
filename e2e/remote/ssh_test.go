package remote

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func dial(t *testing.T, target string, cfg Config) (Remote, error) {
	t.Helper()
	r, err := Dial(t.Context(), target, cfg)
	if err == nil {
		t.Cleanup(func() { r.Close() })
	}
	return r, err
}

func mustDial(t *testing.T, target string, cfg Config) Remote {
	t.Helper()
	r, err := dial(t, target, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func echo(t *testing.T, r Remote) error {
	t.Helper()
	res, err := r.Exec(t.Context(), []string{"echo", "hello"}, nil)
	if err == nil && string(res.Stdout) != "hello\n" {
		t.Errorf("echo hello says %q", res.Stdout)
	}
	return err
}

func TestAMachineWhoseKeyNobodyKnowsIsRefused(t *testing.T) {
	s, cfg := newServer(t)
	s.knows()
	_, err := dial(t, "box", cfg) // the config says StrictHostKeyChecking no
	var unknown *UnknownHost
	if !errors.As(err, &unknown) || unknown.Fingerprint != ssh.FingerprintSHA256(s.hostKey.PublicKey()) || !strings.Contains(unknown.Hint(), "ssh box") {
		t.Errorf("%v", err)
	}
	if err := os.Remove(filepath.Join(s.dir, "known_hosts")); err != nil {
		t.Fatal(err)
	}
	if _, err := dial(t, "box", cfg); !errors.As(err, &unknown) {
		t.Errorf("without a known_hosts file: %v", err)
	}
	if s.loggedIn() > 0 {
		t.Error("it logged in all the same")
	}
}

func TestAMachineWhoseKeyHasChangedIsRefusedWithThePlaceOfTheOldOne(t *testing.T) {
	s, cfg := newServer(t)
	s.knows(newSigner(t).PublicKey())
	_, err := dial(t, "box", cfg)
	var changed *ChangedHost
	if !errors.As(err, &changed) || len(changed.Known) != 1 || changed.Known[0] != filepath.Join(s.dir, "known_hosts")+":1" || changed.Revoked {
		t.Fatalf("%v", err)
	}
	if !strings.Contains(changed.Hint(), "ssh-keygen -R '[127.0.0.1]:") {
		t.Errorf("hint: %s", changed.Hint())
	}
	s.knows(s.hostKey.PublicKey())
	line, err := os.ReadFile(filepath.Join(s.dir, "known_hosts"))
	if err != nil {
		t.Fatal(err)
	}
	s.write("known_hosts", "@revoked "+string(line))
	if _, err := dial(t, "box", cfg); !errors.As(err, &changed) || !changed.Revoked {
		t.Errorf("a revoked key: %v", err)
	}
	if s.loggedIn() > 0 {
		t.Error("it logged in all the same")
	}
}

func TestTheKeyOfAHostIsLookedUpByItsAliasAndByOtherFiles(t *testing.T) {
	s, _ := newServer(t)
	s.write("known_hosts", "thebox "+string(ssh.MarshalAuthorizedKey(s.hostKey.PublicKey())))
	mustDial(t, "box", s.config(" HostKeyAlias thebox"))
	cfg := s.config("")
	if _, err := dial(t, "box", cfg); err == nil {
		t.Error("an alias that nobody configured was looked up")
	}
	other := t.TempDir()
	s.knows(s.hostKey.PublicKey())
	cfg.KnownHosts = filepath.Join(other, "a name with spaces")
	if err := os.Rename(filepath.Join(s.dir, "known_hosts"), cfg.KnownHosts); err != nil {
		t.Fatal(err)
	}
	mustDial(t, "box", cfg)
}

func TestAMachineThatIsNotThereIsUnreachableWithTheReason(t *testing.T) {
	t.Parallel()
	s, cfg := newServer(t)
	s.stop()
	if _, err := dial(t, "box", cfg); !errors.Is(err, ErrUnreachable) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a closed port: %v", err)
	}
	if _, err := dial(t, "no-such-host.invalid", cfg); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a name that is none: %v", err)
	}
	s.listen(s.addr)
	s.set(func(s *server) { s.silent = true })
	cfg.Timeout = 200 * time.Millisecond
	began := time.Now()
	if _, err := dial(t, "box", cfg); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "no answer within 200ms") || time.Since(began) > 3*time.Second {
		t.Errorf("a silent server: %v after %v", err, time.Since(began))
	}
	cfg = s.config(" ConnectTimeout 1")
	if _, err := dial(t, "box", cfg); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "no answer within 1s") {
		t.Errorf("with ConnectTimeout 1: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Dial(ctx, "box", cfg); err == nil {
		t.Error("a cancelled dial succeeded")
	}
}

func TestABrokenConnectionIsMadeAgainByTheNextCall(t *testing.T) {
	t.Parallel()
	s, cfg := newServer(t)
	r := mustDial(t, "box", cfg)
	for round := range 3 {
		s.drop()
		if err := echo(t, r); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		s.drop()
		if _, err := r.ReadFrom(t.Context(), "ssh_config", 0, 10); err != nil {
			t.Errorf("round %d: read: %v", round, err)
		}
		s.drop()
		if err := r.Upload(t.Context(), "x", 0o600, strings.NewReader("x")); err != nil {
			t.Errorf("round %d: write: %v", round, err)
		}
	}
	s.stop()
	s.drop()
	again := time.AfterFunc(1500*time.Millisecond, func() { s.listen(s.addr) })
	defer again.Stop()
	if err := echo(t, r); err != nil {
		t.Errorf("a server that is away for 1.5 s: %v", err)
	}
}

func TestAServerThatStaysAwayIsGivenUp(t *testing.T) {
	t.Parallel()
	s, cfg := newServer(t)
	r := mustDial(t, "box", cfg)
	s.stop()
	s.drop()
	began := time.Now()
	if err := echo(t, r); !errors.Is(err, ErrUnreachable) || time.Since(began) > reconnectWithin+time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

func TestAServerThatComesBackWithAnotherKeyIsNotTrusted(t *testing.T) {
	s, cfg := newServer(t)
	r := mustDial(t, "box", cfg)
	s.hostKey = newSigner(t)
	s.drop()
	var changed *ChangedHost
	if err := echo(t, r); !errors.As(err, &changed) {
		t.Errorf("%v", err)
	}
}

func TestACommandThatLosesItsConnectionIsNotRunTwice(t *testing.T) {
	s, cfg := newServer(t)
	r := mustDial(t, "box", cfg)
	failed := make(chan error, 1)
	go func() {
		_, err := r.Exec(t.Context(), []string{"sh", "-c", "echo x >> runs; sleep 2"}, nil)
		failed <- err
	}()
	within(t, 5*time.Second, "the command to run", func(context.Context) (bool, string, error) {
		_, err := os.Stat(filepath.Join(s.dir, "runs"))
		return err == nil, "nothing", nil
	})
	s.drop()
	if err := <-failed; !errors.Is(err, ErrLost) {
		t.Errorf("%v, want ErrLost", err)
	}
	if err := echo(t, r); err != nil {
		t.Error(err)
	}
	if runs, err := os.ReadFile(filepath.Join(s.dir, "runs")); err != nil || string(runs) != "x\n" {
		t.Errorf("it ran %q (%v)", runs, err)
	}
}

func TestAnUploadThatLosesItsConnectionSaysSo(t *testing.T) {
	s, cfg := newServer(t)
	r := mustDial(t, "box", cfg)
	breaking := &breakAfter{left: 4 << 20, do: s.drop}
	if err := r.Upload(t.Context(), "file", 0o600, breaking); !errors.Is(err, ErrLost) {
		t.Errorf("%v, want ErrLost", err)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "file")); err == nil {
		t.Error("half a file stands under its name")
	}
}

// breakAfter is endless, and does something once so much was read.
type breakAfter struct {
	left int
	do   func()
}

func (b *breakAfter) Read(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 && b.do != nil {
		b.do()
		b.do = nil
	}
	return endless{}.Read(p)
}

func TestALineThatGoesDeadIsNoticed(t *testing.T) {
	s, cfg := newServer(t)
	r := mustDial(t, "box", cfg)
	l := r.(*machine).link
	s.set(func(s *server) { s.deaf = true })
	go l.keepAlive(10*time.Millisecond, 3)
	select {
	case <-l.dead:
	case <-time.After(5 * time.Second):
		t.Fatal("three unanswered keepalives did not end the connection")
	}
	s.set(func(s *server) { s.deaf = false })
	if err := echo(t, r); err != nil {
		t.Error(err)
	}
}

func TestALiveLineIsKept(t *testing.T) {
	s, cfg := newServer(t)
	r := mustDial(t, "box", cfg)
	go r.(*machine).link.keepAlive(2*time.Millisecond, 1000)
	time.Sleep(100 * time.Millisecond) // some dozens of keepalives
	if err := echo(t, r); err != nil || s.loggedIn() != 1 {
		t.Errorf("%v, %d logins", err, s.loggedIn())
	}
}

func TestAMachineWithoutSFTPIsRefusedWithTheRemedy(t *testing.T) {
	s, cfg := newServer(t)
	s.set(func(s *server) { s.noSFTP = true })
	_, err := dial(t, "box", cfg)
	var none *NoSFTP
	if !errors.As(err, &none) || !strings.Contains(none.Hint(), "Subsystem sftp") {
		t.Errorf("%v", err)
	}
}

func TestALoginShellThatTalksIsNotTakenForTheCommand(t *testing.T) {
	s, cfg := newServer(t)
	r := mustDial(t, "box", cfg)
	s.set(func(s *server) { s.noise = "echo Welcome to the cluster; echo 'quota: 93%' >&2; " })
	if err := echo(t, r); err != nil {
		t.Error(err)
	}
	s.set(func(s *server) { s.noise = "echo This account is not available; exit 1; " })
	if _, err := r.Exec(t.Context(), []string{"true"}, nil); err == nil || !strings.Contains(err.Error(), "This account is not available") {
		t.Errorf("a shell that runs nothing: %v", err)
	}
}

func TestAClosedRemoteStaysClosed(t *testing.T) {
	_, cfg := newServer(t)
	r := mustDial(t, "box", cfg)
	if err := errors.Join(r.Close(), r.Close()); err != nil {
		t.Error(err)
	}
	if err := echo(t, r); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
}

func TestAProxyCommandIsTheLineAndSaysWhyItFails(t *testing.T) {
	s, _ := newServer(t)
	forwarder := s.write("forward er.sh", "#!/bin/sh\nexec \"$@\"\n")
	if err := os.Chmod(forwarder, 0o700); err != nil {
		t.Fatal(err)
	}
	nc, err := exec.LookPath("nc")
	if err != nil {
		nc, err = exec.LookPath("socat")
	}
	if err == nil && strings.HasSuffix(nc, "nc") {
		r := mustDial(t, "box", s.config(` ProxyCommand "`+forwarder+`" `+nc+` %h "%p"`))
		if err := echo(t, r); err != nil {
			t.Error(err)
		}
	} else {
		t.Log("SKIPPED in part: there is no nc")
	}
	_, err = dial(t, "box", s.config(" ProxyCommand echo 'the gate is closed to %r' >&2; false"))
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "the gate is closed to somebody") {
		t.Errorf("%v", err)
	}
	cfg := s.config(" ProxyCommand exec sleep 60")
	cfg.Timeout = 300 * time.Millisecond
	if _, err := dial(t, "box", cfg); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "no answer within") {
		t.Errorf("a silent command: %v", err)
	}
}

func TestAProxyCommandEndsWithItsConnection(t *testing.T) {
	c, err := startCommand("sleep 60")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-c.ended:
	case <-time.After(5 * time.Second):
		t.Error("it still runs")
	}
}

func TestJumpHostsAreGoneThroughInOrder(t *testing.T) {
	t.Parallel()
	first, _ := newServer(t)
	second, _ := newServer(t)
	last, _ := newServer(t)
	hosts := map[string]*server{"first": first, "second": second, "last": last}
	var text strings.Builder
	for name, s := range hosts {
		_, port, err := net.SplitHostPort(s.addr)
		if err != nil {
			t.Fatal(err)
		}
		text.WriteString("Host " + name + "\n HostName 127.0.0.1\n Port " + port + "\n User u\n IdentityFile " + s.dir + "/id\n IdentitiesOnly yes\n IdentityAgent none\n UserKnownHostsFile " + s.dir + "/known_hosts\n")
	}
	text.WriteString("Host last\n ProxyJump first,second\nHost round\n ProxyJump about\nHost about\n ProxyJump round\n")
	cfg := Config{SSHConfig: last.write("jumps", text.String()), Timeout: 5 * time.Second}
	r := mustDial(t, "last", cfg)
	if err := echo(t, r); err != nil {
		t.Error(err)
	}
	if first.loggedIn() != 1 || second.loggedIn() != 1 || last.loggedIn() != 1 {
		t.Errorf("logins: %d, %d, %d", first.loggedIn(), second.loggedIn(), last.loggedIn())
	}
	first.drop()
	if err := echo(t, r); err != nil || first.loggedIn() != 2 {
		t.Errorf("after the first hop broke: %v, %d logins", err, first.loggedIn())
	}
	if _, err := dial(t, "round", cfg); err == nil || !strings.Contains(err.Error(), "more than 8 hosts") {
		t.Errorf("a circle: %v", err)
	}
	second.knows()
	var unknown *UnknownHost
	if _, err := dial(t, "last", cfg); !errors.As(err, &unknown) || unknown.Target != "second" {
		t.Errorf("a hop that nobody knows: %v", err)
	}
}

func TestAFileThatMayNotBeWrittenIsNotTakenForAFullDisk(t *testing.T) {
	s, cfg := newServer(t)
	r := mustDial(t, "box", cfg)
	if err := os.Mkdir(filepath.Join(s.dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	err := r.Upload(t.Context(), "folder", 0o600, strings.NewReader("x"))
	var full *NoSpace
	if err == nil || errors.As(err, &full) {
		t.Errorf("a file in the place of a folder: %v", err)
	}
}
