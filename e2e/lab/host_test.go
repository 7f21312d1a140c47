//go:build linux

package lab

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

func TestEachHostIsAMachineOfItsOwn(t *testing.T) {
	l := bring(t, Config{Lab: small()})
	campus, house := l.login(t, "tensor02"), l.login(t, "laptop")
	for _, c := range []struct{ command, campus, house string }{
		{"cat /etc/hostname", "tensor02\n", "laptop\n"},
		{"uname -n", "tensor02\n", "laptop\n"},
		{"cat /etc/resolv.conf", "nameserver 192.168.10.1\n", "nameserver 192.168.11.1\n"},
		{"pwd", "/home/user\n", "/home/user\n"},
		{"id -un", "user\n", "user\n"},
		{"ls -A", "", ""},
		{"ls /tmp", "", ""},
	} {
		if got := must(t, campus, c.command); got != c.campus {
			t.Errorf("%s on the campus: %q, want %q", c.command, got, c.campus)
		}
		if got := must(t, house, c.command); got != c.house {
			t.Errorf("%s in the house: %q, want %q", c.command, got, c.house)
		}
	}
	must(t, campus, "echo secret >/home/user/f; echo secret >/tmp/f")
	if got := must(t, house, "ls -A /home/user /tmp"); strings.Contains(got, "f\n") {
		t.Errorf("a file on one host shows on the other:\n%s", got)
	}
	if out, _, err := sh(t, campus, "touch /usr/bin/of-the-lab || touch /etc/ssl/of-the-lab"); err == nil {
		t.Errorf("the machine's own files can be written: %s", out)
	}
	if got := must(t, campus, "ls /home; ls / | tr '\\n' ' '"); !strings.HasPrefix(got, "user\n") || strings.Contains(got, "root ") {
		t.Errorf("more of the machine is visible than its programs:\n%s", got)
	}
	if got := must(t, campus, "df -Pm /home/user"); !strings.Contains(got, " 512 ") {
		t.Errorf("the home's size is not the limit that is set:\n%s", got)
	}
}

func TestSSHRunsCommandsAsOpenSSHDoes(t *testing.T) {
	l := bring(t, Config{Lab: pair(0)})
	c := l.login(t, "a")
	t.Run("output and error are apart, the status comes back", func(t *testing.T) {
		out, stderr, err := sh(t, c, "echo to stdout; echo to stderr >&2; exit 42")
		e, ok := errors.AsType[*ssh.ExitError](err)
		if out != "to stdout\n" || stderr != "to stderr\n" || !ok || e.ExitStatus() != 42 {
			t.Errorf("stdout %q, stderr %q, %v", out, stderr, err)
		}
	})
	t.Run("commands that end at once are answered all the same", func(t *testing.T) {
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				for range 100 {
					s, err := c.NewSession()
					if err == nil {
						err = s.Run("exit 0")
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
	})
	t.Run("a signal comes back as one", func(t *testing.T) {
		_, _, err := sh(t, c, "kill -KILL $$")
		if e, ok := errors.AsType[*ssh.ExitError](err); !ok || e.Signal() != "KILL" {
			t.Errorf("%v", err)
		}
	})
	t.Run("stdin reaches the command, and so does its end", func(t *testing.T) {
		s := session1(t, c)
		s.Stdin = strings.NewReader("one\ntwo\n")
		if out, err := s.Output("cat; echo end"); err != nil || string(out) != "one\ntwo\nend\n" {
			t.Errorf("%q %v", out, err)
		}
	})
	t.Run("variables are taken over", func(t *testing.T) {
		s := session1(t, c)
		if err := s.Setenv("LC_ALL", "C.UTF-8"); err != nil {
			t.Fatal(err)
		}
		if out, err := s.Output("echo $LC_ALL $HOME $USER"); err != nil || string(out) != "C.UTF-8 /home/user user\n" {
			t.Errorf("%q %v", out, err)
		}
	})
	t.Run("a signal request reaches the command", func(t *testing.T) {
		s := session1(t, c)
		out, err := s.StdoutPipe()
		if err := errors.Join(err, s.Start("trap 'echo caught; exit 3' TERM; echo ready; sleep 60 >/dev/null 2>&1 & wait")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
			t.Fatal(err)
		}
		if err := s.Signal(ssh.SIGTERM); err != nil {
			t.Fatal(err)
		}
		rest, _ := io.ReadAll(out)
		if e, ok := errors.AsType[*ssh.ExitError](s.Wait()); !ok || e.ExitStatus() != 3 || string(rest) != "caught\n" {
			t.Errorf("%q %v", rest, e)
		}
	})
	t.Run("keepalives are answered", func(t *testing.T) {
		if _, _, err := c.SendRequest("keepalive@openssh.com", true, nil); err != nil {
			t.Error(err)
		}
	})
	t.Run("a terminal is one", func(t *testing.T) {
		s := session1(t, c)
		if err := s.RequestPty("vt100", 33, 77, nil); err != nil {
			t.Fatal(err)
		}
		out, err := s.Output("test -t 0 && stty size && echo $TERM")
		if err != nil || string(out) != "33 77\r\nvt100\r\n" {
			t.Errorf("%q %v", out, err)
		}
	})
	t.Run("an unknown key is refused", func(t *testing.T) {
		private, _, err := newKey()
		if err != nil {
			t.Fatal(err)
		}
		key, err := ssh.ParsePrivateKey([]byte(private))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("unix", filepath.Join(l.Dir, "a.sock"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _, _, err = ssh.NewClientConn(conn, "a", &ssh.ClientConfig{User: login, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
		if err == nil {
			t.Error("it logs in")
		}
	})
	t.Run("no more than ten sessions on a connection", func(t *testing.T) {
		c := l.login(t, "a")
		for range maxSessions {
			session1(t, c)
		}
		if s, err := c.NewSession(); err == nil {
			s.Close()
			t.Error("an eleventh session opens")
		}
	})
}

func session1(t *testing.T, c *ssh.Client) *ssh.Session {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestACommandOutlivesItsConnectionAndOrphansAreReaped(t *testing.T) {
	l := bring(t, Config{Lab: pair(0)})
	c := l.login(t, "a")
	s := session1(t, c)
	out, err := s.StdoutPipe()
	if err := errors.Join(err, s.Start("echo $$; exec sleep 1000")); err != nil {
		t.Fatal(err)
	}
	pid := make([]byte, 16)
	n, err := out.Read(pid)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	c = l.login(t, "a")
	alive := "kill -0 " + strings.TrimSpace(string(pid[:n]))
	must(t, c, alive)
	must(t, c, "kill -9 "+strings.TrimSpace(string(pid[:n])))
	must(t, c, "(sleep 0.01 & sleep 0.02 &) >/dev/null 2>&1 </dev/null")
	eventually(t, "no process but PID 1 and the shell that looks", func() (bool, string) {
		got := must(t, c, "cat /proc/[0-9]*/stat 2>/dev/null | grep -v -e '(wce2e-lab-host)' -e '(exe)' -e '(cat)' -e '(sh)' -e '(grep)' -e '(lab.*test)'; true")
		return got == "", got
	})
}

// eventually waits for a condition, and fails with what was seen last.
func eventually(t *testing.T, what string, ready func() (bool, string)) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		ok, seen := ready()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after 10s not yet: %s; seen: %s", what, seen)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestFilesGoBothWays(t *testing.T) {
	l := bring(t, Config{Lab: pair(0)})
	files, err := sftp.NewClient(l.login(t, "a"), sftp.UseConcurrentWrites(true), sftp.UseConcurrentReads(true))
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	sent := make([]byte, 40<<20)
	rand.Read(sent)
	start := time.Now()
	f, err := files.Create("binary") // relative to the home
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadFromWithConcurrency(bytes.NewReader(sent), 64); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Close(), files.PosixRename("binary", "/home/user/cached")); err != nil {
		t.Fatal(err)
	}
	t.Logf("uploaded 40 MiB in %s", time.Since(start))
	f, err = files.Open("/home/user/cached")
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if _, err := f.WriteTo(&got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), sent) {
		t.Error("what came back is not what was sent")
	}
	if _, err := files.Stat(l.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the lab's folder is visible over sftp: %v", err)
	}
}

func TestSSHIsNoPathBetweenHosts(t *testing.T) {
	l := bring(t, Config{Lab: small()})
	c := l.login(t, "relay2")
	relay, own := l.hand(t, "relay1"), l.hand(t, "relay2")
	for _, h := range []*hand{relay, own} {
		h.do(order{Do: "listen", Network: "tcp4", Addr: ":4001"})
	}
	addr := l.host(t, "relay1").Addr.String() + ":4001"
	own.do(order{Do: "dial", Network: "tcp4", Addr: addr, Timeout: time.Second}) // the network itself lets it through
	for what, try := range map[string]func() error{
		"direct-tcpip to a host": func() error { return prohibited(c.Dial("tcp", addr)) },
		"direct-tcpip to itself": func() error { return prohibited(c.Dial("tcp", "127.0.0.1:4001")) },
		"direct-streamlocal":     func() error { return prohibited(c.Dial("unix", filepath.Join(l.Dir, "relay1.sock"))) },
		"tcpip-forward":          func() error { _, err := c.Listen("tcp", "127.0.0.1:4002"); return err },
		"streamlocal-forward":    func() error { _, err := c.ListenUnix("/tmp/x.sock"); return err },
		"agent forwarding":       func() error { return refusedRequest(t, c, "auth-agent-req@openssh.com") },
		"X11 forwarding":         func() error { return refusedRequest(t, c, "x11-req") },
		"the lab's folder":       func() error { _, _, err := sh(t, c, "test -e "+l.Dir); return err },
		"a socket in any folder": func() error {
			_, _, err := sh(t, c, "find / -path /proc -prune -o -path /usr -prune -o -type s -print | grep .")
			return err
		},
	} {
		if try() == nil {
			t.Errorf("%s works", what)
		}
	}
}

// prohibited is nil unless opening the channel was refused as a matter of
// policy: a dial that merely failed proves nothing.
func prohibited(c net.Conn, err error) error {
	if err == nil {
		c.Close()
		return nil
	}
	if e, ok := errors.AsType[*ssh.OpenChannelError](err); ok && e.Reason == ssh.Prohibited {
		return e
	}
	return nil
}

func refusedRequest(t *testing.T, c *ssh.Client, name string) error {
	ok, err := session1(t, c).SendRequest(name, true, nil)
	if err == nil && !ok {
		return errors.New("refused")
	}
	return err
}

func TestHostsHaveNoNetworkButTheLabs(t *testing.T) {
	l := bring(t, Config{Lab: pair(0)})
	a := l.hand(t, "a")
	outside, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	_, port, _ := net.SplitHostPort(outside.Addr().String())
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, addr := range addrs {
		ip := addr.(*net.IPNet).IP.To4()
		if ip == nil {
			continue
		}
		tried++
		if got := a.ask(order{Do: "dial", Network: "tcp4", Addr: ip.String() + ":" + port, Timeout: silence}); got.Err == "" {
			t.Errorf("a host reaches the machine at %s", ip)
		}
	}
	if tried == 0 {
		t.Error("the machine has no address to try")
	}
}

func TestOpenSSHsClientWorksWithTheConfig(t *testing.T) {
	client, err := exec.LookPath("ssh")
	if err != nil {
		t.Skip("SKIPPED: no ssh client on this machine")
	}
	l := bring(t, Config{Lab: small()})
	cmd := exec.CommandContext(t.Context(), client, "-F", l.SSHConfig, "laptop", "hostname; cat; exit 7")
	cmd.Stdin = strings.NewReader("from outside\n")
	out, err := cmd.Output()
	e, ok := errors.AsType[*exec.ExitError](err)
	if string(out) != "laptop\nfrom outside\n" || !ok || e.ExitCode() != 7 {
		t.Errorf("%q %v", out, err)
	}
	t.Run("and refuses a changed host key", func(t *testing.T) {
		_, other, err := newKey()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(l.Dir, "known_hosts"), []byte("laptop "+other+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), client, "-F", l.SSHConfig, "-o", "BatchMode=yes", "laptop", "true").CombinedOutput(); err == nil {
			t.Errorf("it logs in: %s", out)
		}
	})
}
