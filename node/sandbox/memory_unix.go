//go:build unix

package sandbox

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// reserve maps zeroed memory of that many bytes, which costs nothing until touched.
func reserve(size int) ([]byte, error) {
	region, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("reserve %d bytes of memory: %w", size, err)
	}
	return region, nil
}

func unreserve(region []byte) error { return unix.Munmap(region) }
