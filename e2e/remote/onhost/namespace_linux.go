package onhost

import (
	"fmt"
	"os"
)

// sameNamespace tells whether a process lives in our PID namespace. Those of a
// container, or of a lab, are visible from here, but they are on another host.
func sameNamespace(pid int) bool {
	ours, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return true
	}
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	return err != nil || ours == theirs
}
