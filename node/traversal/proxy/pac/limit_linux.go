package pac

import "golang.org/x/sys/unix"

// limitMemory bounds this process's memory. Reserved address space does not
// count, of which Go takes a lot.
func limitMemory(bytes uint64) error {
	return unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: bytes, Max: bytes})
}
