package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"unicode"
)

// maxComplaint is how much of a module's standard error is kept, in bytes. It
// is a help to the submitter, not an output.
const maxComplaint = 1 << 10

// output takes a module's standard output up to a limit, and ends the module
// there.
type output struct {
	bytes.Buffer
	limit int // bytes
	stop  context.CancelCauseFunc
	err   error // that it was too much; a module may go on regardless
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	if o.Len()+len(p) > o.limit {
		o.err = fmt.Errorf("%w: more than %d bytes", errOutput, o.limit)
		o.stop(o.err)
		return 0, o.err
	}
	return o.Buffer.Write(p)
}

// complaint keeps the beginning of a module's standard error.
type complaint struct{ kept []byte }

// Write implements io.Writer.
func (c *complaint) Write(p []byte) (int, error) {
	c.kept = append(c.kept, p[:min(len(p), maxComplaint-len(c.kept))]...)
	return len(p), nil
}

// suffix is what the module said, to be put behind an error; empty when it said nothing.
func (c *complaint) suffix() string {
	said := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(c.kept), "?"))
	if said = strings.TrimSpace(said); said == "" {
		return ""
	}
	return "; it said: " + said
}
