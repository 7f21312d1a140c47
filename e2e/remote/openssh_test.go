package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/worldcompute/wce2e/e2e/remote/onhost"
)

// openSSH starts OpenSSH's own sshd on loopback, and writes a config with which
// it is reached as "box", and through itself as "behind".
func openSSH(t *testing.T) (*server, Config, *exec.Cmd) {
	t.Helper()
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		sshd = "/usr/sbin/sshd"
	}
	if _, err := os.Stat(sshd); err != nil {
		t.Skip("SKIPPED: OpenSSH's sshd is not installed (Debian: openssh-server)")
	}
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: OpenSSH's sshd takes root to log anybody in")
	}
	lockup()
	s := &server{t: t, dir: t.TempDir()}
	s.client = s.newClientKey("id")
	s.hostKey = s.newClientKey("host")
	s.addr = freeAddr(t)
	s.knows(s.hostKey.PublicKey())
	s.write("authorized", string(ssh.MarshalAuthorizedKey(s.client.PublicKey())))
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	config := s.write("sshd_config", fmt.Sprintf("ListenAddress 127.0.0.1:%s\nHostKey %s/host\nAuthorizedKeysFile %s/authorized\nStrictModes no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\nUsePAM no\nPidFile none\nSubsystem sftp internal-sftp\nMaxSessions 10\n", port, s.dir, s.dir))
	cmd := exec.Command(sshd, "-D", "-e", "-f", config)
	log, err := os.Create(filepath.Join(s.dir, "sshd.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("sshd says:\n%s", text)
		}
	})
	within(t, 10*time.Second, "sshd to listen", func(ctx context.Context) (bool, string, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.addr)
		if err != nil {
			return false, err.Error(), nil
		}
		return true, "", conn.Close()
	})
	cfg := s.config("Host behind\n HostName 127.0.0.1\n Port " + port + "\n ProxyJump box,root@box")
	text, err := os.ReadFile(cfg.SSHConfig)
	if err != nil {
		t.Fatal(err)
	}
	s.write("ssh_config", strings.ReplaceAll(string(text), "User somebody", "User root"))
	cfg.Timeout = 15 * time.Second
	return s, cfg, cmd
}

const lockupDir = "/run/sshd"

// lockup makes the folder that sshd's unprivileged half locks itself up in. Its
// package makes it at boot. TestMain removes it if it was missing.
var lockup = sync.OnceFunc(func() { madeLockup = os.Mkdir(lockupDir, 0o755) == nil })

var madeLockup bool

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestOpenSSHKeepsTheContract(t *testing.T) {
	t.Parallel()
	s, cfg, _ := openSSH(t)
	r := mustDial(t, "box", cfg)
	if r.HostKey() != ssh.FingerprintSHA256(s.hostKey.PublicKey()) {
		t.Errorf("host key %s", r.HostKey())
	}
	keepsContract(t, r)
}

func TestOpenSSHIsReachedThroughItself(t *testing.T) {
	t.Parallel()
	_, cfg, _ := openSSH(t)
	r := mustDial(t, "behind", cfg)
	if err := echo(t, r); err != nil {
		t.Error(err)
	}
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<17)
	name := scratch(t, r) + "/file"
	if err := r.Upload(t.Context(), name, 0o600, bytes.NewReader(big)); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, r, name); !bytes.Equal(got, big) {
		t.Errorf("2 MB arrived as %d other bytes", len(got))
	}
}

func TestOpenSSHWithAnotherHostKeyIsRefused(t *testing.T) {
	t.Parallel()
	s, cfg, _ := openSSH(t)
	s.knows(newSigner(t).PublicKey())
	var changed *ChangedHost
	if _, err := dial(t, "box", cfg); !errors.As(err, &changed) {
		t.Errorf("%v", err)
	}
	s.write("id", "")
	s.client = s.newClientKey("id") // a key that nobody authorized
	s.knows(s.hostKey.PublicKey())
	var refused *Refused
	if _, err := dial(t, "box", cfg); !errors.As(err, &refused) {
		t.Errorf("with a strange key: %v", err)
	}
}

func TestOpenSSHShowsTheKeyThatWeKnow(t *testing.T) {
	s, cfg, _ := openSSH(t)
	// The server has two keys and prefers the other one; we know only this one.
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", filepath.Join(s.dir, "host2")).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: no second host key: %v: %s", err, out)
	}
	second, err := os.ReadFile(filepath.Join(s.dir, "host2"))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(second)
	if err != nil {
		t.Fatal(err)
	}
	h := &hostKeys{}
	s.knows(signer.PublicKey())
	set, err := settingsOf(t.Context(), cfg, "box")
	if err != nil {
		t.Fatal(err)
	}
	if h, err = newHostKeys(set); err != nil {
		t.Fatal(err)
	}
	if first := h.algorithms()[0]; first != signer.PublicKey().Type() {
		t.Errorf("the first algorithm that is asked for is %s, the known key is %s", first, signer.PublicKey().Type())
	}
}

func TestOpenSSHThatIsKilledInTheMiddleIsReachedAgain(t *testing.T) {
	t.Parallel()
	_, cfg, _ := openSSH(t)
	r := mustDial(t, "box", cfg)
	_, err := r.Exec(t.Context(), []string{"sh", "-c", "kill -KILL $PPID; sleep 10"}, nil) // sshd's process of this connection
	if !errors.Is(err, ErrLost) {
		t.Errorf("%v, want ErrLost", err)
	}
	if err := echo(t, r); err != nil {
		t.Error(err)
	}
}

// TestMain makes the test binary stand for wce2e on the machine: host start and
// host supervise.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "host" {
		if err := asHost(os.Args[2], os.Args[3:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if madeLockup {
		os.Remove(lockupDir)
	}
	os.Exit(code)
}

// asHost takes start DIR LEASE ARG... and supervise --dir DIR --lease LEASE -- ARG...
func asHost(what string, a []string) error {
	switch what {
	case "start":
		lease, err := time.ParseDuration(a[1])
		if err != nil {
			return err
		}
		self, err := os.Executable()
		if err != nil {
			return err
		}
		started, err := onhost.Start(context.Background(), onhost.StartConfig{Dir: a[0], Lease: lease, Args: a[2:], Supervisor: []string{self, "host", "supervise"}})
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(started)
	case "supervise":
		lease, err := time.ParseDuration(a[3])
		if err != nil {
			return err
		}
		return onhost.RunSupervisor(a[1], lease, a[5:], nil)
	}
	return fmt.Errorf("host %s: what is that", what)
}

func TestASupervisedProcessOutlivesItsSSHConnectionAndNotItsLease(t *testing.T) {
	t.Parallel()
	_, cfg, _ := openSSH(t)
	outlives(t, mustDial(t, "box", cfg), mustDial(t, "box", cfg))
}

func TestASupervisedProcessOutlivesTheEmbeddedServersConnection(t *testing.T) {
	t.Parallel()
	_, cfg := newServer(t)
	outlives(t, mustDial(t, "box", cfg), mustDial(t, "box", cfg))
}

func outlives(t *testing.T, r, other Remote) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := scratch(t, other)
	out, err := output(t.Context(), r, self, "host", "start", dir, "2s", "sh", "-c", "echo up; while :; do sleep 0.2; done")
	if err != nil {
		t.Fatal(err)
	}
	var started onhost.Started
	if err := json.Unmarshal([]byte(out), &started); err != nil || started.PID == 0 {
		t.Fatalf("%q: %v", out, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	for n := range 6 { // 3 s, longer than the lease
		if err := other.Upload(t.Context(), dir+"/lease", 0o600, strings.NewReader(fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
	}
	if syscall.Kill(started.PID, 0) != nil {
		t.Fatal("it did not outlive the connection")
	}
	var ended onhost.Ended
	if err := json.Unmarshal([]byte(awaitFile(t, other, dir+"/exit.json")), &ended); err != nil || !ended.Lease || ended.Signal != "TERM" || ended.Tail != "up" {
		t.Errorf("%+v, %v", ended, err)
	}
	if syscall.Kill(started.PID, 0) == nil {
		t.Error("it outlived its lease")
	}
}
