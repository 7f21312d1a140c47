package sandbox

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

var errShort = errors.New("unexpected end")

// reader walks the binary format of WebAssembly. Its first error sticks, and
// from there on everything reads as zero, so that callers check once.
type reader struct {
	data []byte // what is left
	err  error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
	r.data = nil
}

func (r *reader) byte() byte {
	if b := r.take(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

// take takes n bytes; none after an error.
func (r *reader) take(n uint32) []byte {
	if r.err != nil || uint64(n) > uint64(len(r.data)) {
		r.fail("%w", errShort)
		return nil
	}
	b := r.data[:n]
	r.data = r.data[n:]
	return b
}

// u32 reads an unsigned LEB128 of 32 bits.
func (r *reader) u32() uint32 {
	var v uint64
	for shift := 0; shift < 35; shift += 7 {
		b := r.byte()
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			if v > 1<<32-1 {
				break
			}
			return uint32(v)
		}
	}
	r.fail("integer over 32 bits")
	return 0
}

// skipInt skips a LEB128 of at most that many bytes.
func (r *reader) skipInt(most int) {
	for range most {
		if r.byte() < 0x80 {
			return
		}
	}
	r.fail("integer too long")
}

// count reads the length of a vector whose elements take at least one byte
// each. Compilers allocate by this number before they read the elements.
func (r *reader) count(most int, of string) int {
	n := r.u32()
	switch {
	case uint64(n) > uint64(len(r.data)):
		r.fail("%d %s: %w", n, of, errShort)
		return 0
	case n > uint32(most):
		r.fail("%d %s, at most %d are taken", n, of, most)
		return 0
	}
	return int(n)
}

func (r *reader) name() string {
	b := r.take(r.u32())
	if !utf8.Valid(b) {
		r.fail("a name is not UTF-8")
		return ""
	}
	return string(b)
}

// done tells the sticky error, or that something is left.
func (r *reader) done() error {
	if r.err == nil && len(r.data) > 0 {
		return fmt.Errorf("%d bytes too many", len(r.data))
	}
	return r.err
}
