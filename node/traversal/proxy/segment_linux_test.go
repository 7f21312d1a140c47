package proxy

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// segment reads a connection's largest segment back from the kernel.
func segment(t *testing.T, conn net.Conn) int {
	t.Helper()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Error(err)
		return 0
	}
	var size int
	if ctlErr := raw.Control(func(fd uintptr) { size, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG) }); ctlErr != nil || err != nil {
		t.Error(ctlErr, err)
	}
	return size
}

func TestNarrowPathGetsSmallSegmentsBothWays(t *testing.T) {
	for name, c := range map[string]struct {
		narrow func() bool
		small  bool
	}{
		"narrow":      {func() bool { return true }, true},
		"not narrow":  {func() bool { return false }, false},
		"nobody says": {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			far := make(chan int, 1)
			at := serve(t, func(c net.Conn) {
				far <- segment(t, c)
				echo(c)
			})
			f := &Finder{Narrow: c.narrow}
			conn, route, err := f.Dial(t.Context(), at)
			if err != nil || route != "" {
				t.Fatalf("route %q, %v", route, err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			echoes(t, conn)
			for end, size := range map[string]int{"ours": segment(t, conn), "theirs": <-far} {
				if small := size <= narrowSegment; small != c.small {
					t.Errorf("segments of %s have up to %d bytes", end, size)
				}
			}
		})
	}
}
