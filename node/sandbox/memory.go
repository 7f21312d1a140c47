package sandbox

import (
	"github.com/tetratelabs/wazero/experimental"
)

// The sizes of WebAssembly's linear memory, in bytes.
const (
	pageBytes      = 64 << 10
	maxMemoryBytes = 1 << 32
)

// memory is the linear memory of one job. Its address range is reserved at
// once, up to the limit, so that growing never copies; the system gives pages
// as they are touched, and takes them back when the job has ended.
//
// wazero frees memory in the middle of an instance's end, and not at all when
// instantiating fails: Free does nothing, and the job calls release.
type memory struct {
	limit   uint64 // bytes
	region  []byte // nil until allocated
	refused bool   // it was asked for more than the limit
	err     error  // why the system gave none
}

func newMemory(limit uint64) *memory {
	return &memory{limit: (limit + pageBytes - 1) / pageBytes * pageBytes}
}

// Allocate implements experimental.MemoryAllocator.
func (m *memory) Allocate(_, most uint64) experimental.LinearMemory {
	if size := min(m.limit, most); size > 0 {
		m.region, m.err = reserve(int(size))
	}
	return m
}

// Reallocate implements experimental.LinearMemory: nil is refused.
func (m *memory) Reallocate(size uint64) []byte {
	if size > uint64(len(m.region)) {
		m.refused = m.refused || size > m.limit
		return nil
	}
	if size == 0 {
		return []byte{}
	}
	return m.region[:size]
}

// Free implements experimental.LinearMemory.
func (m *memory) Free() {}

// release gives the memory back. Nothing may use it from here on.
func (m *memory) release() error {
	if m.region == nil {
		return nil
	}
	region := m.region
	m.region = nil
	return unreserve(region)
}
