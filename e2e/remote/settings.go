package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/kevinburke/ssh_config"
)

// settings is what ssh_config says of one machine.
type settings struct {
	target         string // as it was asked for, without its user
	host           string // HostName
	port           string
	user           string
	keyAlias       string   // HostKeyAlias
	identities     []string // IdentityFile, absolute
	identitiesOnly bool
	agent          string   // socket; empty: none
	knownHosts     []string // absolute; some may not exist
	proxyCommand   string   // for sh; empty: none
	proxyJump      string   // hops, separated by commas; empty: none
	timeout        time.Duration
}

// spec is a target as a person writes it: [user@]host[:port].
type spec struct{ user, host, port string }

func parseTarget(target string) (spec, error) {
	rest := strings.TrimPrefix(target, "ssh://")
	var s spec
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		s.user, rest = rest[:at], rest[at+1:]
	}
	s.host = rest
	if h, p, err := net.SplitHostPort(rest); err == nil {
		s.host, s.port = h, p
	}
	s.host = strings.Trim(s.host, "[]")
	switch n, err := strconv.Atoi(s.port); {
	case s.host == "" || strings.HasPrefix(s.host, "-") || strings.HasPrefix(s.user, "-"):
		return spec{}, fmt.Errorf("ssh target %q: want an alias or user@host[:port]", target)
	case s.port != "" && (err != nil || n < 1 || n > 65535):
		return spec{}, fmt.Errorf("ssh target %q: %s is not a TCP port", target, s.port)
	}
	return s, nil
}

// look gives the values of a keyword for one target, in ssh_config's order.
type look func(keyword string) []string

// settingsOf finds out what ssh_config says of a target.
func settingsOf(ctx context.Context, cfg Config, target string) (settings, error) {
	want, err := parseTarget(target)
	if err != nil {
		return settings{}, err
	}
	get, err := askSSH(ctx, cfg.SSHConfig, want)
	if errors.Is(err, exec.ErrNotFound) {
		get, err = readConfig(cfg.SSHConfig, want.host)
	}
	if err != nil {
		return settings{}, fmt.Errorf("ssh_config of %s: %w", want.host, err)
	}
	return resolve(cfg, want, get)
}

// askSSH lets OpenSSH's own client evaluate ssh_config: nobody else knows all of
// it (Match exec, canonical names, which of ProxyJump and ProxyCommand came first).
func askSSH(ctx context.Context, file string, want spec) (look, error) {
	args := []string{"-G"}
	if file != "" {
		args = append(args, "-F", file)
	}
	if want.user != "" {
		args = append(args, "-l", want.user)
	}
	if want.port != "" {
		args = append(args, "-p", want.port)
	}
	cmd := exec.CommandContext(ctx, "ssh", append(args, "--", want.host)...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("ssh -G: %w: %s", err, strings.TrimSpace(said.String()))
	}
	values := map[string][]string{}
	for line := range strings.Lines(out.String()) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		values[key] = append(values[key], value)
	}
	return func(keyword string) []string { return values[strings.ToLower(keyword)] }, nil
}

// readConfig reads ssh_config by itself, for machines without OpenSSH's client.
func readConfig(file, host string) (look, error) {
	files := []string{file}
	if file == "" {
		files = []string{expand("~/.ssh/config", nil), "/etc/ssh/ssh_config"}
	}
	var parsed []*ssh_config.Config
	for _, name := range files {
		content, err := os.ReadFile(name)
		if file == "" && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		c, err := ssh_config.DecodeBytes(content)
		if err != nil {
			return nil, fmt.Errorf("%s: %w (with OpenSSH's client installed, it would be asked instead)", name, err)
		}
		parsed = append(parsed, c)
	}
	return func(keyword string) []string {
		var all []string
		for _, c := range parsed {
			values, err := c.GetAll(host, keyword)
			if err == nil {
				all = append(all, values...)
			}
		}
		return all
	}, nil
}

func resolve(cfg Config, want spec, get look) (settings, error) {
	one := func(keyword, otherwise string) string {
		if all := get(keyword); len(all) > 0 && all[0] != "" && !strings.EqualFold(all[0], "none") {
			return all[0]
		}
		return otherwise
	}
	name, home := loginName(), expand("~", nil)
	s := settings{target: want.host, user: want.user, port: want.port}
	if s.user == "" {
		s.user = one("User", name)
	}
	if s.port == "" {
		s.port = one("Port", "22")
	}
	s.host = expand(one("HostName", want.host), tokens{'h': want.host})
	s.keyAlias = one("HostKeyAlias", "")
	t := tokens{'h': s.host, 'n': want.host, 'p': s.port, 'r': s.user, 'u': name, 'd': home, 'k': or(s.keyAlias, want.host), 'j': ""}
	s.proxyCommand = substitute(unmangle(one("ProxyCommand", "")), t)
	if s.proxyCommand == "" {
		s.proxyJump = one("ProxyJump", "")
	}
	s.identitiesOnly = one("IdentitiesOnly", "no") == "yes"
	for _, f := range get("IdentityFile") {
		if !strings.EqualFold(f, "none") {
			s.identities = append(s.identities, expand(f, t))
		}
	}
	if len(get("IdentityFile")) == 0 {
		for _, f := range []string{"id_rsa", "id_ecdsa", "id_ed25519"} {
			s.identities = append(s.identities, filepath.Join(home, ".ssh", f))
		}
	}
	s.agent = agentSocket(get("IdentityAgent"), t)
	s.knownHosts = knownHostsOf(cfg, get, t)
	s.timeout = cfg.timeout()
	if v := one("ConnectTimeout", ""); v != "" {
		seconds, err := strconv.Atoi(v)
		if err != nil || seconds < 1 {
			return settings{}, fmt.Errorf("ssh_config of %s: ConnectTimeout %q: want seconds", want.host, v)
		}
		s.timeout = time.Duration(seconds) * time.Second
	}
	return s, nil
}

func knownHostsOf(cfg Config, get look, t tokens) []string {
	if cfg.KnownHosts != "" {
		return []string{cfg.KnownHosts}
	}
	var files []string
	add := func(keyword, otherwise string) {
		value := otherwise
		if all := get(keyword); len(all) > 0 {
			value = all[0]
		}
		if whole := expand(strings.Trim(value, `"`), t); fileExists(whole) { // its name may hold spaces
			files = append(files, whole)
			return
		}
		for _, f := range strings.Fields(value) {
			files = append(files, expand(strings.Trim(f, `"`), t))
		}
	}
	add("UserKnownHostsFile", "~/.ssh/known_hosts ~/.ssh/known_hosts2")
	add("GlobalKnownHostsFile", "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2")
	return files
}

// agentSocket is where ssh_config's IdentityAgent, or else SSH_AUTH_SOCK, says
// that an agent listens.
func agentSocket(configured []string, t tokens) string {
	if len(configured) == 0 || configured[0] == "SSH_AUTH_SOCK" {
		return os.Getenv("SSH_AUTH_SOCK")
	}
	switch v := configured[0]; {
	case strings.EqualFold(v, "none"):
		return ""
	case strings.HasPrefix(v, "$"):
		return os.Getenv(strings.Trim(v, "${}"))
	default:
		return expand(v, t)
	}
}

// tokens are what %-letters of ssh_config stand for.
type tokens map[byte]string

// expand resolves a file name of ssh_config: ~ and %-letters.
func expand(name string, t tokens) string {
	if rest, ok := strings.CutPrefix(name, "~"); ok && (rest == "" || rest[0] == '/') {
		if home, err := os.UserHomeDir(); err == nil {
			name = home + rest
		}
	}
	return substitute(name, t)
}

// substitute puts values in the place of %-letters; those it does not know stay.
func substitute(text string, t tokens) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' || i+1 == len(text) {
			b.WriteByte(text[i])
			continue
		}
		i++
		if value, known := t[text[i]]; known {
			b.WriteString(value)
		} else if text[i] == '%' {
			b.WriteByte('%')
		} else {
			b.WriteString(text[i-1 : i+1])
		}
	}
	return b.String()
}

// unmangle puts back the quotes that ssh_config (the library, v1.6.0) takes from
// a value that begins with one quoted word and ends with another. Such a value
// now closes a quote before it opens one.
func unmangle(value string) string {
	i := strings.IndexByte(value, '"')
	if i > 0 && value[i-1] != ' ' && (i+1 == len(value) || value[i+1] == ' ') {
		return `"` + value + `"`
	}
	return value
}

func fileExists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

func loginName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return os.Getenv("USER")
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
