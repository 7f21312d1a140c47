package proxy

import (
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// credentialsFile is the variable that has the path of the credentials, where
// Finder.Credentials has none.
const credentialsFile = "WCE2E_PROXY_CREDENTIALS"

// login is who we are to a proxy. However it is printed, nothing shows.
type login struct{ user, password string }

func (l login) empty() bool { return l == login{} }

// Format is the same for every verb.
func (l login) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "(credentials)") }

func (l login) basic() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(l.user+":"+l.password))
}

// credentials are those that the file has for a proxy; empty when it has none.
// It is read each time, so that a person can mend it meanwhile.
func (f *Finder) credentials(s server) login {
	path := f.Credentials
	if path == "" {
		path = f.getenv(credentialsFile)
	}
	if path == "" {
		return login{}
	}
	text, err := f.readPrivate(path)
	if err != nil {
		f.warn("the proxy credentials cannot be read", "err", err.Error())
		return login{}
	}
	entries, err := parseCredentials(text)
	if err != nil {
		f.warn("there is a mistake in the proxy credentials", "file", path, "err", err.Error())
	}
	return choose(entries, s)
}

// maxCredentials bounds the file, in bytes.
const maxCredentials = 64 << 10

func (f *Finder) readPrivate(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		f.warn("others can read the proxy credentials: chmod 600 would keep them out", "file", path, "mode", fs.FormatFileInfo(info)[:10])
	}
	text, err := io.ReadAll(io.LimitReader(file, maxCredentials))
	return string(text), err
}

// entry is a line of the credentials.
type entry struct {
	host  string // or host:port; empty: any proxy that a person named
	login login
}

// parseCredentials reads the lines "user:password", "* user:password" (the
// same, but there may be spaces in it) and "host user:password"; empty ones and
// those that begin with # mean nothing. Lines that cannot be read are left out,
// and the first of them is the error, by its number alone.
func parseCredentials(text string) ([]entry, error) {
	var out []entry
	var mistake error
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		host, rest, found := strings.Cut(line, " ")
		if !found {
			host, rest = "", line
		}
		user, password, ok := strings.Cut(strings.TrimSpace(rest), ":")
		if !ok || user == "" {
			if mistake == nil {
				mistake = fmt.Errorf("line %d is neither user:password nor host user:password", n)
			}
			continue
		}
		out = append(out, entry{host: strings.TrimPrefix(strings.ToLower(host), "*"), login: login{user, password}})
	}
	return out, mistake
}

// choose takes the entry that names the proxy, or else one for any. A proxy that
// the network announced, and anybody may be behind, gets only what names it.
func choose(entries []entry, s server) login {
	address, host := strings.ToLower(s.address), strings.ToLower(s.host())
	for _, e := range entries {
		if e.host == address || e.host == host {
			return e.login
		}
	}
	for _, e := range entries {
		if e.host == "" && s.named {
			return e.login
		}
	}
	return login{}
}
