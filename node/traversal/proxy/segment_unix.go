//go:build unix

package proxy

import "golang.org/x/sys/unix"

// setSegment bounds the segments of a TCP connection, both ways.
func setSegment(fd uintptr, bytes int) error {
	return unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, bytes)
}
