package probe

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"syscall"
)

// maxError bounds what others can put into an error, in bytes.
const maxError = 400

// userinfo finds a login in a URL.
var userinfo = regexp.MustCompile(`//[^/@\s]+@`)

// scrub takes out of an error what a report must not tell whoever gets to read it:
// logins, and where somebody's home is. What is left is one printable line.
func scrub(text string) string {
	text = userinfo.ReplaceAllString(text, "//")
	if home, err := os.UserHomeDir(); err == nil && len(home) > 1 {
		text = strings.ReplaceAll(text, home, "~")
	}
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	return strings.ToValidUTF8(text[:min(len(text), maxError)], "")
}

// errnoOf is the name of the system error in err; empty when there is none.
func errnoOf(err error) string {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return ""
	}
	return errnoName(errno)
}
