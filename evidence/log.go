package evidence

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

// DefaultLogBudget is what one host's log may take of a bundle, in bytes of
// text. Gzip makes a tenth of it, so that ten hosts stay below 5 MB.
const DefaultLogBudget = 4 << 20

const (
	logFolder = "logs/"
	logSuffix = ".log.gz"
)

// logName is the file of a host's log in a bundle.
func logName(host string) string { return logFolder + host + logSuffix }

// logHost is the reverse of logName; ok is false for any other file.
func logHost(name string) (host string, ok bool) {
	host, gz := strings.CutSuffix(name, logSuffix)
	host, in := strings.CutPrefix(host, logFolder)
	return host, gz && in && plainName(host)
}

// WriteLog writes logs/<host>.log.gz from text and tells what came: the hash
// and the size of all of it, however much is kept. When text is longer than
// budget bytes (0 means DefaultLogBudget), its head and its tail are kept, whole
// lines, with a line between them that says what is left out: a log's beginning
// tells what was started, its end how it ended. When text fails, what came
// before is kept all the same, and the error is returned with it.
func (w *Writer) WriteLog(host string, text io.Reader, budget int64) (LogFile, error) {
	if !plainName(host) {
		return LogFile{}, fmt.Errorf("write log of %q: not a host's name", host)
	}
	if budget <= 0 {
		budget = DefaultLogBudget
	}
	cut := newHeadTail(budget)
	hash := sha256.New()
	size, readErr := io.Copy(io.MultiWriter(hash, cut), text)
	kept, n := cut.text()
	f := LogFile{File: logName(host), SHA256: hex.EncodeToString(hash.Sum(nil)), Size: size, Kept: n}
	packed, err := pack(kept)
	if err == nil {
		err = w.WriteFile(f.File, packed)
	}
	if err = errors.Join(readErr, err); err != nil {
		return f, fmt.Errorf("write log of %s: %w", host, err)
	}
	return f, nil
}

// pack gzips. The header says no time, no name and no system: the same text
// gives the same bytes.
func pack(text []byte) ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(text); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// headTail keeps the first and the last half of budget of what is written to it.
type headTail struct {
	half int64
	head []byte
	tail []byte // a ring once it is full; next is where it goes on
	next int
	size int64
}

func newHeadTail(budget int64) *headTail { return &headTail{half: max(budget/2, 1)} }

func (h *headTail) Write(p []byte) (int, error) {
	n := len(p)
	h.size += int64(n)
	if room := h.half - int64(len(h.head)); room > 0 {
		take := min(int64(len(p)), room)
		h.head = append(h.head, p[:take]...)
		p = p[take:]
	}
	for len(p) > 0 {
		if room := h.half - int64(len(h.tail)); room > 0 {
			take := min(int64(len(p)), room)
			h.tail = append(h.tail, p[:take]...)
			p = p[take:]
			continue
		}
		c := copy(h.tail[h.next:], p)
		h.next = (h.next + c) % len(h.tail)
		p = p[c:]
	}
	return n, nil
}

// text gives what is kept, and how many bytes of the original that is.
func (h *headTail) text() (kept []byte, n int64) {
	tail := append(h.tail[h.next:len(h.tail):len(h.tail)], h.tail[:h.next]...)
	whole := int64(len(h.head) + len(tail))
	if whole == h.size {
		return append(h.head, tail...), whole
	}
	head := h.head[:bytes.LastIndexByte(h.head, '\n')+1]
	tail = tail[bytes.IndexByte(tail, '\n')+1:]
	n = int64(len(head) + len(tail))
	mark := fmt.Sprintf("--- %d of %d bytes are left out here: the log was longer than its share of the bundle ---\n", h.size-n, h.size)
	return append(append(append(kept, head...), mark...), tail...), n
}
