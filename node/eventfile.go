package node

import (
	"errors"
	"fmt"
	"os"
)

// maxEvents is how long events.jsonl gets before it becomes events.jsonl.1, in
// bytes: ten days of a donor that holds a reservation and does nothing else. Whoever follows the file by its offset (the suite does) loses its place
// then; an acceptance run makes less than a tenth of it.
const maxEvents = 64 << 20

// eventFile is events.jsonl, with one older file beside it. It is not safe for
// concurrent use.
type eventFile struct {
	path string
	most int64 // bytes
	f    *os.File
	size int64
}

// openEvents opens the file to append to. A line that a crash has cut short is
// ended.
func openEvents(path string, most int64) (*eventFile, error) {
	e := &eventFile{path: path, most: most}
	if err := e.open(); err != nil {
		return nil, fmt.Errorf("open events: %w", err)
	}
	last := make([]byte, 1)
	if e.size == 0 {
		return e, nil
	}
	_, err := e.f.ReadAt(last, e.size-1)
	if err == nil && last[0] != '\n' {
		_, err = e.Write([]byte("\n"))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open events: %w", err), e.f.Close())
	}
	return e, nil
}

func (e *eventFile) open() error {
	f, err := os.OpenFile(e.path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	e.f, e.size = f, info.Size()
	return nil
}

// Write writes one line, all of it or, where the file system allows, nothing.
func (e *eventFile) Write(line []byte) (int, error) {
	if e.size > 0 && e.size+int64(len(line)) > e.most {
		e.rotate()
	}
	n, err := e.f.Write(line)
	if err != nil && n > 0 && e.f.Truncate(e.size) == nil {
		n = 0
	}
	e.size += int64(n)
	return n, err
}

// rotate begins a new file. Where that is not possible the old one goes on: too
// many events are better than none.
func (e *eventFile) rotate() {
	old := e.f
	if err := os.Rename(e.path, e.path+".1"); err != nil {
		return
	}
	if err := e.open(); err != nil {
		_ = os.Rename(e.path+".1", e.path) // else the old one has the new name
		return
	}
	_ = old.Close() // all was written
}

func (e *eventFile) Close() error { return e.f.Close() }
