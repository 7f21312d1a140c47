//go:build unix

package probe

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// setSegment bounds the segments of a TCP connection, both ways, in bytes.
func setSegment(raw syscall.RawConn, most int) error {
	var err error
	if ctl := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, most) }); ctl != nil {
		return ctl
	}
	return err
}
