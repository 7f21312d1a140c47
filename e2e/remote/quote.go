package remote

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// A login shell may be anything (bash, zsh, tcsh, fish), and it may print
// something of its own before it gets to our command. So the command goes to
// /bin/sh, in a form that every shell reads alike, and says a mark and its PID
// first: what stands before the mark is not ours, and the PID is for ending it.
//
//	exec /bin/sh -c 'printf %s:%s, MARK $$; exec WORD...'

// shellCommand is the command line that makes a login shell run argv, and
// nothing else, after printing the mark and the PID.
func shellCommand(mark string, argv []string) string {
	words := make([]string, len(argv))
	for i, w := range argv {
		words[i] = quote(w)
	}
	script := "exec " + strings.Join(words, " ")
	return "exec /bin/sh -c '" + innermost("printf %s:%s, "+mark+" $$; "+script) + "'"
}

// cutMark takes apart what a shellCommand printed. began is false where the mark
// did not come: the command did not run, or not yet.
func cutMark(mark string, out []byte) (pid int, rest []byte, began bool) {
	_, after, found := bytes.Cut(out, []byte(mark+":"))
	number, rest, whole := bytes.Cut(after, []byte(","))
	pid, err := strconv.Atoi(string(number))
	return pid, rest, found && whole && err == nil
}

// innermost is a script in a form that stands between single quotes in any
// shell: as it is where nothing in it is special there (csh takes ! and
// newlines apart, fish takes backslashes), else as octal digits.
func innermost(script string) string {
	if !strings.ContainsAny(script, "'\\!\n\r") {
		return script
	}
	var b strings.Builder
	b.WriteString(`eval "$(printf %b "`)
	for _, c := range []byte(script) {
		if isPlain(c) || c == ' ' {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, `\0%03o`, c)
	}
	b.WriteString(`")"`)
	return b.String()
}

// quote writes a word so that a POSIX shell reads it as it is.
func quote(w string) string {
	if w != "" && strings.IndexFunc(w, func(r rune) bool { return r > 127 || !isPlain(byte(r)) }) < 0 {
		return w
	}
	return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
}

// isPlain tells whether a byte means itself in every shell, wherever it stands.
func isPlain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		strings.IndexByte("/._-:,@+=", c) >= 0
}
