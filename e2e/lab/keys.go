//go:build linux

package lab

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/crypto/ssh"
)

// newKey makes a key pair: the private half as OpenSSH keeps it, the public half
// as a line of authorized_keys or known_hosts.
func newKey() (private, public string, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", "", err
	}
	block, err := ssh.MarshalPrivateKey(priv, "wce2e lab")
	if err != nil {
		return "", "", err
	}
	k, err := ssh.NewPublicKey(pub)
	if err != nil {
		return "", "", err
	}
	return string(pem.EncodeToMemory(block)), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))), nil
}

// writeClient puts into p.Dir what an SSH client needs: a key, the hosts' keys,
// and a config that names both. It fills in the keys of p.
func (p *plan) writeClient() (config string, err error) {
	private, public, err := newKey()
	if err != nil {
		return "", fmt.Errorf("make the client's key: %w", err)
	}
	p.Authorized = public
	var known strings.Builder
	for i := range p.Machines {
		m := &p.Machines[i]
		if m.Bystander {
			continue
		}
		private, public, err := newKey()
		if err != nil {
			return "", fmt.Errorf("make the key of host %s: %w", m.Name, err)
		}
		m.HostKey = private
		fmt.Fprintf(&known, "%s %s\n", m.Name, public)
	}
	exe, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program for ProxyCommand: %w", err)
	}
	in := func(name string) string { return filepath.Join(p.Dir, name) }
	config = in("ssh_config")
	return config, errors.Join(
		os.WriteFile(in("id_ed25519"), []byte(private), 0o600),
		os.WriteFile(in("known_hosts"), []byte(known.String()), 0o600),
		os.WriteFile(config, []byte(p.sshConfig(exe)), 0o600))
}

func (p *plan) sshConfig(exe string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# The hosts of one lab. It is valid while that lab runs.\n")
	for _, m := range p.reachable() {
		fmt.Fprintf(&b, "\nHost %s\n", m.Name)
		for _, line := range []string{
			"HostName " + m.Name,
			"User " + login,
			"IdentityFile " + configQuote(filepath.Join(p.Dir, "id_ed25519")),
			"IdentitiesOnly yes",
			"UserKnownHostsFile " + configQuote(filepath.Join(p.Dir, "known_hosts")),
			"GlobalKnownHostsFile none",
			"StrictHostKeyChecking yes",
			"ProxyCommand " + strings.ReplaceAll(shellQuote(exe)+" "+connectArg1+" "+shellQuote(p.socket(m.Name)), "%", "%%"),
		} {
			b.WriteString("  " + line + "\n")
		}
	}
	return b.String()
}

// configQuote writes a path for ssh_config, where % begins a token.
func configQuote(path string) string {
	path = strings.ReplaceAll(path, "%", "%%")
	if strings.ContainsAny(path, " \t") {
		return `"` + path + `"`
	}
	return path
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// shellQuote writes a word for the user's shell, which runs ProxyCommand.
func shellQuote(word string) string {
	if plainWord.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
