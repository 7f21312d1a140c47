//go:build !linux

package localnet

import "time"

// clock is that on the wall, which goes on while the machine sleeps. When it is
// set forward by much, that looks like sleep, and does no harm.
func clock() time.Duration { return time.Duration(time.Now().UnixNano()) }
