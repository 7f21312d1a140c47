package evidence

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// readTrace reads the trace line by line. After a line that is no event it goes
// on with the next: what a crash or a forger left readable is shown, and the
// problem beside it.
func (r *reading) readTrace(content io.Reader) error {
	lines := bufio.NewReaderSize(io.LimitReader(content, maxTrace+1), readSize)
	prev, size := firstPrev, 0
	var line []byte
	for {
		var err error
		line, err = readLine(lines, line[:0])
		size += len(line)
		switch {
		case size > maxTrace:
			return fmt.Errorf("more than %d bytes: read up to line %d", maxTrace, r.b.Lines)
		case errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("line %d is longer than %d bytes: read up to it", r.b.Lines+1, MaxLine)
		case errors.Is(err, io.EOF):
			r.b.Torn, r.b.Tail = len(line) > 0, bytes.Clone(line)
			return nil
		case err != nil:
			return err
		}
		r.b.Lines++
		r.addLine(line[:len(line)-1], prev)
		prev = hashLine(line[:len(line)-1])
	}
}

const readSize = 64 << 10 // bytes read at once; most lines are shorter

// readLine appends the next line, with its newline, to buf. After MaxLine bytes
// without one it stops, with bufio.ErrBufferFull; at the end of the file it
// gives what there is, with io.EOF.
func readLine(r *bufio.Reader, buf []byte) ([]byte, error) {
	for {
		part, err := r.ReadSlice('\n')
		buf = append(buf, part...)
		switch {
		case len(buf) > MaxLine:
			return buf, bufio.ErrBufferFull
		case !errors.Is(err, bufio.ErrBufferFull):
			return buf, err
		}
	}
}

func (r *reading) addLine(line []byte, prev string) {
	n := r.b.Lines
	e, err := decodeLine(line)
	if err != nil {
		r.problem(TraceFile, "%s:%d: %v", TraceFile, n, err)
		return
	}
	if e.Prev != prev {
		r.problem(TraceFile, "%s:%d: the chain is broken: the line before hashes to %s, and this one follows %s", TraceFile, n, prev, e.Prev)
	}
	if e.Seq != uint64(n) {
		r.problem(TraceFile, "%s:%d: seq is %d", TraceFile, n, e.Seq)
	}
	if !known[e.Name] {
		r.problem(TraceFile, "%s:%d: unknown event %q: the trace is of a newer version", TraceFile, n, e.Name)
	}
	if last := len(r.b.Events) - 1; last >= 0 && r.b.Events[last].Name == RunEnded {
		r.problem(TraceFile, "%s:%d: the trace goes on after %s", TraceFile, n, RunEnded)
	}
	r.b.Events = append(r.b.Events, e)
}
