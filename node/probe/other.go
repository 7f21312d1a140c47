//go:build !unix

package probe

import (
	"errors"
	"syscall"
)

func errnoName(errno syscall.Errno) string { return errno.Error() }

func setSegment(syscall.RawConn, int) error { return errors.ErrUnsupported }
