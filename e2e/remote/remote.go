// Package remote is the suite's hand on a machine: it runs commands, moves
// files, and keeps a supervised process alive there, over SSH or on this very
// machine, with one interface for both.
package remote

import (
	"context"
	"io"
)

// Remote is one machine. Implementations are safe for concurrent use.
type Remote interface {
	// Exec runs argv (no shell of ours in between: every word arrives as it
	// is) and returns what it printed. A command that ran and failed is no
	// error: see Result.Code. Cancelling ctx ends the command.
	Exec(ctx context.Context, argv []string, stdin io.Reader) (Result, error)
	// ExecLive is Exec without input, of which stderr is copied to live as it
	// comes. A write error of live is nobody's.
	ExecLive(ctx context.Context, argv []string, live io.Writer) (Result, error)
	// Upload writes a file, atomically, with mode. Missing folders are made, 0700.
	Upload(ctx context.Context, path string, mode uint32, content io.Reader) error
	// ReadFrom reads what a file holds from offset on, at most limit bytes.
	// A missing file is fs.ErrNotExist; an offset at the end gives nothing.
	ReadFrom(ctx context.Context, path string, offset, limit int64) ([]byte, error)
	// Home is the login's home directory there, absolute.
	Home() string
	// HostKey is the fingerprint (SHA256:...) the machine proved, empty for local.
	HostKey() string
	Close() error
}

// Result is how a command ended.
type Result struct {
	Stdout, Stderr []byte
	Code           int    // exit status; -1 when a signal ended it
	Signal         string // without SIG; empty when none
}
