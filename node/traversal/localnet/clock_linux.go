package localnet

import (
	"time"

	"golang.org/x/sys/unix"
)

// clock counts the time that the machine sleeps, too, and nobody sets it.
func clock() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return time.Duration(time.Now().UnixNano()) // a kernel before 2.6.39
	}
	return time.Duration(t.Nano())
}
