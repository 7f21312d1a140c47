package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/worldcompute/wce2e/node/netcheck"
)

// The proxies that institutions run, as Debian ships them: what they answer is
// not ours to make up. They want a login, and let through to two ports.

// real is a proxy that runs, and who may use it for what.
type real struct {
	address   string
	open      string // a port with an echo, to which it lets everybody who has logged in
	dead      string // another such port, with nothing on it
	forbidden string // a port with an echo, to which it lets nobody
}

const realLogin = "user:hunter2"

func TestSquid(t *testing.T) {
	p := newReal(t)
	dir := openDir(t)
	write(t, dir, "auth.sh", `while read -r line; do [ "$line" = "user hunter2" ] && echo OK || echo ERR; done`)
	write(t, dir, "hosts", "127.0.0.1 localhost relay.example.org\n")
	config := write(t, dir, "squid.conf", fmt.Sprintf(`
http_port %[2]s
hosts_file %[1]s/hosts
pid_filename %[1]s/squid.pid
cache_log %[1]s/cache.log
access_log none
coredump_dir %[1]s
netdb_filename none
pinger_enable off
shutdown_lifetime 0 seconds
auth_param basic program /bin/sh %[1]s/auth.sh
auth_param basic children 1
auth_param basic realm the cat
acl known proxy_auth REQUIRED
acl ports port %[3]s %[4]s
http_access deny CONNECT !ports
http_access allow known
http_access deny all
`, dir, p.address, p.open, p.dead))
	start(t, p.address, filepath.Join(dir, "cache.log"), "squid", "-N", "-f", config)
	p.check(t)

	t.Run("the whole way, by a name that only the proxy knows", func(t *testing.T) {
		n := newNetwork(t)
		n.lead(p.address, p.address)
		delete(n.names, "relay.example.org")
		f := n.finder(map[string]string{"HTTPS_PROXY": "http://" + realLogin + "@" + p.address})
		dial(t, f, net.JoinHostPort("relay.example.org", p.open), "http://"+p.address)
	})
}

func TestTinyproxy(t *testing.T) {
	p := newReal(t)
	dir := openDir(t)
	host, port, err := net.SplitHostPort(p.address)
	if err != nil {
		t.Fatal(err)
	}
	config := write(t, dir, "tinyproxy.conf", fmt.Sprintf(`
Listen %s
Port %s
Timeout 30
MaxClients 20
BasicAuth user hunter2
ConnectPort %s
ConnectPort %s
`, host, port, p.open, p.dead))
	start(t, p.address, "", "tinyproxy", "-d", "-c", config)
	p.check(t)
}

// check dials through the proxy in all the ways that end differently.
func (p real) check(t *testing.T) {
	file := credentialsAt(t, 0o600, realLogin)
	for name, c := range map[string]struct {
		login   string // in the URL
		file    string
		target  string
		class   netcheck.Failure // empty: it works
		status  int
		refused func(*Refused) bool
	}{
		"by name":        {login: realLogin + "@", target: "localhost:" + p.open},
		"by address":     {login: realLogin + "@", target: "127.0.0.1:" + p.open},
		"when it asks":   {file: file, target: "127.0.0.1:" + p.open},
		"no login":       {target: "127.0.0.1:" + p.open, class: netcheck.ProxyAuthRequired, status: 407, refused: (*Refused).takesBasic},
		"a wrong login":  {login: "user:wrong@", target: "127.0.0.1:" + p.open, class: netcheck.ProxyAuthRequired, refused: func(r *Refused) bool { return r.Sent }},
		"another port":   {login: realLogin + "@", target: "127.0.0.1:" + p.forbidden, class: netcheck.ProxyForbidden, status: 403},
		"nothing there":  {login: realLogin + "@", target: "127.0.0.1:" + p.dead, class: netcheck.ProxyFailed},
		"no such domain": {login: realLogin + "@", target: "nowhere.invalid:" + p.open, class: netcheck.ProxyFailed},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := parseServer("http://"+c.login+p.address, "HTTPS_PROXY")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			f := &Finder{Credentials: c.file}
			conn, err := f.tunnel(ctx, s, c.target)
			if got := netcheck.Classify(err); got != c.class {
				t.Fatalf("%q, not %q: %v", got, c.class, err)
			}
			if err == nil {
				defer func() { _ = conn.Close() }()
				echoes(t, conn)
				return
			}
			var refused *Refused
			if !errors.As(err, &refused) || c.status != 0 && refused.Status != c.status || c.refused != nil && !c.refused(refused) {
				t.Errorf("it is %+v: %v", refused, err)
			}
			if bytes.Contains([]byte(err.Error()), []byte("hunter2")) {
				t.Errorf("there is the password: %v", err)
			}
			t.Log(err)
		})
	}
}

func newReal(t *testing.T) real {
	port := func(address string) string {
		_, p, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	return real{
		address: freeAddress(t), dead: port(freeAddress(t)),
		open: port(serve(t, echo)), forbidden: port(serve(t, echo)),
	}
}

// freeAddress is one on which nobody listens.
func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// openDir is a folder for a program that gives up root's rights.
func openDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "proxy")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, dir, name, text string) string {
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// start runs a program until the end of the test, and waits until it listens.
func start(t *testing.T, address, log, name string, args ...string) {
	path := find(name)
	if path == "" {
		t.Skipf("SKIPPED: there is no %s: make setup installs it", name)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, path, args...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	for until := time.Now().Add(3 * patience); ; {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-ended:
		case <-time.After(20 * time.Millisecond):
			if time.Now().Before(until) {
				continue
			}
			cancel()
			<-ended
		}
		text, _ := os.ReadFile(log)
		t.Fatalf("%s does not listen: %v\n%s\n%s", name, err, said.String(), text)
	}
}

// find looks where servers are, which is not in everybody's PATH.
func find(name string) string {
	for _, p := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(p); err == nil {
			return path
		}
	}
	return ""
}
