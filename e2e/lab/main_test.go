//go:build linux

package lab

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/worldcompute/wce2e/inventory"
)

func TestMain(m *testing.M) {
	if os.Args[0] == initArg0 {
		catalogue = append(catalogue, realProfiles...)
	}
	Reexec()
	switch {
	case len(os.Args) > 2 && os.Args[1] == "node":
		os.Exit(exitOf(standIn(os.Args[2:])))
	case len(os.Args) > 1 && os.Args[1] == "agent":
		os.Exit(exitOf(agent()))
	case len(os.Args) == 3 && os.Args[1] == "crippled":
		os.Exit(exitOf(crippled(os.Args[2])))
	case len(os.Args) > 2 && os.Args[1] == "suite":
		os.Exit(exitOf(victim(os.Args[2])))
	}
	flag.Parse()
	if *realFlag {
		catalogue = append(catalogue, realProfiles...)
	}
	// The tests of firewalls wait for what does not come, more than they compute.
	if err := flag.Set("test.parallel", "4"); err != nil {
		os.Exit(exitOf(err))
	}
	os.Exit(m.Run())
}

// bring raises a lab for a test, or skips it loudly where there can be none.
func bring(t testing.TB, cfg Config) *Lab {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves the lab out")
	}
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	start := time.Now()
	l, err := Up(t.Context(), cfg)
	if r, ok := errors.AsType[*RefusedError](err); ok {
		t.Skipf("SKIPPED: no lab on this machine: %v", r)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the lab stood after %s", time.Since(start).Round(time.Millisecond))
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	return l
}

// ownBinary is this test program, which plays agents and bystanders as well.
func ownBinary(t testing.TB) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// small is a lab with one network of each kind that the tests are about.
func small() *inventory.Lab {
	return &inventory.Lab{
		Latency: 10 * time.Millisecond,
		Networks: []inventory.LabNetwork{
			{Name: "campus", Profile: "institutional"},
			{Name: "house", Profile: "home"},
			{Name: "core", Profile: "open"},
		},
		Hosts: []inventory.LabHost{
			{Name: "tensor02", Network: "campus"},
			{Name: "laptop", Network: "house"},
			{Name: "relay1", Network: "core"},
			{Name: "relay2", Network: "core"},
		},
	}
}

func (l *Lab) host(t testing.TB, name string) Host {
	t.Helper()
	for _, h := range l.Hosts {
		if h.Name == name {
			return h
		}
	}
	t.Fatalf("the lab has no host %s", name)
	return Host{}
}

// login is an SSH connection to a host, over its socket, by what ssh_config names.
func (l *Lab) login(t testing.TB, host string) *ssh.Client {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(l.Dir, "id_ed25519"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.ParsePrivateKey(text)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("unix", filepath.Join(l.Dir, host+".sock"))
	if err != nil {
		t.Fatal(err)
	}
	conn, channels, requests, err := ssh.NewClientConn(c, host, &ssh.ClientConfig{
		User: login, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.FixedHostKey(l.hostKey(t, host)), Timeout: 10 * time.Second,
	})
	if err != nil {
		t.Fatalf("log in to %s: %v", host, err)
	}
	client := ssh.NewClient(conn, channels, requests)
	t.Cleanup(func() { client.Close() })
	return client
}

func (l *Lab) hostKey(t testing.TB, host string) ssh.PublicKey {
	t.Helper()
	rest, err := os.ReadFile(filepath.Join(l.Dir, "known_hosts"))
	if err != nil {
		t.Fatal(err)
	}
	for len(rest) > 0 {
		_, hosts, key, _, more, err := ssh.ParseKnownHosts(rest)
		if err != nil {
			break
		}
		if hosts[0] == host {
			return key
		}
		rest = more
	}
	t.Fatalf("known_hosts does not know %s", host)
	return nil
}

// sh runs a shell command on a host, and returns what it printed.
func sh(t testing.TB, c *ssh.Client, command string) (stdout, stderr string, err error) {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var out, e bytes.Buffer
	s.Stdout, s.Stderr = &out, &e
	err = s.Run(command)
	return out.String(), e.String(), err
}

// must is sh for commands that have to work.
func must(t testing.TB, c *ssh.Client, command string) string {
	t.Helper()
	out, stderr, err := sh(t, c, command)
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", command, err, out, stderr)
	}
	return out
}

// victim is a suite that is going to be killed: it raises a lab, says so, and waits.
func victim(dir string) error {
	l, err := Up(context.Background(), Config{Lab: small(), Dir: dir})
	if err != nil {
		return err
	}
	fmt.Println(l.SSHConfig)
	select {}
}
