package onhost

import (
	"bytes"
	"io"
	"os"
	"strings"
)

const (
	tailLines = 20
	tailBytes = 8 << 10
)

// tail gives the last lines of a file; nothing of one that cannot be read.
func tail(name string) string {
	f, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return ""
	}
	from := max(0, size-tailBytes)
	end, err := io.ReadAll(io.NewSectionReader(f, from, size-from))
	if err != nil {
		return ""
	}
	if from > 0 { // the first line is cut
		if _, whole, found := bytes.Cut(end, []byte("\n")); found {
			end = whole
		}
	}
	lines := strings.Split(strings.TrimRight(string(end), "\n"), "\n")
	lines = lines[max(0, len(lines)-tailLines):]
	return strings.ToValidUTF8(strings.Join(lines, "\n"), "\uFFFD")
}
