//go:build linux

package lab

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// wireCarriesUDPSegments tells whether packet sockets hand over UDP that was
// sent in segments (UDP_SEGMENT, which QUIC uses), which they do since Linux
// 6.2. On older kernels links take no segments at all, at some cost in speed.
var wireCarriesUDPSegments = sync.OnceValue(func() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	return atLeast(unix.ByteSliceToString(u.Release[:]), 6, 2)
})

// atLeast compares a kernel release such as 6.1.0-18-amd64.
func atLeast(release string, major, minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(release, "%d.%d", &a, &b); n != 2 {
		return false
	}
	return a > major || a == major && b >= minor
}
