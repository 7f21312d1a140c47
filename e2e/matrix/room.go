package matrix

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

const (
	// cellMemory is what one cell takes while it is held, in bytes: four nodes with
	// their supervisors, four hosts, lab init, SSH clients (measured: 130 MB), and more for
	// its logs and the end of the run.
	cellMemory = 160 << 20
	// spareMemory is left to the rest of the machine.
	spareMemory = 2 << 30
	// unknownRoom is how many cells stand at once where nobody knows the memory.
	unknownRoom = 8
)

// Room is how many of n cells may stand at once: what the free memory allows.
// Processors do not limit it: a cell that is held takes a hundredth of one.
func Room(n int) int {
	free, ok := available("/proc/meminfo")
	if !ok {
		return min(n, unknownRoom)
	}
	return max(1, min(n, int((free-spareMemory)/cellMemory)))
}

// available reads MemAvailable from a file of proc(5)'s /proc/meminfo format.
func available(file string) (bytes int64, ok bool) {
	f, err := os.Open(file)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) < 2 || words[0] != "MemAvailable:" {
			continue
		}
		kb, err := strconv.ParseInt(words[1], 10, 64)
		return kb << 10, err == nil
	}
	return 0, false
}
