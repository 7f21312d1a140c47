package evidence

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

// secret is a shape that must not be in a bundle.
type secret struct {
	what  string
	hints []string // one of them is in every match: most lines are ruled out without the pattern
	re    *regexp.Regexp
	into  string // what Scrubber writes instead; $1 is what stood beside the secret
}

// In a class of what a secret is made of, quotes and backslashes are left out
// throughout: a replacement inside a JSON string leaves a JSON string.
var secrets = []secret{
	{"a private key", []string{"PRIVATE KEY"}, // PEM and OpenSSH; newlines may be JSON's \n
		regexp.MustCompile(`()-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----([A-Za-z0-9+/=\s:,]|-[A-Za-z0-9]|\\[nrt])*(-----END [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----)?`), "${1}[private key]"},
	{"a libp2p private key", []string{"CAES", "CAIS", "CAAS"},
		// The protobuf {1: key type, 2: key} in base64: Ed25519 of 64 or 96
		// bytes, secp256k1 of 32, RSA above the length that a public key has.
		regexp.MustCompile(`(^|[^A-Za-z0-9+/])(?:CAES[QY][A-P][A-Za-z0-9+/]{80,}|CAISI[A-P][A-Za-z0-9+/]{40,}|CAAS[A-Za-z0-9+/]{1000,})={0,2}`), "${1}[private key]"},
	{"credentials of an HTTP header", []string{"uthorization", "UTHORIZATION"},
		regexp.MustCompile(`(?i)(authorization\\?["']?\s*[:=]\s*\\?["']?)(?:basic|bearer|digest|negotiate|ntlm|token)\s+[A-Za-z0-9+/=._~-]{4,}`), "${1}[credentials]"},
	{"a password in a URL", []string{"://"},
		regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^\s/:@"'<>\\\[\]]*:[^\s/@"'<>\\\[\]]+@`), "${1}[credentials]@"},
	{"a password", []string{"assword", "ASSWORD", "asswd", "ASSWD", "assphrase", "ASSPHRASE"},
		regexp.MustCompile(`(?i)(\b(?:password|passwd|passphrase)(?:=|\\?["']\s*[:=]\s*\\?["']))[^\s"'\\\[\]]{3,}`), "${1}[password]"},
	{"an AWS key", []string{"AKIA", "ASIA"},
		regexp.MustCompile(`()\b(?:AKIA|ASIA)[A-Z0-9]{16}\b`), "${1}[key]"},
	{"a GitHub token", []string{"ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"},
		regexp.MustCompile(`()\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})`), "${1}[token]"},
	{"a JSON web token", []string{"eyJ"},
		regexp.MustCompile(`()\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}`), "${1}[token]"},
	{"a home directory", []string{"/home/", "/Users/"},
		regexp.MustCompile(`(^|[^A-Za-z0-9_~/.-]|file://|\\[nrt])(?:/(?:var|export|usr))?/(?:home|Users)/[A-Za-z0-9_][A-Za-z0-9_.@-]*`), "${1}~"},
	{"a home directory", []string{"/root"},
		regexp.MustCompile(`(^|[^A-Za-z0-9_~/.-]|file://|\\[nrt])/root\b`), "${1}~"},
	{"a home directory", []string{`:\`},
		regexp.MustCompile(`(?i)(^|[^A-Za-z0-9_])[A-Z]:\\{1,2}Users\\{1,2}[A-Za-z0-9_][A-Za-z0-9_.@-]*`), "${1}~"},
}

func (s secret) in(line []byte) bool {
	for _, h := range s.hints {
		if bytes.Contains(line, []byte(h)) {
			return s.re.Match(line)
		}
	}
	return false
}

// homes are the shapes of home directories that no pattern knows, the longest
// first: one may lie in another. One that is a single letter, or the root, is
// left out: it would be found all over a text.
func homes(dirs []string) []secret {
	var list []secret
	for _, dir := range slices.SortedFunc(slices.Values(dirs), longest) {
		if dir = strings.TrimRight(dir, "/"); len(dir) > 1 {
			re := regexp.MustCompile(regexp.QuoteMeta(dir) + `(/|[^A-Za-z0-9_.-]|$)`)
			list = append(list, secret{"a home directory", []string{dir}, re, "~$1"})
		}
	}
	return list
}

func longest(a, b string) int { return cmp.Compare(len(b), len(a)) }

// maxLeaks bounds what ScanSecrets tells of one file.
const maxLeaks = 20

// ScanSecrets looks through every file of the bundle in dir, unpacked where it
// is gzipped, for what must not be published: private keys, passwords, tokens,
// credentials of proxies, home directories. It tells where, as "file:line: a
// private key", and never what. Nothing found: nil. It knows shapes, not
// meanings; that a value is secret only because of where it came from, only its
// source can know (Scrubber.Secrets).
func ScanSecrets(dir string) (leaks []string, err error) { return scanDir(dir, secrets) }

// ScanSecrets is the package's ScanSecrets for the bundle being written, or
// sealed. It finds as well what Hide has named.
func (w *Writer) ScanSecrets() (leaks []string, err error) {
	w.mu.Lock()
	hidden := homes(w.scrub.Homes)
	w.mu.Unlock()
	return scanDir(w.dir, slices.Concat(secrets, hidden))
}

func scanDir(dir string, shapes []secret) (leaks []string, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("scan for secrets: %w", err)
	}
	defer root.Close()
	names, _, err := listFiles(root)
	if err != nil {
		return nil, fmt.Errorf("scan %s for secrets: %w", dir, err)
	}
	for _, name := range names {
		found, err := scanFile(root, name, shapes)
		if err != nil {
			return leaks, fmt.Errorf("scan %s for secrets: %w", name, err)
		}
		leaks = append(leaks, found...)
	}
	return leaks, nil
}

func scanFile(root *os.Root, name string, shapes []secret) ([]string, error) {
	f, err := openBounded(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if !strings.HasSuffix(name, ".gz") {
		return scan(name, f, shapes)
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	return scan(name, io.LimitReader(z, maxLogText), shapes)
}

func scan(name string, r io.Reader, shapes []secret) (leaks []string, err error) {
	lines := bufio.NewReaderSize(r, readSize)
	var line []byte
	for n := 1; ; {
		line, err = readLine(lines, line[:0]) // one longer than MaxLine is looked at in parts
		for _, s := range shapes {
			if len(line) > 0 && s.in(line) {
				leaks = append(leaks, fmt.Sprintf("%s:%d: %s", name, n, s.what))
			}
		}
		switch {
		case len(leaks) >= maxLeaks:
			return append(leaks, name+": and maybe more"), nil
		case err == nil:
			n++
		case err == io.EOF:
			return leaks, nil
		case err != bufio.ErrBufferFull:
			return leaks, err
		}
	}
}
