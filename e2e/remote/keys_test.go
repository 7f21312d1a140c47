package remote

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

func TestARefusedLoginNamesWhatWasTried(t *testing.T) {
	s, cfg := newServer(t)
	s.set(func(s *server) { s.refuse = true })
	_, err := dial(t, "box", cfg)
	var refused *Refused
	if !errors.As(err, &refused) || refused.User != "somebody" || len(refused.Tried) != 1 || refused.Tried[0] != filepath.Join(s.dir, "id") {
		t.Fatalf("%v", err)
	}
	if strings.Contains(err.Error(), "somebody") || !strings.Contains(refused.Hint(), "somebody") {
		t.Errorf("the login is for the hint alone, not for evidence: %v", err)
	}
	if err := os.Remove(filepath.Join(s.dir, "id")); err != nil {
		t.Fatal(err)
	}
	if _, err = dial(t, "box", cfg); !errors.As(err, &refused) || len(refused.Tried) > 0 || !strings.Contains(err.Error(), "no such file: "+s.dir+"/id") {
		t.Errorf("without a key: %v", err)
	}
}

func TestAnEncryptedKeyIsUsedThroughTheAgentOrNamesIt(t *testing.T) {
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		t.Skip("SKIPPED: there is no ssh-keygen")
	}
	s, _ := newServer(t)
	id := filepath.Join(s.dir, "id")
	plain, err := os.ReadFile(id)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", id).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_, err = dial(t, "box", s.config(""))
	var refused *Refused
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), id+" is encrypted") || !strings.Contains(err.Error(), "ssh-add") {
		t.Errorf("without an agent: %v", err)
	}
	private, err := ssh.ParseRawPrivateKey(plain)
	if err != nil {
		t.Fatal(err)
	}
	socket := runAgent(t, newSignerKey(t), private)
	t.Setenv("SSH_AUTH_SOCK", socket)
	s.config("")
	mustDial(t, "box", withAgent(s, socket))
}

func TestOnlyTheConfiguredKeysOfAnAgentAreOfferedWhenThatIsAsked(t *testing.T) {
	s, _ := newServer(t)
	content, err := os.ReadFile(filepath.Join(s.dir, "id"))
	if err != nil {
		t.Fatal(err)
	}
	private, err := ssh.ParseRawPrivateKey(content)
	if err != nil {
		t.Fatal(err)
	}
	s.newClientKey("id") // the file holds another key now; the agent has the right one
	socket := runAgent(t, private)
	var refused *Refused
	if _, err := dial(t, "box", withAgent(s, socket)); !errors.As(err, &refused) || len(refused.Tried) != 1 {
		t.Errorf("with IdentitiesOnly: %v", err)
	}
	text, err := os.ReadFile(withAgent(s, socket).SSHConfig)
	if err != nil {
		t.Fatal(err)
	}
	cfg := withAgent(s, socket)
	s.write("ssh_config", strings.Replace(string(text), "IdentitiesOnly yes", "IdentitiesOnly no", 1))
	mustDial(t, "box", cfg)
}

func withAgent(s *server, socket string) Config {
	cfg := s.config("")
	text, err := os.ReadFile(cfg.SSHConfig)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write("ssh_config", strings.Replace(string(text), "IdentityAgent none", "IdentityAgent "+socket, 1))
	return cfg
}

func newSignerKey(t *testing.T) any {
	t.Helper()
	s := &server{t: t, dir: t.TempDir()}
	s.newClientKey("other")
	content, err := os.ReadFile(filepath.Join(s.dir, "other"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.ParseRawPrivateKey(content)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// runAgent is an ssh-agent that holds keys.
func runAgent(t *testing.T, keys ...any) (socket string) {
	t.Helper()
	ring := agent.NewKeyring()
	for _, k := range keys {
		if err := ring.Add(agent.AddedKey{PrivateKey: k}); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("", "agent") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(ring, c); c.Close() }()
		}
	}()
	return socket
}
