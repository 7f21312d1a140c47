package remote

import (
	"errors"
	"fmt"
	"strings"
)

// ErrLost tells that the connection to a machine broke while it was being used.
// What was under way there may or may not have happened; the next call connects
// again.
var ErrLost = errors.New("the SSH connection was lost")

// ErrUnreachable tells that no SSH connection came about: refused, timed out, no
// route, no such name, or somebody there who does not speak SSH.
var ErrUnreachable = errors.New("unreachable")

// UnknownHost is a machine whose key nobody has vouched for.
type UnknownHost struct {
	Target      string   // as it was asked for
	Addr        string   // how known_hosts would name it
	Fingerprint string   // of the key it showed, SHA256:...
	KeyType     string   // of that key
	Files       []string // the known_hosts files that were read
}

func (e *UnknownHost) Error() string {
	return fmt.Sprintf("connect to %s: its host key (%s %s) is in none of %s", e.Target, e.KeyType, e.Fingerprint, list(e.Files))
}

// Hint tells a person what to do about it.
func (e *UnknownHost) Hint() string {
	return fmt.Sprintf("compare that fingerprint with the machine's own, then accept it once by: ssh %s true", e.Target)
}

// ChangedHost is a machine that shows another key than the one that is known of
// it: it was reinstalled, or it is another machine.
type ChangedHost struct {
	Target      string
	Addr        string
	Fingerprint string   // of the key it showed
	KeyType     string   // of that key
	Known       []string // file:line of the keys that were expected
	Revoked     bool     // the key it showed is marked @revoked at Known
}

func (e *ChangedHost) Error() string {
	if e.Revoked {
		return fmt.Sprintf("connect to %s: it shows a host key (%s %s) that is revoked at %s", e.Target, e.KeyType, e.Fingerprint, list(e.Known))
	}
	return fmt.Sprintf("connect to %s: its host key has changed: it shows %s %s, but another one is known at %s", e.Target, e.KeyType, e.Fingerprint, list(e.Known))
}

// Hint tells a person what to do about it.
func (e *ChangedHost) Hint() string {
	return fmt.Sprintf("if the machine was reinstalled, remove the old key by: ssh-keygen -R '%s'", e.Addr)
}

// Refused is a machine that let us speak SSH but not log in. Its text names no
// login: it gets into evidence.
type Refused struct {
	Target string
	User   string
	Tried  []string // the keys that were offered
	Notes  []string // keys that could not be, and why
	Cause  error
}

func (e *Refused) Error() string {
	tried := "no key was offered"
	if len(e.Tried) > 0 {
		tried = "offered " + strings.Join(e.Tried, ", ")
	}
	text := fmt.Sprintf("log in to %s: refused (%s)", e.Target, tried)
	for _, n := range e.Notes {
		text += "; " + n
	}
	return text + fmt.Sprintf(": %v", e.Cause)
}

func (e *Refused) Unwrap() error { return e.Cause }

// Hint tells a person what to do about it.
func (e *Refused) Hint() string {
	return fmt.Sprintf("the suite logs in with keys only, here as %s, from the ssh-agent or the IdentityFile of ssh_config; try: ssh -o BatchMode=yes %s true", e.User, e.Target)
}

// NoSFTP is a machine without a usable SFTP subsystem.
type NoSFTP struct {
	Target string
	Cause  error
}

func (e *NoSFTP) Error() string {
	return fmt.Sprintf("move files to %s: no SFTP there: %v", e.Target, e.Cause)
}

func (e *NoSFTP) Unwrap() error { return e.Cause }

// Hint tells a person what to do about it.
func (e *NoSFTP) Hint() string {
	return "sshd_config there needs a line like 'Subsystem sftp internal-sftp', and the login shell must print nothing by itself; try: sftp " + e.Target
}

// NoSpace is a disk that a file did not fit on.
type NoSpace struct {
	Target string
	Path   string // of the file
	Need   int64  // its size in bytes; -1 when that is not known
	Free   int64  // bytes, before anything of it was written; -1 when the machine does not say
	Cause  error  // may be nil: it was not tried
}

func (e *NoSpace) Error() string {
	free, need := "it has no more", "more"
	if e.Free >= 0 {
		free = megabytes(e.Free) + " free"
	}
	if e.Need >= 0 {
		need = megabytes(e.Need)
	}
	return fmt.Sprintf("write %s on %s: no space: %s needed, %s", e.Path, e.Target, need, free)
}

func (e *NoSpace) Unwrap() error { return e.Cause }

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

func list(words []string) string {
	if len(words) == 0 {
		return "no file at all"
	}
	return strings.Join(words, ", ")
}
