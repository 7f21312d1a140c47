package remote

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"
	"golang.org/x/sys/unix"
)

// server is an SSH server in this process, on loopback, that can be broken.
type server struct {
	t       *testing.T
	dir     string // its home, and the client's files
	addr    string
	hostKey ssh.Signer
	client  ssh.Signer // the key that it lets in

	mu       sync.Mutex // guards the fields below
	listener net.Listener
	conns    map[net.Conn]bool
	logins   int
	noise    string // printed by the login shell before any command
	noSFTP   bool
	refuse   bool // nobody may log in
	silent   bool // takes connections, and says nothing
	deaf     bool // answers no keepalive
}

// newServer starts a server, and writes a config with which it is reached as "box".
func newServer(t *testing.T) (*server, Config) {
	t.Helper()
	s := &server{t: t, dir: t.TempDir(), hostKey: newSigner(t), conns: map[net.Conn]bool{}}
	s.client = s.newClientKey("id")
	s.listen("127.0.0.1:0")
	t.Cleanup(func() {
		s.stop()
		s.drop()
	})
	s.knows(s.hostKey.PublicKey())
	return s, s.config("")
}

func newSigner(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// newClientKey writes a private key file and gives its signer.
func (s *server) newClientKey(name string) ssh.Signer {
	s.t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(name, string(pem.EncodeToMemory(block)))
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		s.t.Fatal(err)
	}
	return signer
}

func (s *server) write(name, content string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// knows writes the known_hosts file.
func (s *server) knows(keys ...ssh.PublicKey) {
	var lines strings.Builder
	for _, k := range keys {
		fmt.Fprintln(&lines, xknownhosts.Line([]string{xknownhosts.Normalize(s.addr)}, k))
	}
	s.write("known_hosts", lines.String())
}

// config writes an ssh_config with further lines for box.
func (s *server) config(more string) Config {
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	file := s.write("ssh_config", fmt.Sprintf("Host box\n HostName %s\n Port %s\nHost *\n User somebody\n IdentityFile %s/id\n IdentitiesOnly yes\n IdentityAgent none\n UserKnownHostsFile %s/known_hosts\n StrictHostKeyChecking no\n%s\n",
		host, port, s.dir, s.dir, more))
	return Config{SSHConfig: file, Timeout: 5 * time.Second}
}

func (s *server) listen(addr string) {
	s.t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	s.listener, s.addr = l, l.Addr().String()
	s.mu.Unlock()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[conn] = true
			s.mu.Unlock()
			go s.serve(conn)
		}
	}()
}

// stop takes no more connections; those that stand stay.
func (s *server) stop() { s.listener.Close() }

// drop breaks the connections that stand.
func (s *server) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
		delete(s.conns, c)
	}
}

func (s *server) set(change func(*server)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *server) is(get func(*server) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return get(s)
}

func (s *server) loggedIn() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logins
}

func (s *server) serve(conn net.Conn) {
	if s.is(func(s *server) bool { return s.silent }) {
		return
	}
	cfg := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if s.is(func(s *server) bool { return s.refuse }) || string(key.Marshal()) != string(s.client.PublicKey().Marshal()) {
			return nil, errors.New("not with this key")
		}
		return nil, nil
	}}
	cfg.AddHostKey(s.hostKey)
	_, channels, requests, err := ssh.NewServerConn(conn, cfg)
	if err != nil {
		conn.Close()
		return
	}
	s.set(func(s *server) { s.logins++ })
	go func() {
		for r := range requests {
			if r.WantReply && !s.is(func(s *server) bool { return s.deaf }) {
				_ = r.Reply(false, nil)
			}
		}
	}()
	for ch := range channels {
		switch ch.ChannelType() {
		case "session":
			c, reqs, err := ch.Accept()
			if err == nil {
				go s.session(c, reqs)
			}
		case "direct-tcpip":
			go forward(ch)
		default:
			_ = ch.Reject(ssh.UnknownChannelType, "no")
		}
	}
}

// forward is what a jump host does.
func forward(ch ssh.NewChannel) {
	var to struct {
		Host     string
		Port     uint32
		From     string
		FromPort uint32
	}
	if err := ssh.Unmarshal(ch.ExtraData(), &to); err != nil {
		_ = ch.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	conn, err := net.Dial("tcp", net.JoinHostPort(to.Host, fmt.Sprint(to.Port)))
	if err != nil {
		_ = ch.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	c, reqs, err := ch.Accept()
	if err != nil {
		conn.Close()
		return
	}
	go ssh.DiscardRequests(reqs)
	go func() { _, _ = io.Copy(c, conn); c.Close() }()
	_, _ = io.Copy(conn, c)
	conn.Close()
}

func (s *server) session(c ssh.Channel, reqs <-chan *ssh.Request) {
	var cmd *exec.Cmd
	for r := range reqs {
		var payload struct{ Text string }
		_ = ssh.Unmarshal(r.Payload, &payload)
		switch {
		case r.Type == "exec":
			cmd = s.shell(c, payload.Text)
			_ = r.Reply(cmd != nil, nil) // before the end of a command that is faster than this
			if cmd != nil {
				go reportEnd(c, cmd)
			}
		case r.Type == "signal" && cmd != nil:
			_ = syscall.Kill(-cmd.Process.Pid, unix.SignalNum("SIG"+payload.Text))
		case r.Type == "subsystem" && payload.Text == "sftp" && !s.is(func(s *server) bool { return s.noSFTP }):
			_ = r.Reply(true, nil)
			files, err := sftp.NewServer(c, sftp.WithServerWorkingDirectory(s.dir))
			if err == nil {
				go func() { _ = files.Serve(); c.Close() }()
			}
		default:
			_ = r.Reply(false, nil)
		}
	}
}

// shell runs a command as sshd does: through the login shell, in its own session.
func (s *server) shell(c ssh.Channel, command string) *exec.Cmd {
	s.mu.Lock()
	noise := s.noise
	s.mu.Unlock()
	cmd := exec.Command("/bin/sh", "-c", noise+command)
	cmd.Dir, cmd.Env = s.dir, append(os.Environ(), "HOME="+s.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stdout, cmd.Stderr = c, c.Stderr()
	in, err := cmd.StdinPipe()
	if err != nil || cmd.Start() != nil {
		return nil
	}
	go func() { _, _ = io.Copy(in, c); in.Close() }()
	return cmd
}

func reportEnd(c ssh.Channel, cmd *exec.Cmd) {
	_ = cmd.Wait()
	status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		_, _ = c.SendRequest("exit-signal", false, ssh.Marshal(struct {
			Name  string
			Core  bool
			Text  string
			Words string
		}{Name: strings.TrimPrefix(unix.SignalName(status.Signal()), "SIG")}))
	} else {
		_, _ = c.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{uint32(status.ExitStatus())}))
	}
	c.Close()
}
